"""Predictions that are kept come back as they were, whatever stopped the writer."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mask2former.evaluation.kept import sole_writer
from mask2former.evaluation.kept.file import (
    PredictionsFile,
    check_header,
    iterate,
    offsets_by_image,
    read_image_at,
    read_predictions,
)
from mask2former.masks.rle import encode_mask
from mask2former.tasks import Task
from mask2former.types import (
    Classes,
    InstanceResult,
    PanopticResult,
    Result,
    Segment,
    SemanticResult,
)

CLASSES = Classes(("bälle", "grass"), (7, 300), (True, False))
FINGERPRINT = {"weights": "abc", "images": [1, 2], "options": {"flip": True, "short_side": 0.1}}


posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


def random_results(seed: int) -> dict[Task, Result]:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2).tolist()
    count = int(rng.integers(0, 6))
    segments = [
        Segment(
            i + 1,
            int(rng.integers(2)),
            float(rng.random()) * 10.0 ** -int(rng.integers(0, 300)),
            int(rng.integers(1000)),
            tuple(rng.random(4).tolist()),
        )
        for i in range(count)
    ]
    ids = torch.from_numpy(rng.integers(0, 2**40, (height, width)) >> int(rng.integers(41)))
    masks = [encode_mask(rng.random((height, width)) < 0.3) for _ in range(count)]
    return {
        "panoptic": PanopticResult(ids, segments),
        "instance": InstanceResult(height, width, masks, segments),
        "semantic": SemanticResult(torch.from_numpy(rng.integers(0, 300, (height, width)))),
    }


def assert_equal(found: Mapping[Task, Result], wanted: Mapping[Task, Result]) -> None:
    assert list(found) == list(wanted)
    for task, one in found.items():
        other = wanted[task]
        assert type(one) is type(other)
        if isinstance(one, InstanceResult):
            assert one == other
            continue
        name = "label_map" if isinstance(one, SemanticResult) else "segment_map"
        ids, other_ids = getattr(one, name), getattr(other, name)
        assert ids.dtype == torch.int64
        assert torch.equal(ids, other_ids)
        assert getattr(one, "segments", []) == getattr(other, "segments", [])


def write(path: Path, images: range, fingerprint: Mapping[str, Any] = FINGERPRINT) -> None:
    with PredictionsFile(path, CLASSES, fingerprint) as file:
        for i in images:
            file.append(i, random_results(i))


def test_three_hundred_images_come_back_exactly_equal(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    write(path, range(300))
    header = read_predictions(path)
    assert header.classes == CLASSES
    assert header.fingerprint == FINGERPRINT
    offsets = offsets_by_image(path)
    assert list(offsets) == list(range(300))
    for i, (image_id, results) in enumerate(iterate(path)):
        assert image_id == i
        assert_equal(results, random_results(i))
        assert_equal(read_image_at(path, offsets[i]), random_results(i))


def test_image_ids_keep_their_type(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    ids = [3, "3", 'a "quoted", "results": name/ä', -1]
    with PredictionsFile(path, CLASSES, {}) as file:
        for image_id in ids:
            file.append(image_id, {})
    assert [image_id for image_id, _ in iterate(path)] == ids
    assert list(offsets_by_image(path)) == ids


def test_a_second_run_goes_on_behind_the_first(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write(path, range(3))
    write(path, range(3, 5))
    assert [image_id for image_id, _ in iterate(path)] == [0, 1, 2, 3, 4]


def test_tuples_in_a_fingerprint_are_what_lists_are(tmp_path: Path) -> None:
    write(tmp_path / "p.jsonl", range(1), {"size": (1, 2)})
    write(tmp_path / "p.jsonl", range(1, 2), {"size": [1, 2]})
    assert len(list(iterate(tmp_path / "p.jsonl"))) == 2


@pytest.mark.parametrize("lost", [1, 10, 700])
def test_a_torn_last_line_is_not_read_and_cut_off(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "p.jsonl"
    write(path, range(1))
    whole = path.stat().st_size
    with PredictionsFile(path, CLASSES, FINGERPRINT) as file:
        file.append("large", {"semantic": SemanticResult(torch.arange(400).view(20, 20))})
    os.truncate(path, max(whole + 1, path.stat().st_size - lost))
    assert [image_id for image_id, _ in iterate(path)] == [0]
    assert list(offsets_by_image(path)) == [0]
    write(path, range(1, 2))
    assert [image_id for image_id, _ in iterate(path)] == [0, 1]
    assert_equal(dict(iterate(path))[1], random_results(1))


def test_every_place_where_a_file_can_be_torn_leaves_the_images_before_it(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    classes = Classes((), (), ())
    with PredictionsFile(path, classes, {}) as file:
        for i in range(3):
            file.append(i, {})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        complete = max(0, content[:length].count(b"\n") - 1)
        with PredictionsFile(path, classes, {}) as file:
            file.append("new", {})
        assert [image_id for image_id, _ in iterate(path)] == [*range(complete), "new"]


@pytest.mark.runs
@posix_only
def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    program = f"""
import sys, torch
from pathlib import Path
from mask2former.evaluation.kept.file import PredictionsFile
from mask2former.types import Classes, SemanticResult
with PredictionsFile(Path({str(path)!r}), Classes((), (), ()), {{}}) as file:
    for i in range(10**6):
        file.append(i, {{"semantic": SemanticResult(torch.arange(10000).view(100, 100))}})
        print(i, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept = [image_id for image_id, _ in iterate(path)]
    assert kept[:20] == told
    assert kept == list(range(len(kept)))


@pytest.mark.runs
@posix_only
def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    # "/dev/full" cannot be truncated, so a limit on the size of files stands for a full disk
    program = f"""
import resource, signal, torch
from pathlib import Path
from mask2former.evaluation.kept.file import PredictionsFile, iterate
from mask2former.types import Classes, SemanticResult
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path({str(tmp_path / "p.jsonl")!r})
results = {{"semantic": SemanticResult(torch.arange(10000).view(100, 100))}}
with PredictionsFile(path, Classes((), (), ()), {{}}) as file:
    file.append(0, results)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100,) * 2)
    try:
        file.append(1, results)
    except OSError as error:
        print(error.filename)
    file.append(2, {{}})
print([image_id for image_id, _ in iterate(path)])
"""
    run = [sys.executable, "-c", program]
    output = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert output.splitlines() == [str(tmp_path / "p.jsonl"), "[0, 2]"]


def test_predictions_of_something_else_are_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write(path, range(1))
    before = path.read_bytes()
    changed = {**FINGERPRINT, "options": {"flip": False, "short_side": 0.1}}
    with pytest.raises(
        ValueError, match=r"fingerprint\.options\.flip is True there and False now; give another"
    ):
        write(path, range(1), changed)
    fewer = {"weights": "abc", "images": [1, 2]}
    with pytest.raises(ValueError, match=r"options\.flip is True there and nothing now"):
        write(path, range(1), fewer)
    write(tmp_path / "q.jsonl", range(1), {"step": 1})
    with pytest.raises(ValueError, match=r"options is nothing there and \[\] now"):
        write(tmp_path / "q.jsonl", range(1), {"step": 1, "options": []})
    other = Classes(("ball", "grass"), (7, 300), (True, False))
    with pytest.raises(ValueError, match=r"classes\.names\[0\] is 'bälle' there and 'ball' now"):
        PredictionsFile(path, other, FINGERPRINT).__enter__()
    assert path.read_bytes() == before
    check_header(path, read_predictions(path))


def test_a_damaged_line_in_the_middle_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write(path, range(1, 4))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"map": "u', b'"map": "x')
    path.write_bytes(b"".join(lines))
    read = iterate(path)
    assert next(read)[0] == 1
    with pytest.raises(ValueError, match=rf"line 3 of {path} \(image 2\) is damaged"):
        next(read)
    with pytest.raises(ValueError, match="is damaged"):
        read_image_at(path, offsets_by_image(path)[2])
    for damage in (b"\n", b"\0" * 50 + b"\n", b'{"image_id": [1]}\n', lines[2][:60] + b"\n"):
        path.write_bytes(lines[0] + lines[1] + damage + lines[3])
        with pytest.raises(ValueError, match=rf"line 3 of {path} .*is damaged"):
            list(iterate(path))


def test_of_several_lines_of_an_image_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with PredictionsFile(path, CLASSES, {}) as file:
        for image_id, seed in ((1, 5), (2, 6), (1, 7)):
            file.append(image_id, random_results(seed))
    found = dict(iterate(path))
    assert len(list(iterate(path))) == 2
    for image_id, seed in ((1, 5), (2, 6)):
        assert_equal(found[image_id], random_results(seed))
        assert_equal(read_image_at(path, offsets_by_image(path)[image_id]), random_results(seed))


ANOTHER_WRITER = "another evaluation is writing to .*p.jsonl; wait until it has ended, or give"


@pytest.mark.parametrize("can_lock", [True, False])
def test_a_file_that_is_written_to_is_left_alone(
    tmp_path: Path, can_lock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_lock:  # as on Windows, and on disks without locks
        monkeypatch.setattr(sole_writer, "_lock", lambda _: False)
    path = tmp_path / "p.jsonl"
    with PredictionsFile(path, CLASSES, {}) as file:
        file.append(1, random_results(1))
        assert file._file is not None
        file._file.write(b'{"image_id": 2')  # the write of a long line takes several steps
        before = path.read_bytes()
        with pytest.raises(ValueError, match=ANOTHER_WRITER):
            PredictionsFile(path, CLASSES, {}).__enter__()
        assert path.read_bytes() == before
        assert list(offsets_by_image(path)) == [1]
    assert list(tmp_path.iterdir()) == [path]
    with PredictionsFile(path, CLASSES, {}) as file:
        file.append(2, random_results(2))
    assert list(offsets_by_image(path)) == [1, 2]


def test_what_refuses_to_open_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write(path, range(1))
    with pytest.raises(ValueError, match="predictions of something else"):
        write(path, range(1), {})
    write(path, range(1, 2))
    assert list(offsets_by_image(path)) == [0, 1]


@pytest.mark.runs
@posix_only
def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    held = f"""
import sys, time
from pathlib import Path
from mask2former.evaluation.kept.file import PredictionsFile
from mask2former.types import Classes
with PredictionsFile(Path({str(path)!r}), Classes({CLASSES.names!r}, {CLASSES.category_ids!r},
                     {CLASSES.is_thing!r}), {FINGERPRINT!r}):
    print("open", flush=True)
    time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(ValueError, match=ANOTHER_WRITER):
            write(path, range(1))
        process.kill()
    write(path, range(1))
    assert list(offsets_by_image(path)) == [0]


def test_files_that_are_no_predictions_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    for content in (b"[1, 2]\n", b"\xff\n", b'{"format": "other"}\n', b"null\n"):
        path.write_bytes(content)
        for read in (read_predictions, lambda path: list(iterate(path)), offsets_by_image):
            with pytest.raises(ValueError, match="is no predictions file"):
                read(path)
        with pytest.raises(ValueError, match="is no predictions file"):
            write(path, range(1))
        assert path.read_bytes() == content
    write(tmp_path / "new.jsonl", range(1))
    header, _ = (tmp_path / "new.jsonl").read_text().splitlines()
    path.write_text(json.dumps({**json.loads(header), "version": 99}) + "\n")
    with pytest.raises(ValueError, match=r"is of version 99 and version 1 is read; use the"):
        read_predictions(path)


def test_what_is_not_open_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="is not open; use the predictions file with `with`"):
        PredictionsFile(tmp_path / "p.jsonl", CLASSES, {}).append(1, {})
