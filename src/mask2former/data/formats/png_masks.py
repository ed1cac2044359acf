"""Semantic segmentation as pairs of an image and a mask whose pixels are classes.

Layouts: `images/{split}` and `masks/{split}`; `{split}/images` and `{split}/masks`; `{split}` and
`{split}annot`; without splits `images` and `masks`; or both in `{split}`, the masks as `*_mask.png`
beside `_classes.csv`. Folders may have other usual names (`IMAGE_FOLDERS`, `MASK_FOLDERS`).

Masks are grey, palette or 16-bit PNGs whose values are classes, or RGB ones whose colours a class
list explains (`class_list`). Without a class list all masks are read to find the values.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.class_list import (
    FILE_NAMES,
    ClassList,
    find_class_list,
    read_class_list,
)
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.formats.mask_folders import Place, find_places, list_masks, pair_files
from mask2former.data.formats.mask_values import (
    MaskCoding,
    find_coding,
    present_values,
    read_values,
)
from mask2former.data.problems import FaultError
from mask2former.data.records import PackedRecords
from mask2former.processes import num_cores
from mask2former.tasks import Task
from mask2former.types import Classes

logger = logging.getLogger(__name__)

TASKS: tuple[Task, ...] = ("semantic",)
MASK_FOLDERS = (
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annot",
    "ann_dir",
    "gt",
    "segmentation",
)
VALUES_OF_A_BYTE = 256
BINARY = {0: "background", 255: "foreground"}
"""What the values of binary masks mean: 255, otherwise not scored, would leave one class."""


def find(folder: Path) -> Found | None:
    """The folders of each split."""
    splits = find_places(folder, MASK_FOLDERS)
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
        ValueError: An image has no mask, there are no classes, or masks are in colours
            that no class list explains.
    """
    place: Place = found.splits[split]
    pairs = pair_files(place, reading.problems)
    path = find_class_list(folder, place.images)
    listed = None if path is None else read_class_list(path)
    masks = [mask for _, mask in pairs.values()]
    colors = {} if listed is None else listed.colors
    coding = find_coding(masks, colors, path or folder / FILE_NAMES[0])
    notes = [coding.note]
    if listed is None:
        names, ignored = _find_classes(folder, found.splits, coding, reading)
        notes.append(
            "There is no class list: the classes are the pixel values that occur in the masks."
        )
    else:
        ignored = _ignored_values(listed, reading.ignore_index)
        names = {value: name for value, name in listed.names.items() if value not in ignored}
    notes.append(_tell_ignored(ignored))
    if 0 in names:
        notes.append(f"Pixel value 0 is a class, {names[0]!r}.")
    classes = Classes(
        names=tuple(names.values()),
        category_ids=tuple(names),
        is_thing=tuple(listed is not None and value in listed.things for value in names),
    )
    records = PackedRecords(
        Record(image_id=name, image=image, annotation=str(mask))
        for name, (image, mask) in pairs.items()
    )
    return Dataset(
        FORMAT.name,
        folder,
        split,
        classes,
        TASKS,
        records,
        partial(decode, category_ids=tuple(names), ignored=frozenset(ignored), coding=coding),
        tuple(notes),
    )


def decode(
    record: Record,
    *,
    category_ids: tuple[int, ...],
    ignored: frozenset[int],
    coding: MaskCoding,
) -> SegmentMap:
    """The classes present in one mask.

    Raises:
        FileNotFoundError: There is no such mask.
        ValueError: The mask is damaged, or has a value or colour that is no class (`FaultError`).
    """
    path = Path(record.annotation)
    values = read_values(path, coding)
    class_ids = {category_id: i for i, category_id in enumerate(category_ids)}
    present = [value for value in present_values(values) if value not in ignored]
    unknown = [value for value in present if value not in class_ids]
    if unknown:
        raise FaultError(
            f"mask {path} has pixel value {unknown[0]}, but classes have the values "
            f"{min(category_ids)} to {max(category_ids)} and {sorted(ignored)} is ignored; add the "
            f"class to the class list or set the ignore index",
            "unknown class",
        )
    segments = tuple(SegmentLabel(value, class_ids[value]) for value in present)
    return SegmentMap(values.astype(np.int32), segments)


def _ignored_values(listed: ClassList, ignore_index: int) -> set[int]:
    """Of 16-bit masks with more classes than a byte holds, the usual 255 is a class like others."""
    is_class = ignore_index in listed.names and max(listed.names) >= VALUES_OF_A_BYTE
    ignored = set() if is_class else {ignore_index}
    if listed.ignore_label is not None:
        ignored.add(listed.ignore_label)
    return ignored


def _tell_ignored(ignored: set[int]) -> str:
    if not ignored:
        return "No pixel value is ignored."
    values = " and ".join(str(value) for value in sorted(ignored))
    return f"Not scored and no class, whatever the class list says: pixel value {values}."


def _find_classes(
    folder: Path, splits: dict[str, Place], coding: MaskCoding, reading: Reading
) -> tuple[dict[int, str], set[int]]:
    """Classes from the pixel values of all splits, so that training and validation agree.

    Returns:
        Names by pixel value, and the values that are not scored. Masks of 0 and 255 alone are
        background and foreground, as binary masks are commonly saved.
    """
    paths = [path for place in splits.values() for path in list_masks(place)]
    found = set(_scan(folder, tuple(paths), coding, _stamp(paths)))
    if found == set(BINARY) and reading.ignore_index != 0:
        return dict(BINARY), set()
    found.discard(reading.ignore_index)
    if not found:
        raise ValueError(
            f"every pixel of the {len(paths)} masks of {folder} has the ignored value "
            f"{reading.ignore_index}; set another ignore index or correct the masks"
        )
    return {value: f"class {value}" for value in sorted(found)}, {reading.ignore_index}


@lru_cache(maxsize=8)
def _scan(
    folder: Path,
    paths: tuple[Path, ...],
    coding: MaskCoding,
    stamp: tuple[int, int],  # noqa: ARG001 changed files are to be read again
) -> frozenset[int]:
    """Pixel values of all masks; damaged ones are left to the reader that decodes them."""
    logger.info(
        "%s has no class list (%s); reading %d masks to find the pixel values",
        folder,
        ", ".join(FILE_NAMES),
        len(paths),
    )
    with ThreadPoolExecutor(min(8, num_cores())) as pool:
        found = pool.map(partial(_values_of, coding=coding), paths, chunksize=16)
        return frozenset().union(*found)


def _values_of(path: Path, coding: MaskCoding) -> list[int]:
    try:
        return present_values(read_values(path, coding))
    except ValueError:
        return []


def _stamp(paths: Sequence[Path]) -> tuple[int, int]:
    """Changes when a file is written anew: (newest time, bytes in all)."""
    stats = [path.stat() for path in paths]
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    return newest, sum(stat.st_size for stat in stats)


FORMAT = Format(
    name="png-masks",
    layouts=(
        "images/{split} + masks/{split}",
        "{split}/images + {split}/masks",
        "{split} + {split}annot",
        "images + masks",
        "{split}/*_mask.png + {split}/_classes.csv",
    ),
    find=find,
    read=read,
)
