"""ADE20K scene parsing (SceneParsing150), straight from what is downloaded.

`annotations` has a class per pixel, `annotations_instance` the objects. The prepared folder
`annotations_detectron2` takes the place of the first where it is absent.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np

from mask2former.data.annotations import Layered, SegmentLabel, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import PNG, files_by_stem, first_file, is_file
from mask2former.data.formats.pairs import pair_by_name
from mask2former.data.formats.splits import split_folders
from mask2former.data.images import IMAGE_SUFFIXES, read_label_map, read_panoptic_ids
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("semantic", "panoptic", "instance")
SEMANTIC_ONLY: tuple[Task, ...] = ("semantic",)
ARCHIVE = "ADEChallengeData2016"
SIGNS = ("objectInfo150.txt", "sceneCategories.txt")
PREFIX = "ADE_"
RAW = "annotations"
PREPARED = "annotations_detectron2"
OBJECTS = "annotations_instance"
UNSCORED_PREPARED = 255


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    images: Path
    semantic: Path
    is_prepared: bool
    """True: values are class ids; False: class ids + 1."""
    objects: Path | None


def find(folder: Path) -> Found | None:
    """The folders of each split, in the folder or in `ADEChallengeData2016` below it."""
    for root in (folder, folder / ARCHIVE):
        splits = _find_splits(root)
        if splits and _is_ade20k(root, next(iter(splits.values()))):
            with_objects = all(place.objects is not None for place in splits.values())
            return Found(TASKS if with_objects else SEMANTIC_ONLY, splits)
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
    images = files_by_stem(place.images, IMAGE_SUFFIXES)
    semantic = files_by_stem(place.semantic, PNG)
    pairs = pair_by_name(images, semantic, place.semantic, reading.problems)
    objects: dict[str, str | None] = dict.fromkeys(pairs)
    if place.objects is not None:
        there = files_by_stem(place.objects, PNG)
        kept = {name: image for name, (image, _) in pairs.items()}
        found_objects = pair_by_name(kept, there, place.objects, reading.problems)
        objects = {name: str(path) for name, (_, path) in found_objects.items()}
    records = PackedRecords(
        Record(
            image_id=name,
            image=pairs[name][0],
            annotation=(str(pairs[name][1]), place.is_prepared, objects_path),
        )
        for name, objects_path in objects.items()
    )
    tasks = SEMANTIC_ONLY if place.objects is None else TASKS
    classes = class_table("ade20k")
    notes = _notes(place)
    return Dataset(FORMAT.name, folder, split, classes, tasks, records, decode, notes)


def decode(record: Record) -> SegmentMap | Layered:
    """A class per pixel and, if annotated, the objects.

    Raises:
        FileNotFoundError: There is no such PNG.
        ValueError: A PNG is damaged or has values that are none of ADE20K's.

    Source:
        The authors' `prepare_ade20k_{sem,ins,pan}_seg.py`.
    """
    name, is_prepared, objects_name = record.annotation
    path = Path(name)
    semantic = _read_semantic(path, is_prepared)
    if objects_name is None:
        return semantic
    objects_path = Path(objects_name)
    objects = _read_objects(objects_path)
    if objects.ids.shape != semantic.ids.shape:
        raise ValueError(
            f"{objects_path} has size (h, w) = {objects.ids.shape} but {path} has "
            f"{semantic.ids.shape}; restore the one that is wrong"
        )
    return Layered(objects, semantic)


def _find_splits(root: Path) -> dict[str, Place]:
    images = root / "images"
    names = list(split_folders(images))
    splits = {}
    for split, below in [(name, name) for name in names] or [(WHOLE, ".")]:
        for name in (RAW, PREPARED):
            semantic, objects = root / name / below, root / OBJECTS / below
            if first_file(images / below, IMAGE_SUFFIXES) and first_file(semantic, PNG):
                has_objects = first_file(objects, PNG) is not None
                splits[split] = Place(
                    images / below, semantic, name == PREPARED, objects if has_objects else None
                )
                break
    return splits


def _is_ade20k(root: Path, place: Place) -> bool:
    """Other data sets have folders of these names, too."""
    image = first_file(place.images, IMAGE_SUFFIXES)
    named = image is not None and image.name.startswith(PREFIX)
    return named or any(is_file(root / sign) for sign in SIGNS)


def _read_semantic(path: Path, is_prepared: bool) -> SegmentMap:
    """Class ids + 1; 0 is unlabelled."""
    ids = read_label_map(path).astype(np.int32)
    if is_prepared:
        ids = np.where(ids == UNSCORED_PREPARED, 0, ids + 1)
    num_classes = len(class_table("ade20k"))
    present = [value for value in np.unique(ids).tolist() if value != 0]
    wrong = [value for value in present if not 0 < value <= num_classes]
    if wrong:
        shown = wrong[0] - 1 if is_prepared else wrong[0]
        accepted = (
            f"0 to {num_classes - 1}, and {UNSCORED_PREPARED} for what is not scored"
            if is_prepared
            else f"1 to {num_classes}, and 0 for what is not scored"
        )
        raise ValueError(
            f"{path} has value {shown}; ADE20K's classes are {accepted}: restore the file, or "
            f"name another format if this is another data set"
        )
    return SegmentMap(ids, tuple(SegmentLabel(value, value - 1) for value in present))


def _read_objects(path: Path) -> SegmentMap:
    """Ids are the numbers in the green channel, classes those in the red one."""
    colors = read_panoptic_ids(path)
    labels, numbers = colors & 255, colors >> 8 & 255
    pairs = np.unique(labels + 256 * numbers)  # (labels, numbers) that occur
    class_ids = _class_ids_of_objects()
    segments = []
    for pair in pairs.tolist():
        number, label = divmod(pair, 256)
        if number == 0:
            continue
        if label not in class_ids:
            raise ValueError(
                f"{path} has an object (green = {number}) of class {label} (red); classes of "
                f"objects are 1 to {len(class_ids)}: restore the file or take the image out"
            )
        segments.append(SegmentLabel(number, class_ids[label]))
    _check_one_class_each(segments, path)
    return SegmentMap(numbers, tuple(segments))


def _check_one_class_each(segments: list[SegmentLabel], path: Path) -> None:
    for one, next_one in pairwise(segments):
        if one.id == next_one.id:
            raise ValueError(
                f"object {one.id} (green) of {path} has two classes (red); number its objects "
                f"apart or take the image out"
            )


@cache
def _class_ids_of_objects() -> dict[int, int]:
    """Class id by the class number of `annotations_instance`."""
    file = files("mask2former.data").joinpath("classes", "ade20k_instance_ids.json")
    class_ids = json.loads(file.read_text(encoding="utf-8"))["class_ids"]
    return dict(enumerate(class_ids, start=1))


def _notes(place: Place) -> tuple[str, ...]:
    unscored = UNSCORED_PREPARED if place.is_prepared else 0
    notes = [
        f"Pixel value {unscored} of {place.semantic} means other and is not scored.",
        "Class names are those of the authors' models.",
    ]
    if place.objects is None:
        notes.append(
            f"There are no objects: {OBJECTS} was not found, so only semantic segmentation can be "
            f"trained and scored."
        )
    else:
        notes.append(
            f"Objects are read from {place.objects}. For panoptic segmentation they cover the "
            f"stuff, and pixels of things that belong to no object are not scored."
        )
    return tuple(notes)


FORMAT = Format(
    name="ade20k",
    layouts=(
        "images/{split} + annotations/{split} (or annotations_detectron2), maybe "
        "annotations_instance/{split}, with images ADE_* or objectInfo150.txt",
    ),
    find=find,
    read=read,
)
