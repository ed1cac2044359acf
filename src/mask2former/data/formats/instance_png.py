"""Objects of one class as pairs of an image and a PNG whose pixel values number the objects.

Layouts: Penn-Fudan's `PNGImages` and `PedMasks`, of pedestrians; or those of `png_masks`, where
the folder of masks is called instances, instance_masks or inst_masks. When the format is named by
the user, the folder names of `png_masks` are accepted as well. Value 0 is the background. All
pixels of a number are one object, connected or not.
"""

from pathlib import Path

import numpy as np

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.class_list import find_class_list, read_class_list
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import first_file, is_folder
from mask2former.data.formats.mask_folders import (
    MASK_SUFFIXES,
    Place,
    find_places,
    pair_files,
)
from mask2former.data.formats.mask_values import read_numbers
from mask2former.data.formats.png_masks import MASK_FOLDERS
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("instance", "panoptic", "semantic")
INSTANCE_FOLDERS = ("instances", "instance_masks", "inst_masks")
PENN_FUDAN = ("PNGImages", "PedMasks")
PENN_FUDAN_CLASS = "pedestrian"
ANY_CLASS = "object"
"""Where no class list names the class."""


def find(folder: Path) -> Found | None:
    """The folders of each split, if their names say that objects are numbered."""
    found = _found(folder, INSTANCE_FOLDERS)
    # masks beside their images and a list of classes are Roboflow's, of classes
    if found is None or any(place.images == place.masks for place in found.splits.values()):
        return None
    return found


def find_forced(folder: Path) -> Found | None:
    """The folders of each split; those that usually hold classes are taken as well."""
    return _found(folder, (*INSTANCE_FOLDERS, *MASK_FOLDERS))


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find` or `find_forced`.
        reading: Conventions, and what becomes of faults.

    Raises:
        ValueError: An image has no mask, or the class list has several classes.
    """
    place: Place = found.splits[split]
    is_penn_fudan = place.masks.name == PENN_FUDAN[1]
    name = _class_name(folder, place, PENN_FUDAN_CLASS if is_penn_fudan else ANY_CLASS)
    records = PackedRecords(
        Record(image_id=image_id, image=image, annotation=str(mask))
        for image_id, (image, mask) in pair_files(place, reading.problems).items()
    )
    notes = (
        f"A pixel value is the number of an object; all objects are of the class {name!r}.",
        "Pixel value 0 is no object; no value is ignored.",
    )
    classes = Classes(names=(name,), category_ids=(1,), is_thing=(True,))
    return Dataset(FORMAT.name, folder, split, classes, TASKS, records, decode, notes)


def decode(record: Record) -> SegmentMap:
    """The objects of one image, by number.

    Raises:
        FileNotFoundError: There is no such PNG.
        ValueError: The PNG is damaged.
    """
    ids = read_numbers(Path(record.annotation))
    numbers = np.unique(ids)
    return SegmentMap(ids, tuple(SegmentLabel(int(n), class_id=0) for n in numbers if n))


def _found(folder: Path, mask_folders: tuple[str, ...]) -> Found | None:
    images, masks = (folder / name for name in PENN_FUDAN)
    if is_folder(images) and first_file(masks, MASK_SUFFIXES):
        return Found(TASKS, {WHOLE: Place(images, masks)})
    splits = find_places(folder, mask_folders)
    return Found(TASKS, splits) if splits else None


def _class_name(folder: Path, place: Place, fallback: str) -> str:
    path = find_class_list(folder, place.images)
    if path is None:
        return fallback
    names = list(read_class_list(path).names.values())
    if len(names) > 1:
        raise ValueError(
            f"{path} lists {len(names)} classes, but numbers of objects do not say which object is "
            f"of which; name one class, or annotate the classes as COCO or VOC do"
        )
    return names[0]


FORMAT = Format(
    name="instance-png",
    layouts=(
        "PNGImages + PedMasks/*_mask.png",
        "images/{split} + instances/{split}",
        "{split}/images + {split}/instances",
        "images + instances",
    ),
    find=find,
    read=read,
    find_forced=find_forced,
)
