"""ADE20K with 847 classes: the full release of 2021, or what the authors' script makes of it.

The release is `images/ADE/{split}/...`, with `ADE_*_seg.png` beside every image; the prepared
form is `images_detectron2/{split}` and `annotations_detectron2/{split}` with 16-bit TIFF files.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.formats.listing import (
    DEEPEST,
    PNG,
    files_by_stem,
    first_file,
    folders_in,
    has_suffix,
)
from mask2former.data.formats.pairs import pair_by_name
from mask2former.data.images import IMAGE_SUFFIXES, read_label_map, read_panoptic_ids
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("semantic",)
ARCHIVE = "ADE20K_2021_17_01"
PREFIX = "ADE_"
LABEL_ENDING = "_seg"
JPEG = frozenset({".jpg", ".jpeg"})
TIFF = frozenset({".tif", ".tiff"})
UNSCORED_PREPARED = 65535


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    images: Path
    prepared_labels: Path | None
    """None: labels lie beside the images, in the form of the release."""


def find(folder: Path) -> Found | None:
    """The folders of each split, in the folder or in `ADE20K_2021_17_01` below it."""
    for root in (folder, folder / ARCHIVE):
        splits = _prepared_splits(root) or _released_splits(root)
        if splits:
            return Found(TASKS, splits)
    return None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: What becomes of faults; the ignored values are ADE20K's own.

    Raises:
        ValueError: An image has no annotation.
    """
    place: Place = found.splits[split]
    if place.prepared_labels is None:
        images, labels = _walk(place.images)
        pairs = pair_by_name(images, labels, place.images, reading.problems)
    else:
        images = files_by_stem(place.images, IMAGE_SUFFIXES)
        labels = files_by_stem(place.prepared_labels, TIFF)
        pairs = pair_by_name(images, labels, place.prepared_labels, reading.problems)
    is_prepared = place.prepared_labels is not None
    records = PackedRecords(
        Record(image_id=name, image=image, annotation=(str(label), is_prepared))
        for name, (image, label) in pairs.items()
    )
    classes = class_table("ade20k_full")
    notes = _notes(is_prepared)
    return Dataset(FORMAT.name, folder, split, classes, TASKS, records, decode, notes)


def decode(record: Record) -> SegmentMap:
    """A class per pixel, ids are class ids + 1; what is none of the 847 classes is unlabelled.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or has values that are none of ADE20K's.

    Source:
        The authors' `prepare_ade20k_full_sem_seg.py`, without its reduction of large images.
    """
    name, is_prepared = record.annotation
    ids = _read_prepared(Path(name)) if is_prepared else _read_released(Path(name))
    present = [value for value in np.unique(ids).tolist() if value != 0]
    return SegmentMap(ids, tuple(SegmentLabel(value, value - 1) for value in present))


def _read_prepared(path: Path) -> Int32[np.ndarray, "h w"]:
    values = read_label_map(path).astype(np.int32)
    ids = np.where(values == UNSCORED_PREPARED, 0, values + 1)
    num_classes = len(class_table("ade20k_full"))
    if ids.max() > num_classes:
        raise ValueError(
            f"{path} has value {ids.max() - 1}; the classes are 0 to {num_classes - 1}, and "
            f"{UNSCORED_PREPARED} is for what is not scored: prepare the file again"
        )
    return ids


def _read_released(path: Path) -> Int32[np.ndarray, "h w"]:
    """Red is ten times the high byte of the object's index, green the low byte."""
    colors = read_panoptic_ids(path)
    index = (colors & 255) // 10 * 256 + (colors >> 8 & 255)
    return _ids_by_index()[index]


@cache
def _ids_by_index() -> Int32[np.ndarray, " indices"]:
    """Class id + 1 by the object's index; 0 for the rarer objects and for none."""
    table = np.zeros((255 // 10 + 1) * 256, np.int32)
    for class_id, index in enumerate(class_table("ade20k_full").category_ids):
        table[index] = class_id + 1
    return table


def _prepared_splits(root: Path) -> dict[str, Place]:
    labels = root / "annotations_detectron2"
    return {
        images.name: Place(images, labels / images.name)
        for images in folders_in(root / "images_detectron2")
        if first_file(images, IMAGE_SUFFIXES) and first_file(labels / images.name, TIFF)
    }


def _released_splits(root: Path) -> dict[str, Place]:
    return {
        images.name: Place(images, None)
        for images in folders_in(root / "images" / "ADE")
        if first_file(images, PNG, ending=LABEL_ENDING, depth=DEEPEST)
    }


def _walk(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and label files of all scenes by the image's name, in the order of names."""
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for name in _file_names(folder):
        path = Path(name)
        if path.stem.endswith(LABEL_ENDING) and has_suffix(path, PNG):
            labels[path.stem.removesuffix(LABEL_ENDING)] = path
        elif path.name.startswith(PREFIX) and has_suffix(path, JPEG):
            images[path.stem] = path
    return dict(sorted(images.items())), dict(sorted(labels.items()))


def _file_names(folder: Path) -> Iterator[str]:
    """Paths of all files but those of single objects, which fill a folder beside every image."""
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith(PREFIX))
        yield from (os.path.join(place, name) for name in names)  # noqa: PTH118 one path of many


def _notes(is_prepared: bool) -> tuple[str, ...]:
    if is_prepared:
        return (f"Pixel value {UNSCORED_PREPARED} is not scored.",)
    return (
        "Objects of none of the 847 classes are not scored; parts of objects and the numbers of "
        "objects are not read.",
        "Images are read at their full size; the authors' script reduces them to a short side of "
        "512 pixels first, which saves time and changes scores a little.",
    )


FORMAT = Format(
    name="ade20k-full",
    layouts=(
        "images/ADE/{split}/**/ADE_*.jpg with ADE_*_seg.png beside them",
        "images_detectron2/{split} + annotations_detectron2/{split} with .tif files",
    ),
    find=find,
    read=read,
)
