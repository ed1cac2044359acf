"""Semantic segmentation as pairs of an image and a mask whose pixel values are class ids.

Layouts: `images/{split}` and `masks/{split}`; `{split}/images` and `{split}/masks`; `{split}` and
`{split}annot`. The folder of masks may also be called labels, annotations or annot. Class names
are read from `classes.json`, `.yaml` or `.txt`, if there is one.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.class_list import FILE_NAMES, find_class_list, read_class_list
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.images import IMAGE_SUFFIXES, read_label_map
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task
from mask2former.types import Classes

logger = logging.getLogger(__name__)

TASKS: tuple[Task, ...] = ("semantic",)
MASK_FOLDERS = ("masks", "labels", "annotations", "annot")
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})
FIRST_FEW = 3


@dataclass(frozen=True)
class Folders:
    """Where one split lies."""

    images: Path
    masks: Path


def find(folder: Path) -> Found | None:
    """The folders of each split."""
    splits: dict[str, Folders] = {}
    for split, found in _candidates(folder):
        complete = _holds(found.images, IMAGE_SUFFIXES) and _holds(found.masks, MASK_SUFFIXES)
        if complete and split not in splits:
            splits[split] = found
    return Found(TASKS, splits) if splits else None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: Conventions, and what becomes of faults. Its ignore index is a pixel value that is
            no class and not scored, besides the one that the class list names.

    Raises:
        ValueError: Images and masks do not pair, or there are no classes.
    """
    pairs = _pair(found.splits[split])
    class_list = find_class_list(folder)
    ignored = {reading.ignore_index}
    if class_list is None:
        names = _find_classes(folder, found.splits, reading.ignore_index)
    else:
        listed = read_class_list(class_list)
        names = listed.names
        if listed.ignore_label is not None:
            ignored.add(listed.ignore_label)
    classes = Classes(
        names=tuple(names.values()),
        category_ids=tuple(names),
        is_thing=(False,) * len(names),
    )
    records = PackedRecords(
        Record(image_id=name, image=image, annotation=str(mask))
        for name, (image, mask) in pairs.items()
    )
    decode = partial(decode_mask, category_ids=classes.category_ids, ignored=frozenset(ignored))
    return Dataset(FORMAT.name, folder, split, classes, TASKS, records, decode)


def decode_mask(
    record: Record, *, category_ids: tuple[int, ...], ignored: frozenset[int]
) -> SegmentMap:
    """The classes present in one mask.

    Raises:
        FileNotFoundError: There is no such mask.
        ValueError: The mask is damaged, or has a value that is no class.
    """
    path = Path(record.annotation)
    values = read_label_map(path)
    class_ids = {category_id: i for i, category_id in enumerate(category_ids)}
    present = [value for value in _values(values, path) if value not in ignored]
    unknown = [value for value in present if value not in class_ids]
    if unknown:
        raise ValueError(
            f"mask {path} has pixel value {unknown[0]}, but the {len(category_ids)} classes have "
            f"the values {min(category_ids)} to {max(category_ids)} and {sorted(ignored)} is "
            f"ignored; add the class to the class list or set the ignore index"
        )
    segments = tuple(SegmentLabel(value, class_ids[value]) for value in present)
    return SegmentMap(values.astype(np.int32), segments)


def _candidates(folder: Path) -> Iterator[tuple[str, Folders]]:
    """Every pair of folders with the right names, whatever they hold."""
    for child in _folders_in(folder):
        for masks in MASK_FOLDERS:
            yield child.name, Folders(child / "images", child / masks)
            for name in (f"{child.name}{masks}", f"{child.name}_{masks}"):
                yield child.name, Folders(child, folder / name)
    for child in _folders_in(folder / "images"):
        for masks in MASK_FOLDERS:
            yield child.name, Folders(child, folder / masks / child.name)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _holds(folder: Path, suffixes: Iterable[str]) -> bool:
    return any(path.suffix.lower() in suffixes for path in folder.rglob("*"))


def _pair(folders: Folders) -> dict[str, tuple[Path, Path]]:
    """Image and mask by the name they share, which is relative and without suffix."""
    images = _by_name(folders.images, IMAGE_SUFFIXES)
    masks = _by_name(folders.masks, MASK_SUFFIXES)
    for ours, theirs, what, other in (
        (images, masks, "images", "mask"),
        (masks, images, "masks", "image"),
    ):
        alone = [str(path) for name, path in ours.items() if name not in theirs]
        if alone:
            raise ValueError(
                f"{len(alone)} of {len(ours)} {what} have no {other} of the same name, first "
                f"{', '.join(alone[:FIRST_FEW])}; masks of {folders.images} are looked for in "
                f"{folders.masks}: add what is missing or take the rest out"
            )
    return {name: (image, masks[name]) for name, image in images.items()}


def _by_name(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes:
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in files:
                raise ValueError(f"{files[name]} and {path} share a name; keep one of the two")
            files[name] = path
    return files


def _find_classes(folder: Path, splits: dict[str, Folders], ignore_index: int) -> dict[int, str]:
    """Classes from the pixel values of all splits, so that training and validation agree."""
    paths = [
        path
        for folders in splits.values()
        for path in _by_name(folders.masks, MASK_SUFFIXES).values()
    ]
    logger.info(
        "%s has no class list (%s); reading %d masks to find the pixel values",
        folder,
        ", ".join(FILE_NAMES),
        len(paths),
    )
    found: set[int] = set()
    for path in paths:
        found.update(_values(read_label_map(path), path))
    found.discard(ignore_index)
    if not found:
        raise ValueError(
            f"every pixel of the {len(paths)} masks of {folder} has the ignored value "
            f"{ignore_index}; set another ignore index or correct the masks"
        )
    if len(found) == 1:
        logger.warning(
            "the masks of %s have one class, pixel value %d, and the ignored value %d; if that "
            "is a class too, set another ignore index",
            folder,
            *found,
            ignore_index,
        )
    return {value: f"class {value}" for value in sorted(found)}


def _values(labels: np.ndarray, path: Path) -> list[int]:
    """Pixel values present, ascending."""
    if labels.min() < 0 or labels.max() > np.iinfo(np.uint16).max:
        raise ValueError(
            f"mask {path} has pixel values from {labels.min()} to {labels.max()}; class ids go "
            f"from 0 to {np.iinfo(np.uint16).max}"
        )
    return np.flatnonzero(np.bincount(labels.ravel())).tolist()


FORMAT = Format(
    name="png-masks",
    layouts=(
        "images/{split} + masks/{split}",
        "{split}/images + {split}/masks",
        "{split} + {split}annot",
    ),
    find=find,
    read=read,
)
