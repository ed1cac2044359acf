"""The names that data sets give to their parts."""

from collections.abc import Collection
from pathlib import Path

from mask2former.data.formats.listing import folders_in, is_file, is_folder

SYNONYMS = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
SPLIT_NAMES = tuple(name for synonyms in SYNONYMS for name in synonyms)
"""The usual ones, in the order in which splits are shown."""


def resolve_split(wanted: str, available: Collection[str]) -> str:
    """The name in `available` that `wanted` means: itself, or a synonym such as valid for val.

    Raises:
        ValueError: There is none.
    """
    synonyms = next((names for names in SYNONYMS if wanted in names), ())
    for name in (wanted, *synonyms):
        if name in available:
            return name
    names = ", ".join(map(repr, available))
    raise ValueError(f"no split {wanted!r}; the data set has {names}, so name one of these")


def in_order(names: Collection[str]) -> list[str]:
    """Training, validation and test splits first, then the others by name."""
    places = {name: i for i, name in enumerate(SPLIT_NAMES)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def means(name: str, other: str) -> bool:
    """Whether the two are the same split by name or synonym."""
    return name == other or any(name in names and other in names for names in SYNONYMS)


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder that have a usual name of a split; nothing else is listed."""
    return {name: folder / name for name in SPLIT_NAMES if is_folder(folder / name)}


def find_split_lists(folder: Path) -> dict[str, Path]:
    """Text files that name the images of each split: `train.txt` and the like.

    They lie in the folder, in `splits/`, in `ImageSets/` or in a folder of that; the first place
    that has any is taken, and below `ImageSets/` one for segmentation before others.
    """
    below = folder / "ImageSets"
    inner = sorted(folders_in(below), key=lambda path: path.name != "Segmentation")
    for place in (folder, folder / "splits", below, *inner):
        lists = {name: place / f"{name}.txt" for name in SPLIT_NAMES}
        found = {name: path for name, path in lists.items() if is_file(path)}
        if found:
            return found
    return {}
