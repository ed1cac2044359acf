"""The lines of a run that was killed are those of one that was not."""

import errno
import json
import os
import random
from pathlib import Path

from mask2former.training.log.metrics_file import MetricsFile, read_entries


def entry(step: int, name: str = "loss") -> dict[str, float | int]:
    return {"step": step, name: step / 3}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    written = [entry(1), {"step": 1, "AP": None}, entry(2)]
    for each in written:
        file.append(each)
    assert list(read_entries(file.path)) == written
    assert file.num_entries == 3


def test_a_file_that_is_not_there_has_no_entries(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    assert list(read_entries(file.path)) == []
    file.rewind(3)
    file.flush()
    assert not file.path.exists()


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = json.dumps(entry(1)).encode() + b"\n"
    torn = b'{"step": 2, "lo'
    path.write_bytes(whole + torn + whole + b"\0\0\0\n" + b"\xff\n3\n[]\n{}\n\n" + whole + torn)
    assert list(read_entries(path)) == [entry(1), entry(1)]


def test_wherever_a_run_was_killed_its_file_becomes_that_of_one_that_was_not(tmp_path) -> None:
    draw = random.Random(0)
    for trial in range(300):
        file = MetricsFile(tmp_path / f"{trial}.jsonl")
        written = []
        for step in range(1, draw.randrange(2, 12)):
            written += [entry(step)] if draw.random() < 0.7 else []
            written += [entry(step, "AP")] if draw.random() < 0.3 else []
        for each in written:
            file.append(each)
        whole = file.path.read_bytes() if written else b""
        count = draw.randrange(len(written) + 1)
        step = written[count - 1]["step"] if count else 0
        torn = whole[
            : draw.randrange(len(b"".join(whole.splitlines(True)[:count])), len(whole) + 1)
        ]
        if written:
            file.path.write_bytes(torn)
        resumed = MetricsFile(file.path)
        resumed.rewind(step, count)
        assert resumed.num_entries == count
        for each in written[count:]:
            resumed.append(each)
        assert (file.path.read_bytes() if written else b"") == whole


def test_without_a_count_all_lines_up_to_the_step_stay(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for each in (entry(2), entry(2, "AP"), entry(4), entry(4, "AP"), entry(6)):
        file.append(each)
    file.rewind(4)
    assert list(read_entries(file.path)) == [entry(2), entry(2, "AP"), entry(4), entry(4, "AP")]


def test_a_full_disk_is_told_once_and_tears_no_line(tmp_path, monkeypatch, caplog) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append(entry(1))
    is_full = True
    open_file = Path.open

    class Full:
        def __init__(self, stream) -> None:
            self.stream = stream

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_) -> None:
            self.stream.close()

        def write(self, data: bytes) -> int:
            if len(data) <= 5:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.stream.write(data[:-5])

    def open_full(self: Path, *arguments, **keywords):
        stream = open_file(self, *arguments, **keywords)
        return Full(stream) if is_full else stream

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        file.append(entry(2))
        file.append(entry(3))
        is_full = False
        file.append(entry(4))
    assert list(read_entries(file.path)) == [entry(1), entry(4)]
    assert len(lines(file.path)) == file.num_entries == 2
    [message] = caplog.messages
    assert message.startswith(f"{file.path} cannot be written to: No space left on device; the run")
