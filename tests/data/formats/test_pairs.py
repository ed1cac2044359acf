from pathlib import Path

import pytest

from mask2former.data.formats.pairs import files_by_name, pair_by_name
from mask2former.data.problems import Collected, Strict

MASKS = Path("masks")


def files(names: str, suffix: str) -> dict[str, Path]:
    return {name: Path(f"{name}.{suffix}") for name in names}


def test_files_of_one_name_are_a_pair_in_the_order_of_the_images() -> None:
    pairs = pair_by_name(files("ba", "jpg"), files("ab", "png"), MASKS, Strict())
    assert list(pairs.items()) == [
        ("b", (Path("b.jpg"), Path("b.png"))),
        ("a", (Path("a.jpg"), Path("a.png"))),
    ]


def test_every_image_without_annotation_is_an_error() -> None:
    problems = Collected()
    pairs = pair_by_name(files("abc", "jpg"), files("b", "png"), MASKS, problems)
    assert list(pairs) == ["b"]
    assert [(p.kind, p.image_id, p.is_error) for p in problems.found] == [
        ("image without annotation", "a", True),
        ("image without annotation", "c", True),
    ]
    message = (
        r"image a\.jpg has no annotation in masks \(2 of 3 images have none\); add it or take the"
    )
    with pytest.raises(ValueError, match=message):
        pair_by_name(files("abc", "jpg"), files("b", "png"), MASKS, Strict())


def test_annotations_without_image_are_one_warning() -> None:
    problems = Collected()
    assert list(pair_by_name(files("a", "jpg"), files("abcde", "png"), MASKS, problems)) == ["a"]
    (problem,) = problems.found
    assert (problem.kind, problem.is_error) == ("annotation without image", False)
    assert problem.file == "masks"
    assert (
        "4 of 5 annotation files in masks have no image and are left out: b.png, c.png, d.png and "
        "1 more; add the images or take the files out" in problem.message
    )


def test_files_that_share_a_name_are_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.jpg", "in/a.png"):
        (tmp_path / name).touch()
    problems = Collected()
    found = files_by_name(tmp_path, {".png", ".jpg"}, problems)
    assert list(found) == ["a", "in/a"]
    assert [p.kind for p in problems.found] == ["duplicate id"]
