"""Files appear whole or not at all; folders are tried before anything is read."""

import errno
from pathlib import Path

import pytest

from mask2former.files import removed_if_empty, replacing, usable_folder


def test_a_file_is_replaced_when_all_went_well_and_kept_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as unfinished:
        unfinished.write_text("first")
    with pytest.raises(FileNotFoundError), replacing(path) as unfinished:
        (unfinished.parent / "nowhere" / "b.txt").write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match="No space") as raised, replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(path)


def test_a_folder_is_made_and_links_are_followed(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    assert usable_folder(deep) == deep.resolve()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "to" / "come")
    assert usable_folder(link) == (tmp_path / "to" / "come").resolve()
    assert usable_folder(link) == usable_folder(tmp_path / "to" / "come")
    assert list(link.iterdir()) == []


def test_a_folder_that_was_not_filled_goes_away(tmp_path: Path) -> None:
    folder = usable_folder(tmp_path / "a")
    with removed_if_empty(folder):
        (folder / "b.txt").write_text("")
    assert folder.is_dir()
    (folder / "b.txt").unlink()
    with pytest.raises(FileNotFoundError), removed_if_empty(folder):
        (folder / "nowhere" / "b.txt").write_text("")
    assert not folder.exists()


@pytest.mark.parametrize("place", ["file", "file/below", "circle", "/proc/nothing"])
def test_what_cannot_be_written_to_is_refused_with_its_name(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(ValueError, match=place.rpartition("/")[2]) as raised:
        usable_folder(tmp_path / place)
    assert "give a" in str(raised.value)
