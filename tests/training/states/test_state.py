"""Whatever happens to a run or to its disk, a whole state is there and is found."""

import errno
import json
import os
import random
import re
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor, nn

from mask2former.training.states.saving import StateWriter
from mask2former.training.states.state import (
    BEFORE,
    FORMAT,
    LAST,
    ORIGIN,
    PREVIOUS,
    BrokenStateError,
    StateFiles,
    check_fits,
    read_step,
    write_state,
)
from mask2former.types import Classes

CLASSES = Classes(("sky", "road"), (1, 2), (False, False))


def state_of(step: int, module: nn.Module | None = None) -> dict:
    generator = torch.Generator().manual_seed(step)
    weights = {"weight": torch.randn(6, 5, generator=generator)}
    return {
        "global_step": step,
        "state_dict": weights if module is None else module.state_dict(),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(40, generator=generator)}}}],
        ORIGIN: {"format": FORMAT, "version": "0.1.0", "classes": ["sky", "road"]},
    }


def saved(files: StateFiles, *steps: int) -> StateFiles:
    for step in steps:
        assert files.save(partial(write_state, state_of(step)), step)
    return files


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def damage(path: Path) -> None:
    """One bit of a tensor."""
    content = bytearray(path.read_bytes())
    [at] = [m.start() for m in re.finditer(re.escape(tensor_bytes(path)), bytes(content))]
    content[at] ^= 1
    path.write_bytes(content)


def tensor_bytes(path: Path) -> bytes:
    state = torch.load(path, weights_only=True)
    return state["state_dict"]["weight"].numpy().tobytes()


def same(a: object, b: object) -> bool:
    """Equal to the last bit, whatever they are made of."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_the_two_newest_states_are_kept(tmp_path: Path) -> None:
    files = StateFiles(tmp_path / "checkpoints")
    assert files.is_empty
    saved(files, 2, 4, 6)
    assert not files.is_empty
    assert names_in(files.folder) == {LAST, PREVIOUS}
    assert read_step(files.folder / PREVIOUS) == 4
    assert StateFiles(files.folder).newest_good() == (files.last, 6)


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing to resume in .*: no state was saved in"):
        StateFiles(tmp_path / "run/checkpoints").newest_good()


@pytest.mark.parametrize("how", ["bit", "cut", "empty", "text"])
def test_a_broken_state_is_passed_over_with_a_warning(tmp_path: Path, caplog, how: str) -> None:
    files = saved(StateFiles(tmp_path), 2, 4)
    content = files.last.read_bytes()
    if how == "bit":
        damage(files.last)
        assert torch.load(files.last, weights_only=True)  # PyTorch does not notice
    else:
        files.last.write_bytes({"cut": content[:-100], "empty": b"", "text": b"state"}[how])
    assert files.newest_good() == (tmp_path / PREVIOUS, 2)
    [message] = caplog.messages
    assert message.startswith(f"{files.last} is broken (")
    assert message.endswith(f"); the run goes on from step 2, saved in {tmp_path / PREVIOUS}")
    saved(files, 6)
    assert files.newest_good() == (files.last, 6)


def test_without_a_whole_state_each_is_named(tmp_path: Path) -> None:
    files = saved(StateFiles(tmp_path / "checkpoints"), 2, 4)
    damage(files.last)
    damage(files.folder / PREVIOUS)
    message = rf"{LAST} is broken \(the checksum of .* is wrong\); .*{PREVIOUS} is broken .*start a"
    with pytest.raises(ValueError, match=message):
        files.newest_good()


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    draw = random.Random(0)
    path = tmp_path / "state"
    write_state(state_of(3), path)
    whole, content = torch.load(path, weights_only=True), path.read_bytes()
    noticed = 0
    for _ in range(600):
        damaged = bytearray(content)
        match draw.randrange(4):
            case 0:
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
            case 1:
                del damaged[draw.randrange(len(damaged)) :]
            case 2:  # a block that never reached the disk
                start = draw.randrange(len(damaged))
                stop = min(len(damaged), start + draw.choice([1, 16, 512]))
                damaged[start:stop] = bytes(stop - start)
            case 3:
                start = draw.randrange(len(damaged))
                del damaged[start : start + draw.randrange(1, 64)]
        path.write_bytes(damaged)
        try:
            assert read_step(path) == 3
        except BrokenStateError:
            noticed += 1
        else:  # padding, or a field that nobody reads
            assert same(torch.load(path, weights_only=True), whole)
    assert noticed > 300


def test_the_step_is_read_from_a_state_with_nothing_but_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_state({**state_of(1), "callbacks": {"log": Path("/")}}, path)
    with pytest.raises(BrokenStateError, match="Weights only load failed"):
        read_step(path)


@pytest.mark.parametrize("origin", [{}, {"format": FORMAT + 1, "version": "9.9"}])
def test_a_state_of_another_version_is_refused_and_not_passed_over(tmp_path, origin) -> None:
    files = saved(StateFiles(tmp_path), 2)
    files.save(partial(write_state, {**state_of(4), ORIGIN: origin}), 4)
    version = origin.get("version")
    message = rf"was saved by another version of this package \({version}, .*install that version"
    with pytest.raises(ValueError, match=message):
        files.newest_good()


def test_a_state_of_another_model_or_of_other_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_state(state_of(1, nn.Linear(3, 2)), path)
    check_fits(path, nn.Linear(3, 2), CLASSES)
    message = r"1 of its tensors differ .*such as weight: \(2, 3\) in the state, \(2, 4\) here"
    with pytest.raises(ValueError, match=message):
        check_fits(path, nn.Linear(4, 2), CLASSES)
    with pytest.raises(ValueError, match=r"such as bias: \(2,\) in the state, none here"):
        check_fits(path, nn.Linear(3, 2, bias=False), CLASSES)
    others = Classes(("road", "sky"), (1, 2), (False, False))
    with pytest.raises(ValueError, match=r"2 classes \(sky, road\), the data have 2 \(road, sky\)"):
        check_fits(path, nn.Linear(3, 2), others)


def test_lightning_writes_and_reads_through_the_files(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    writer: CheckpointIO = StateWriter(files, CLASSES)
    state = {name: value for name, value in state_of(5).items() if name != ORIGIN}
    writer.save_checkpoint(state, files.last)
    assert files.newest_good() == (files.last, 5)
    read = writer.load_checkpoint(files.last)
    assert read.pop(ORIGIN)["classes"] == ["sky", "road"]
    assert same(read, state)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_disk_is_told_each_time_and_the_run_goes_on(tmp_path, caplog, number) -> None:
    files = StateFiles(tmp_path)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    assert not files.save(fail, 1)
    assert "nothing was saved before" in caplog.messages[-1]
    saved(files, 2)
    assert not files.save(fail, 3)
    assert not files.save(fail, 4)
    reason = "Input/output error" if number == errno.EIO else "the disk is full"
    assert caplog.messages[-1] == (
        f"the state of step 4 cannot be saved to {files.last}: {reason}; the last good state is "
        "that of step 2; the run goes on and tries again at the next save"
    )
    assert len(caplog.messages) == 3
    assert names_in(tmp_path) == {LAST}
    assert files.newest_good() == (files.last, 2)
    saved(files, 5)
    assert names_in(tmp_path) == {LAST, PREVIOUS}


def test_a_file_that_may_not_grow_leaves_the_state_before_it(tmp_path: Path, caplog) -> None:
    files = saved(StateFiles(tmp_path), 1)
    large = {**state_of(2), "large": torch.zeros(100_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        assert not files.save(partial(write_state, large), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large; the last good state is that of step 1" in caplog.messages[0]
    assert files.newest_good() == (files.last, 1)
    assert names_in(tmp_path) == {LAST}


@pytest.mark.parametrize("renaming", [0, 1, 2])
def test_a_failing_renaming_leaves_a_whole_state(tmp_path, monkeypatch, renaming) -> None:
    files = saved(StateFiles(tmp_path), 1, 2)
    calls = iter(range(3))
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if next(calls) == renaming:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        assert not files.save(partial(write_state, state_of(3)), 3)
    assert StateFiles(tmp_path).newest_good().step == (3 if renaming == 2 else 2)
    saved(files, 4)
    assert names_in(tmp_path) == {LAST, PREVIOUS}
    assert files.newest_good().step == 4


# Forks once for every line of the module that a save runs through, and is killed there.
KILLED_AT_EVERY_LINE = """
import json, os, shutil, signal, sys
from functools import partial
from pathlib import Path
import mask2former.training.states.state as state_module
from mask2former.training.states.state import FORMAT, ORIGIN, StateFiles, write_state

folder, *templates = map(Path, sys.argv[1:])
os.fsync = lambda _: None  # slow, and of no use against a kill
NEW = {"global_step": 9, ORIGIN: {"format": FORMAT}}

def write(path):
    path.write_bytes(b"half a state")
    write_state(NEW, path)

def save(killed_at):
    passed = 0
    def trace(frame, event, argument):
        nonlocal passed
        if frame.f_code.co_filename not in (state_module.__file__, __file__):
            return None
        if event == "line":
            passed += 1
            if passed == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    StateFiles(folder).save(write, 9)

def kill_everywhere(template):
    steps, after = [], []
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        child = os.fork()
        if child == 0:
            save(len(steps) + 1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        try:
            steps.append(StateFiles(folder).newest_good().step)
        except FileNotFoundError:
            steps.append(None)
        if os.WIFEXITED(status):
            return steps, after
        StateFiles(folder).save(partial(write_state, {**NEW, "global_step": 10}), 10)
        after.append([StateFiles(folder).newest_good().step, sorted(os.listdir(folder))])

print(json.dumps({path.name: kill_everywhere(path) for path in templates}))
"""


def leave_states(folder: Path) -> dict[str, int | None]:
    """What a save may find: step of the newest whole state by name of the folder."""
    (folder / "nothing").mkdir(parents=True)
    saved(StateFiles(folder / "one"), 1)
    saved(StateFiles(folder / "two"), 1, 2)
    damage(saved(StateFiles(folder / "broken"), 1, 2).last)
    between = saved(StateFiles(folder / "killed between the first two renamings"), 1, 2)
    between.last.rename(between.folder / BEFORE)
    three = saved(StateFiles(folder / "killed before the last renaming"), 1, 2).folder
    (three / PREVIOUS).rename(three / BEFORE)
    write_state(state_of(0), three / PREVIOUS)
    newest = {"nothing": None, "one": 1, "two": 2, "broken": 1}
    return newest | {between.folder.name: 2, three.name: 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
@pytest.mark.runs
def test_a_kill_at_any_line_of_a_save_leaves_a_whole_state(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED_AT_EVERY_LINE)
    newest = leave_states(tmp_path / "before")
    words = [sys.executable, script, tmp_path / "now", *(tmp_path / "before" / n for n in newest)]
    result = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    for name, (steps, after) in found.items():
        assert len(steps) > 20, name
        is_new = [step == 9 for step in steps]
        assert is_new == sorted(is_new), "from some line on the new state counts"
        assert set(steps) == {newest[name], 9}, name
        assert all(step == 10 for step, _ in after), name
        assert all(set(names) <= {LAST, PREVIOUS} for _, names in after), name
