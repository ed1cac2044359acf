import os
import re
from pathlib import Path

import pytest

from mask2former.data.formats import listing
from mask2former.data.formats.listing import (
    files_below,
    files_by_folder,
    files_by_stem,
    files_named,
    first_few,
    first_file,
    folders_in,
    is_file,
    is_folder,
    some_files,
)

PNG = {".png"}


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_files_below_are_those_of_the_kind_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a.png", "c.txt", "png", ".png", ".x.png", "in/d.png")
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path, PNG)]
    assert found == ["a.png", "b.PNG", "in/d.png"]
    assert files_below(tmp_path / "gone", PNG) == []


def test_files_by_stem_are_those_of_the_folder_alone(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a.b.png", "c.txt", "in/d.png", "e.png/f.png")
    assert list(files_by_stem(tmp_path, PNG)) == ["a.b", "b"]


def test_folders_that_are_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere", "a.png")
    folder = tmp_path / "set"
    folder.mkdir()
    for name, target in (("one", elsewhere), ("two", elsewhere), ("up", folder), ("me", "me")):
        (folder / name).symlink_to(target)
    expected = [folder / "one" / "a.png", folder / "two" / "a.png"]
    assert files_below(folder, PNG) == expected
    assert first_file(folder, PNG, depth=2) == expected[0]
    assert [path.name for path in folders_in(folder)] == ["one", "two", "up"]


def test_files_are_found_by_their_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a-01.tar", "b-02.tar", "c-03.tar.gz", ".d-04.tar", "in/e-05.tar", "f-06.tar/g")
    (tmp_path / "h-07.tar").symlink_to("h-07.tar")
    pattern = re.compile(r".*-\d+\.tar")
    assert [path.name for path in files_named(tmp_path, pattern)] == ["a-01.tar", "b-02.tar"]
    assert files_by_folder(tmp_path, pattern) == {"in": [tmp_path / "in" / "e-05.tar"]}
    assert files_named(tmp_path / "gone", pattern) == []
    assert files_by_folder(tmp_path / "gone", pattern) == {}
    # a large folder is left when its first entries tell nothing
    monkeypatch.setattr(listing, "MOST_LOOKED_AT", 0)
    assert files_named(tmp_path, pattern) == []


@pytest.mark.parametrize(("depth", "expected"), [(1, False), (2, False), (3, True)])
def test_looking_for_a_file_stops_at_a_depth(tmp_path: Path, depth: int, expected: bool) -> None:
    touch(tmp_path, "one/v1.2/a.png")
    assert (first_file(tmp_path, PNG, depth=depth) is not None) is expected


def test_looking_for_a_file_stops_after_some_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_LOOKED_AT_BELOW", 3)
    touch(tmp_path, *(f"{i}/a.png" for i in range(9)))
    # the folder itself has more entries than are looked at
    assert list(some_files(tmp_path, PNG, depth=2)) == []


def test_the_end_of_a_name_may_be_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_mask.png")
    assert first_file(tmp_path, PNG, ending="_mask") == tmp_path / "a_mask.png"


def test_nothing_is_there_where_nothing_can_be_read(tmp_path: Path) -> None:
    locked = touch(tmp_path / "locked", "in/a.png")
    locked.chmod(0)
    try:
        if os.access(locked, os.R_OK):
            pytest.skip("this user may read everything")
        assert not is_folder(locked / "in")
        assert not is_file(locked / "in" / "a.png")
        assert folders_in(locked) == []
        assert first_file(tmp_path, PNG, depth=9) is None
    finally:
        locked.chmod(0o700)


def test_of_many_names_the_first_few_are_shown() -> None:
    assert first_few(["a"]) == "a"
    assert first_few(range(3)) == "0, 1, 2"
    assert first_few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
