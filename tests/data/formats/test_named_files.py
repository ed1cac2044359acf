from pathlib import Path

import pytest

from mask2former.data.formats.named_files import NamedFiles, find_files, warn_unnamed
from mask2former.data.problems import Collected, Strict

JSON = Path("some.json")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def find(names: dict[int | str, str], *folders: Path) -> NamedFiles:
    return find_files(names, folders, JSON, Strict())


def test_names_are_taken_as_they_stand_where_they_fit(tmp_path: Path) -> None:
    touch(tmp_path, "one/x/a.png", "two/a.png")
    located = find({1: "x/a.png"}, tmp_path / "two", tmp_path / "one")
    assert located == NamedFiles(tmp_path / "one", {1: "x/a.png"})
    assert located.path(1) == tmp_path / "one" / "x" / "a.png"


def test_the_longest_part_of_a_foreign_name_that_fits_counts(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/a.png")
    located = find({1: "/far/away/x/a.png", 2: "/far/away/y/a.png"}, tmp_path)
    assert located.names == {1: "x/a.png", 2: "y/a.png"}
    assert located.num_shortened == 2


def test_a_file_is_not_taken_for_two_whose_names_end_alike(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    names: dict[int | str, str] = {1: "x/a.png", 2: "y/a.png", 3: "x/b.png"}
    problems = Collected()
    located = find_files(names, [tmp_path], JSON, problems)
    assert located.names == {3: "b.png"}
    assert [problem.image_id for problem in problems.found] == [1, 2]


def test_the_folder_with_most_files_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "few/a.png", "many/a.png", "many/b.png")
    names: dict[int | str, str] = {1: "a.png", 2: "b.png", 3: "c.png"}
    problems = Collected()
    located = find_files(names, [tmp_path / "few", tmp_path / "many"], JSON, problems)
    assert located.folder == tmp_path / "many"
    (problem,) = problems.found
    assert problem.kind == "missing image"
    assert "c.png is not in" in problem.message
    assert "(1 of its 3 files are missing); add it or take it out of some.json" in problem.message


def test_no_file_at_all_is_an_error_even_when_faults_are_collected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.png, the first file of some.json, is in none"):
        find_files({1: "a.png"}, [tmp_path, tmp_path / "images"], JSON, Collected())


def test_images_that_have_no_name_are_told_only_where_others_have(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "x/b.JPG", "x/notes.txt", "y/c.png")
    located = find({1: "x/a.png"}, tmp_path)
    assert located.unnamed == ("x/b.JPG",)
    problems = Collected()
    warn_unnamed(located, JSON, problems)
    assert "1 images of" in problems.found[0].message
    warn_unnamed(find({1: "x/a.png", 2: "x/b.JPG"}, tmp_path), JSON, problems)
    assert len(problems.found) == 1
