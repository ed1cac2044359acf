"""Cityscapes, straight from what is downloaded: `leftImg8bit` and `gtFine` or `gtCoarse`.

No script has to be run first. Of each image the first of `*_instanceIds.png`, `*_polygons.json`,
`*_labelIds.png` and `*_labelTrainIds.png` is read; the last two hold no objects.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.formats.listing import files_in, first_file, folders_in, is_file
from mask2former.data.formats.pairs import pair_by_name
from mask2former.data.formats.text_files import read_json_object
from mask2former.data.images import IMAGE_SUFFIXES, read_label_map
from mask2former.data.problems import Problems
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("panoptic", "semantic", "instance")
SEMANTIC_ONLY: tuple[Task, ...] = ("semantic",)
IMAGE_ENDING = "_leftImg8bit"
GROUND_TRUTHS = ("gtFine", "gtCoarse")
WITH_OBJECTS = ("instanceIds.png", "polygons.json")
LABEL_SUFFIXES = frozenset({".png", ".json"})
WITHOUT_OBJECTS = ("labelIds.png", "labelTrainIds.png")
NOT_SCORED = {
    "unlabeled": 0,
    "ego vehicle": 1,
    "rectification border": 2,
    "out of roi": 3,
    "static": 4,
    "dynamic": 5,
    "ground": 6,
    "parking": 9,
    "rail track": 10,
    "guard rail": 14,
    "bridge": 15,
    "tunnel": 16,
    "polegroup": 18,
    "caravan": 29,
    "trailer": 30,
}
"""Ids of the labels that are neither trained nor scored, by name; the class table has the others.

Source:
    cityscapesScripts `labels.py`, `ignoreInEval`.
"""
UNSCORED_WITH_OBJECTS = ("caravan", "trailer")
UNDRAWN = "license plate"
OBJECTS_PER_LABEL = 1000
"""A value of `*_instanceIds.png` is the label id, or this times the label id plus a number."""
IGNORED_TRAIN_ID = 255
SMALLEST_POLYGON = 2
"""Points; Pillow draws two as a line."""


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    images: Path
    labels: Path
    ground_truth: str
    """One of `GROUND_TRUTHS`, as in file names."""
    endings: tuple[str, ...]
    """Of the files to read, the preferred one first."""


def find(folder: Path) -> Found | None:
    """The folders of each split that has annotations."""
    splits: dict[str, Place] = {}
    for images in folders_in(folder / "leftImg8bit"):
        for ground_truth in GROUND_TRUTHS:
            labels = folder / ground_truth / images.name
            endings = _endings(labels, ground_truth)
            if endings and images.name not in splits:
                splits[images.name] = Place(images, labels, ground_truth, endings)
    if not splits:
        return None
    with_objects = all(place.endings[0] in WITH_OBJECTS for place in splits.values())
    return Found(TASKS if with_objects else SEMANTIC_ONLY, splits)


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: What becomes of faults; the ignored values are Cityscapes' own.

    Raises:
        ValueError: An image has no annotation.
    """
    place: Place = found.splits[split]
    records = PackedRecords(
        Record(
            image_id=name,
            image=image,
            annotation=(annotation.name.rpartition("_")[2], str(annotation)),
            group=name.rpartition("_")[0],
        )
        for name, (image, annotation) in _pairs(place, reading.problems).items()
    )
    tasks = TASKS if place.endings[0] in WITH_OBJECTS else SEMANTIC_ONLY
    classes = class_table("cityscapes")
    notes = _notes(split, place)
    return Dataset(FORMAT.name, folder, split, classes, tasks, records, decode, notes)


def decode(record: Record) -> SegmentMap:
    """The labels of one image.

    With objects: an id below 1000 of a class that has objects marks a group of them and is a
    crowd; labels that are not scored are unlabelled.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds what is no label of Cityscapes.

    Source:
        cityscapesScripts `createPanopticImgs`, with label ids; ids of segments are the same.
    """
    ending, name = record.annotation
    path = Path(name)
    if ending == "labelTrainIds.png":
        return _from_train_ids(read_label_map(path), path)
    ids = _draw_polygons(path) if ending == "polygons.json" else read_label_map(path)
    class_ids = class_table("cityscapes").class_id_by_category()
    segments = []
    for value in np.unique(ids).tolist():
        is_one_object = value >= OBJECTS_PER_LABEL
        label = value // OBJECTS_PER_LABEL if is_one_object else value
        if label in class_ids:
            class_id = class_ids[label]
            has_objects = ending in WITH_OBJECTS and class_table("cityscapes").is_thing[class_id]
            is_crowd = has_objects and not is_one_object
            segments.append(SegmentLabel(value, class_id, is_crowd))
        elif label not in NOT_SCORED.values():
            raise ValueError(
                f"{path} has value {value}, which is no label of Cityscapes (0 to 33, or 1000 "
                f"times a label plus a number for an object); correct the file or take the image "
                f"out"
            )
    return SegmentMap(ids.astype(np.int32), tuple(segments))


def _endings(labels: Path, ground_truth: str) -> tuple[str, ...]:
    """What the first city with annotations has, of the kinds with objects if there are any."""
    for city in folders_in(labels):
        for kinds in (WITH_OBJECTS, WITHOUT_OBJECTS):
            endings = tuple(kind for kind in kinds if _holds(city, f"_{ground_truth}_{kind}"))
            if endings:
                return endings
    return ()


def _holds(city: Path, ending: str) -> bool:
    path = Path(ending)
    return first_file(city, {path.suffix}, ending=path.stem) is not None


def _pairs(place: Place, problems: Problems) -> dict[str, tuple[Path, Path]]:
    """Image and annotation of each image that has one, by name."""
    images: dict[str, Path] = {}
    for city in folders_in(place.images):
        for path in files_in(city, IMAGE_SUFFIXES):
            if path.stem.endswith(IMAGE_ENDING):
                images[path.stem.removesuffix(IMAGE_ENDING)] = path
    annotations: dict[str, Path] = {}
    for city in folders_in(place.labels):
        paths = files_in(city, LABEL_SUFFIXES)
        for ending in place.endings:
            suffix = f"_{place.ground_truth}_{ending}"
            for path in paths:
                if path.name.endswith(suffix):
                    annotations.setdefault(path.name.removesuffix(suffix), path)
    wanted = " or ".join(f"*_{place.ground_truth}_{ending}" for ending in place.endings)
    mend = f"add {wanted} or take the image out"
    return pair_by_name(images, annotations, place.labels, problems, mend=mend)


def _from_train_ids(values: NDArray[np.integer], path: Path) -> SegmentMap:
    classes = class_table("cityscapes")
    present = [value for value in np.unique(values).tolist() if value != IGNORED_TRAIN_ID]
    wrong = [value for value in present if not 0 <= value < len(classes)]
    if wrong:
        raise ValueError(
            f"{path} has value {wrong[0]}; train ids are 0 to {len(classes) - 1} and "
            f"{IGNORED_TRAIN_ID} for what is not scored: correct the file or take the image out"
        )
    ids = np.where(values == IGNORED_TRAIN_ID, 0, values.astype(np.int32) + 1)
    return SegmentMap(ids, tuple(SegmentLabel(value + 1, value) for value in present))


def _draw_polygons(path: Path) -> Int32[np.ndarray, "h w"]:
    """What `*_instanceIds.png` would hold: polygons drawn in file order, later ones above.

    Source:
        cityscapesScripts `json2instanceImg`: deleted objects and those without an id are left out;
        a name that ends in "group" and is no label itself means several objects of a label.
    """
    size_wh, objects = _read_polygons(path)
    canvas = Image.new("I", size_wh, NOT_SCORED["unlabeled"])
    draw = ImageDraw.Draw(canvas)
    num_objects: dict[str, int] = {}
    for label, points in objects:
        value = _polygon_value(label, num_objects, path)
        if value is not None:
            draw.polygon(points, fill=value)
    return np.array(canvas, np.int32)


def _read_polygons(path: Path) -> tuple[tuple[int, int], list[tuple[str, list]]]:
    """(width, height) in pixels, label and points (x, y) of each object that is not deleted."""
    if not is_file(path):
        raise FileNotFoundError(f"no polygon file at {path}; restore it or correct the path")
    content = read_json_object(path)
    try:
        objects = [
            (str(entry["label"]), [(float(x), float(y)) for x, y in entry["polygon"]])
            for entry in content["objects"]
            if not entry.get("deleted")
        ]
        size_wh = (int(content["imgWidth"]), int(content["imgHeight"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"cannot read {path} ({type(error).__name__}: {error}); a polygon file has imgWidth, "
            f"imgHeight and objects, each with label and polygon: restore it"
        ) from error
    short = [label for label, points in objects if len(points) < SMALLEST_POLYGON]
    if short:
        raise ValueError(
            f"{path} has a {short[0]!r} whose polygon has fewer than {SMALLEST_POLYGON} points; "
            f"correct it or mark the object as deleted"
        )
    return size_wh, objects


def _polygon_value(label: str, num_objects: dict[str, int], path: Path) -> int | None:
    """Pixel value of the next polygon of a label; none if it is not drawn."""
    classes = class_table("cityscapes")
    ids = dict(zip(classes.names, classes.category_ids, strict=True)) | NOT_SCORED
    if label == UNDRAWN:
        return None
    name = label if label in ids else label.removesuffix("group")
    if name not in ids:
        raise ValueError(
            f"{path} has an object with the label {label!r}, which is no label of Cityscapes; "
            f"correct it or mark the object as deleted"
        )
    is_thing = dict(zip(classes.names, classes.is_thing, strict=True))
    if name != label or not (is_thing.get(name) or name in UNSCORED_WITH_OBJECTS):
        return ids[name]
    number = num_objects.get(name, 0)
    num_objects[name] = number + 1
    return ids[name] * OBJECTS_PER_LABEL + number


def _notes(split: str, place: Place) -> tuple[str, ...]:
    notes = [
        f"Labels are read from {' or '.join('*_' + ending for ending in place.endings)} in "
        f"{place.labels}.",
        f"Not scored are {', '.join(NOT_SCORED)} and {UNDRAWN}.",
    ]
    if place.endings[0] in WITH_OBJECTS:
        notes.append(
            "Groups of persons, riders or vehicles that nobody could tell apart are crowds: the "
            "class counts for semantic segmentation, and they are neither objects to learn nor "
            "mistakes to find."
        )
    if place.ground_truth == "gtCoarse":
        notes.append("The annotations are coarse: much of each image is unlabelled.")
    if split == "test":
        notes.append(
            "The published labels of the test split are dummies without any class; only the "
            "benchmark's server can score it."
        )
    return tuple(notes)


FORMAT = Format(
    name="cityscapes",
    layouts=(
        "leftImg8bit/{split}/{city}/*_leftImg8bit.png with gtFine/{split}/{city}/"
        "*_{instanceIds.png, polygons.json, labelIds.png or labelTrainIds.png}",
    ),
    find=find,
    read=read,
)
