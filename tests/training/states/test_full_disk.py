"""A run goes on where the disk is full, and says what is missing."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mask2former.config import Run
from mask2former.config_io import read_run
from mask2former.data.synthetic import write_synthetic
from mask2former.presets import find_preset
from mask2former.training.log.log_file import LogFile
from mask2former.training.log.loggers import RunLoggers
from mask2former.training.log.metrics_file import MetricsFile, read_entries
from mask2former.training.states.dispensable import Dispensable
from mask2former.training.states.state import StateFiles
from mask2former.training.states.weights_files import WeightsFiles
from mask2former.training.train import train as resume
from mask2former.types import Classes
from mask2former.weights.native import save_tensors
from mask2former.weights.open import read

CLASSES = Classes(("sky", "road"), (1, 2), (False, False))
SMALL_DISK = 300_000_000
"""Bytes: room for the states and weights of a tiny run, and soon filled."""
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

# A run whose disk becomes full after a step, and is as before after another one. Full is either a
# file system of its own, which another file fills, or a limit at which no file may grow.
RUN = """
import errno, os, resource, sys
from pathlib import Path
from mask2former.cli import main as cli
from mask2former.training.module import TrainingModule

how, full_after, free_after, *words = sys.argv[1:]
filler = Path("filler")
step = TrainingModule.training_step

def fill():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        return
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC

def free():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    else:
        filler.unlink()

def step_on_a_full_disk(self, batch, batch_idx):
    if self.global_step == int(full_after):
        fill()
    if self.global_step == int(free_after):
        free()
    return step(self, batch, batch_idx)

TrainingModule.training_step = step_on_a_full_disk
if full_after == "-1":
    fill()
sys.exit(cli.main(words))
"""
SETTINGS = {
    "data.augmentation": "{crop: [64, 64], short_sides: [64, 80]}",
    "data.test_size.short_side": 64,
    "model.decoder_layers": 2,
    "model.encoder_layers": 1,
    "model.num_queries": 8,
    "loss.num_points": 64,
    "training.eval_every": 2,
    "training.log_every": 1,
    "training.loggers": "[csv, tensorboard]",
}
SHORT_LINES = (
    "run/metrics.jsonl cannot be written to",
    "csv cannot be written",
    "tensorboard failed and gets nothing more of this run",
    "run/log.txt cannot be written to",
)
STEPS = 6
NEVER = 100


def has_own_disks() -> bool:
    """Whether a process may mount a file system that it alone sees."""
    if shutil.which("unshare") is None:
        return False
    words = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=100k none /tmp"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


KINDS = [
    pytest.param(
        "disk",
        marks=pytest.mark.skipif(not has_own_disks(), reason="no file system of its own"),
    ),
    "limit",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=4, val_images=2, size=(64, 80), seed=0)
    return folder


def train(
    folder: Path, data: Path, how: str, full_after: int, free_after: int = NEVER
) -> subprocess.CompletedProcess[str]:
    """Train in `<folder>/run`, and leave what a disk of its own held there."""
    script = folder.parent / "script.py"
    script.write_text(RUN, encoding="utf-8")
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    sizes = ["--batch", "2", "--steps", str(STEPS), "--device", "cpu", "--output", "run"]
    words = ["train", "--data", str(data), "--preset", "tiny", "--task", "panoptic", *sizes]
    command = [sys.executable, str(script), how, str(full_after), str(free_after)]
    command += [*words, *settings]
    folder.mkdir(exist_ok=True)
    if how == "disk":
        kept = folder.with_name("kept")
        mount = f'mkdir -p "$0" && mount -t tmpfs -o size={SMALL_DISK} none "$0" && cd "$0"'
        run = f'{mount}; "$@"; code=$?; rm -f filler; cp -r . "{kept}"; exit $code'
        command = ["unshare", "-Urm", "sh", "-c", run, str(folder), *command]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if how == "disk":
        kept.rename(folder / "kept")
        for path in (folder / "kept").iterdir():
            path.rename(folder / path.name)
    return done


def unfinished_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".unfinished")]


@pytest.mark.runs
@pytest.mark.parametrize("how", KINDS)
def test_a_run_outlives_a_disk_that_was_full_for_a_while(tmp_path, data, how: str) -> None:
    done = train(tmp_path / "disk", data, how, full_after=1, free_after=4)
    output = tmp_path / "disk/run"
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    for missing in (
        "the weights of step 2 cannot be written to run/weights/last.safetensors",
        "the state of step 2 cannot be saved",
        "metrics in metrics.json cannot be written (run/metrics.json)",
        "pictures of predictions cannot be written",
        # a disk that is full still takes what fits into the last block of a file
        *(SHORT_LINES if how == "limit" else ()),
    ):
        told = [line for line in warnings if missing in line]
        assert told, (missing, done.stderr)
        assert len(told) == 1 or missing.startswith("the state"), told
    assert read(output / "weights/last.safetensors").weights
    assert StateFiles(output / "checkpoints").newest_good().step == STEPS
    assert [e["step"] for e in read_entries(output / "metrics.jsonl") if "loss" in e][-2:] == [5, 6]
    assert json.loads((output / "metrics.json").read_text())["step"] == STEPS
    assert (output / "plots/losses.png").is_file()
    assert "step 6" in (output / "log.txt").read_text()
    assert not unfinished_in(output)


@pytest.mark.runs
@pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
def test_a_run_that_cannot_write_its_last_weights_fails_and_is_resumed(tmp_path, data) -> None:
    done = train(tmp_path / "disk", data, "limit", full_after=3)
    output = tmp_path / "disk/run"
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "the weights of step 6, the last, could not be written to run/weights/last" in last
    assert "the file there is that of step 2; free space and go on with --resume" in last
    assert "plots of the run cannot be written" in done.stderr
    assert read(output / "weights/last.safetensors").weights
    assert StateFiles(output / "checkpoints").newest_good().step == 2
    written = (output / "weights/last.safetensors").stat().st_mtime_ns
    assert not unfinished_in(output)
    resume(read_run(output / "config.yaml"), output, device="cpu", progress=False, resume=True)
    assert (output / "weights/last.safetensors").stat().st_mtime_ns > written
    steps = [e["step"] for e in read_entries(output / "metrics.jsonl") if "loss" in e]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS


@pytest.mark.runs
@pytest.mark.parametrize("how", KINDS)
def test_a_run_does_not_begin_on_a_full_disk(tmp_path, data, how: str) -> None:
    done = train(tmp_path / "disk", data, how, full_after=-1)
    assert done.returncode in (1, 2)
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "run" in line
    assert "the disk is full" in line or "file too large" in line.lower()
    assert not (tmp_path / "disk/run").exists(), "the same command may be given again"


@pytest.fixture
def run() -> Run:
    return find_preset("tiny").run()


def weights_of(step: int) -> dict[str, Tensor]:
    return {"weight": torch.full((3, 2), float(step))}


def refuse(*_: object, **__: object) -> None:
    raise OSError(*FULL.args)


def test_weights_that_cannot_be_written_leave_those_before_them(
    tmp_path, run, monkeypatch, caplog
) -> None:
    files = WeightsFiles(tmp_path, CLASSES)
    assert not files.lacks(2), "an older state does not tell"
    with monkeypatch.context() as patch:
        patch.setattr("mask2former.training.states.weights_files.save", refuse)
        assert not files.write("last", weights_of(1), run, step=1)
    assert files.lacks(1)
    with pytest.raises(OSError, match=r"of step 1, the last, could .*; none were written there"):
        files.require(1)
    assert files.write("last", weights_of(2), run, step=2)
    files.require(2)
    with monkeypatch.context() as patch:
        patch.setattr("mask2former.training.states.weights_files.save", refuse)
        assert not files.write("last", weights_of(4), run, step=4)
    assert caplog.messages[-1] == (
        f"the weights of step 4 cannot be written to {tmp_path / 'last.safetensors'}: the disk is "
        "full; the file there is that of step 2; the run goes on and tries again at the next "
        "scoring"
    )
    resumed = WeightsFiles(tmp_path, CLASSES)
    resumed.steps = files.steps
    assert resumed.lacks(4)
    assert files.write("last", weights_of(6), run, step=6)
    files.require(6)


def test_a_file_of_weights_tells_what_the_system_said(tmp_path: Path) -> None:
    (tmp_path / "not writable.safetensors").write_bytes(b"before")
    code = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from mask2former.weights.native import save_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "try: save_tensors(Path(sys.argv[1]), {'a': torch.zeros(1000)}, {})\n"
        "except OSError as error: print(error.errno, error.filename)"
    )
    path = tmp_path / "not writable.safetensors"
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG} {path}\n"
    assert path.read_bytes() == b"before"
    assert [*tmp_path.iterdir()] == [path]
    save_tensors(path, {"a": torch.zeros(2)}, {})


def test_what_is_to_be_looked_at_is_missed_once_a_kind(tmp_path: Path, caplog) -> None:
    dispensable = Dispensable()
    for kind in ("pictures", "plots", "pictures"):
        with dispensable.writing(kind):
            (tmp_path / "nowhere" / kind).write_text("")
    with dispensable.writing("tables"):
        (tmp_path / "table").write_text("")
    assert [message.partition(" (")[0] for message in caplog.messages] == [
        "pictures cannot be written",
        "plots cannot be written",
    ]
    assert caplog.messages[0].endswith(
        "No such file or directory; the run goes on without those that fail"
    )
    with pytest.raises(ValueError, match="not of the disk"), dispensable.writing("plots"):
        raise ValueError("not of the disk")


def test_a_log_that_cannot_be_written_is_told_once_on_the_terminal(tmp_path: Path, capsys) -> None:
    logger = logging.getLogger("mask2former.test")
    path = tmp_path / "log.txt"
    with LogFile() as file:
        logger.info("before there is a file")
        path.mkdir()  # it cannot be written to
        file.write_to(path)
        logger.info("lost")
        logger.warning("lost as well")
        path.rmdir()
        logger.info("kept")
    assert path.read_text().endswith("INFO kept\n")
    assert len(path.read_text().splitlines()) == 1
    told, warning = capsys.readouterr().err.splitlines()
    assert told.startswith(f"warning: {path} cannot be written to: Is a directory; the run goes on")
    assert warning == "warning: lost as well"


def test_lines_are_taken_back_where_the_disk_is_full(tmp_path, monkeypatch, caplog) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        file.append({"step": step})
    monkeypatch.setattr(Path, "write_bytes", refuse)
    file.rewind(3)
    assert [entry["step"] for entry in read_entries(file.path)] == [1, 2, 3]
    with file.path.open("a") as torn:
        torn.write('{"st\n{"step": 3}\n{"step": 4}\n')
    file.rewind(3)  # a damaged line in the middle needs room for another file
    [message] = caplog.messages
    assert "cannot be written to: No space left" in message
    assert file.num_entries == 4


def test_a_table_goes_on_when_there_is_room_again(tmp_path: Path, caplog) -> None:
    places = RunLoggers(tmp_path, ("csv",))
    places.log(1, {"loss": 1.0})
    (tmp_path / "metrics.csv").rename(tmp_path / "kept")
    (tmp_path / "metrics.csv").mkdir()  # it cannot be written to
    places.log(2, {"loss": 2.0})
    places.log(3, {"loss": 3.0})
    (tmp_path / "metrics.csv").rmdir()
    (tmp_path / "kept").rename(tmp_path / "metrics.csv")
    places.log(4, {"loss": 4.0})
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,loss", "1,1.0", "4,4.0"]
    [message] = [each for each in caplog.messages if each.startswith("csv cannot be written")]
    assert message.endswith("the next values are tried")
