from pathlib import Path

import pytest

from mask2former.data.formats.splits import find_split_lists, in_order, means, resolve_split


@pytest.mark.parametrize(
    ("wanted", "available", "name"),
    [
        ("val", ["train", "valid"], "valid"),
        ("val", ["validation", "val"], "val"),
        ("valid", ["validation"], "validation"),
        ("train", ["training"], "training"),
        ("fold3", ["fold1", "fold3"], "fold3"),
    ],
)
def test_split_is_found_by_its_name_or_a_synonym(
    wanted: str, available: list[str], name: str
) -> None:
    assert resolve_split(wanted, available) == name


@pytest.mark.parametrize("wanted", ["val", "fold2"])
def test_missing_split_names_those_that_are_there(wanted: str) -> None:
    with pytest.raises(ValueError, match=rf"no split '{wanted}'; .* 'train', 'test', so name one"):
        resolve_split(wanted, ["train", "test"])


def test_usual_splits_come_first() -> None:
    names = ["a", "test", "valid", "train", "Z"]
    assert in_order(names) == ["train", "valid", "test", "Z", "a"]


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [("val", "valid", True), ("train", "training", True), ("fold1", "fold1", True),
     ("train", "val", False), ("fold1", "fold2", False)],
)  # fmt: skip
def test_names_mean_the_same_by_synonyms(name: str, other: str, same: bool) -> None:
    assert means(name, other) == same


def write_lists(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\n")


def test_lists_are_found_in_one_of_their_places(tmp_path: Path) -> None:
    inner = tmp_path / "ImageSets"
    write_lists(inner / "Main/train.txt", inner / "Segmentation/train.txt", inner / "Main/dog.txt")
    assert find_split_lists(tmp_path) == {"train": inner / "Segmentation/train.txt"}
    write_lists(tmp_path / "splits/train.txt", tmp_path / "splits/valid.txt")
    assert list(find_split_lists(tmp_path)) == ["train", "valid"]
    write_lists(tmp_path / "test.txt")
    assert find_split_lists(tmp_path) == {"test": tmp_path / "test.txt"}


def test_other_text_files_are_no_lists(tmp_path: Path) -> None:
    write_lists(tmp_path / "classes.txt", tmp_path / "notes" / "train.txt")
    assert find_split_lists(tmp_path) == {}
