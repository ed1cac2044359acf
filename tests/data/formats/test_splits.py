import pytest

from mask2former.data.formats.splits import in_order, resolve_split


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
