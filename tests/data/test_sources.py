import os
import pickle
from pathlib import Path

import pytest

from mask2former.data.sources import FileSlice, Source, forget_open_files


def test_a_slice_is_a_source_and_survives_pickling(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    part = pickle.loads(pickle.dumps(FileSlice(path, 3, 4, "x.png")))  # noqa: S301 our own
    assert isinstance(part, Source)
    assert part.read_bytes() == b"3456"
    assert str(part) == f"{path}: x.png"


def test_offsets_beyond_four_gigabytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    offset = 5 * 2**30 + 1
    with path.open("wb") as file:  # sparse: takes no room on the disk
        file.seek(offset)
        file.write(b"far away")
    assert FileSlice(path, offset + 4, 4, "x").read_bytes() == b"away"


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"012")
    with pytest.raises(ValueError, match=r"a\.bin ends inside x \(2 of 9 bytes\)"):
        FileSlice(path, 1, 9, "x").read_bytes()
    with pytest.raises(FileNotFoundError):
        FileSlice(tmp_path / "b.bin", 0, 1, "x").read_bytes()


def test_a_file_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    part = FileSlice(path, 0, 3, "x")
    assert part.read_bytes() == b"old"
    (tmp_path / "b.bin").write_bytes(b"new")
    (tmp_path / "b.bin").replace(path)
    forget_open_files()
    assert part.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_processes_do_not_disturb_one_another(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 100)
    parts = [FileSlice(path, i, 3, "x") for i in range(0, 20_000, 7)]
    expected = [part.read_bytes() for part in parts]
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            os._exit(0 if [part.read_bytes() for part in parts] == expected else 1)
        children.append(child)
    assert [part.read_bytes() for part in parts] == expected
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
