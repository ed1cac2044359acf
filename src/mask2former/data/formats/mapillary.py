"""Mapillary Vistas, versions 1.2 and 2.0, straight from what is downloaded.

Of each split the first of `panoptic` (with its JSON), `instances` and `labels` is read; the last
holds no objects. A folder with both versions is read as 1.2, which the published models know,
unless the other format is named.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import (
    JSON,
    PNG,
    files_by_stem,
    files_in,
    first_file,
    is_folder,
)
from mask2former.data.formats.mapillary_labels import Label, read_labels
from mask2former.data.formats.pairs import pair_by_name
from mask2former.data.formats.splits import split_folders
from mask2former.data.formats.text_files import read_json_object
from mask2former.data.images import IMAGE_SUFFIXES, read_label_map, read_panoptic_ids
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("panoptic", "semantic", "instance")
SEMANTIC_ONLY: tuple[Task, ...] = ("semantic",)
KINDS = ("panoptic", "instances", "labels")
OBJECTS_PER_LABEL = 256
"""A value of `instances/*.png` is this times the value of `labels/*.png` plus a number."""
KEY = re.compile(r"[A-Za-z0-9_-]{22}")
"""How Mapillary names its images."""


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    images: Path
    annotations: Path
    """The folder that holds `kind`."""
    kind: str
    """One of `KINDS`, or "" where label PNGs lie in the folder itself."""


def find(folder: Path, *, version: str) -> Found | None:
    """The folders of each split that has annotations of a version, "v1.2" or "v2.0"."""
    splits = {
        name: place
        for name, images, annotations in _candidates(folder, version)
        if (place := _look(images, annotations)) is not None
        and (annotations.name == version or _is_vistas(place))
    }
    if not splits:
        return None
    with_objects = all(map(_has_objects, splits.values()))
    return Found(TASKS if with_objects else SEMANTIC_ONLY, splits)


def read(folder: Path, split: str, found: Found, reading: Reading, *, version: str) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: What becomes of faults; the ignored values are Mapillary's own.
        version: As for `find`.

    Raises:
        ValueError: An image has no annotation, or a JSON file is damaged.
    """
    place: Place = found.splits[split]
    labels, labels_from = read_labels(folder, version)
    scored = [i for i, label in enumerate(labels) if label.is_scored]
    classes = Classes(
        names=tuple(labels[i].name for i in scored),
        category_ids=tuple(i + 1 for i in scored),
        is_thing=tuple(labels[i].is_thing for i in scored),
    )
    records = _panoptic_records if place.kind == "panoptic" else _label_records
    tasks = TASKS if _has_objects(place) else SEMANTIC_ONLY
    return Dataset(
        f"mapillary-{version}",
        folder,
        split,
        classes,
        tasks,
        PackedRecords(records(place, labels, reading)),
        partial(decode, classes=classes, num_labels=len(labels)),
        _notes(place, labels, labels_from),
    )


def decode(record: Record, *, classes: Classes, num_labels: int) -> SegmentMap:
    """The labels of one image; those that are not scored are unlabelled.

    Raises:
        FileNotFoundError: There is no such PNG.
        ValueError: A PNG is damaged or has values that are no labels.
    """
    kind, name, segments = record.annotation
    path = Path(name)
    if kind == "panoptic":
        ids = read_panoptic_ids(path)
        return SegmentMap(ids, tuple(SegmentLabel(*segment) for segment in segments))
    values = read_label_map(path).astype(np.int32)
    if kind == "instances":
        return _from_values(values, OBJECTS_PER_LABEL, classes, num_labels, path)
    return _from_values(values, 1, classes, num_labels, path)


def _from_values(
    values: Int32[np.ndarray, "h w"], per_label: int, classes: Classes, num_labels: int, path: Path
) -> SegmentMap:
    """One segment a value, but one a label where the label is stuff; ids are values + 1."""
    class_ids = classes.class_id_by_category()
    present = np.unique(values)
    wrong = [value for value in present.tolist() if not 0 <= value < num_labels * per_label]
    if wrong:
        raise ValueError(
            f"{path} has value {wrong[0]}, which stands for label {wrong[0] // per_label}; this "
            f"version of Mapillary Vistas has the labels 0 to {num_labels - 1}: name the other "
            f"version as format, or restore the file"
        )
    segments: dict[int, SegmentLabel] = {}
    table = np.zeros(int(present.max(initial=0)) + 1, np.int32)
    for value in present.tolist():
        label = value // per_label
        class_id = class_ids.get(label + 1)
        if class_id is not None:
            id_ = (value if classes.is_thing[class_id] else label * per_label) + 1
            table[value] = id_
            segments[id_] = SegmentLabel(id_, class_id)
    return SegmentMap(table[values], tuple(segments.values()))


def _candidates(folder: Path, version: str) -> Iterator[tuple[str, Path, Path]]:
    """Name, images and annotations of every split there may be, the versions' own folders first."""
    for name, below in (split_folders(folder) or {WHOLE: folder}).items():
        if is_folder(below / version):
            yield name, below / "images", below / version
        elif version == "v1.2" and name != WHOLE and not is_folder(below / "v2.0"):
            yield name, below / "images", below


def _look(images: Path, annotations: Path) -> Place | None:
    if first_file(images, IMAGE_SUFFIXES) is None:
        return None
    if _panoptic_json(annotations) is not None:
        return Place(images, annotations, "panoptic")
    for kind in ("instances", "labels", ""):
        if first_file(annotations / kind, PNG) is not None:
            return Place(images, annotations, kind)
    return None


def _is_vistas(place: Place) -> bool:
    """Where the folder is not named for a version: other data sets have images and labels, too."""
    json_file = _panoptic_json(place.annotations)
    if json_file is not None:
        return json_file.name == "panoptic_2018.json"
    image = first_file(place.images, IMAGE_SUFFIXES)
    return image is not None and KEY.fullmatch(image.stem) is not None


def _has_objects(place: Place) -> bool:
    return place.kind in ("panoptic", "instances")


def _panoptic_json(annotations: Path) -> Path | None:
    paths = files_in(annotations / "panoptic", JSON)
    return next((path for path in paths if path.name.startswith("panoptic_")), None)


def _label_records(place: Place, labels: list[Label], reading: Reading) -> Iterator[Record]:  # noqa: ARG001 one signature for both kinds
    folder = place.annotations / place.kind
    images = files_by_stem(place.images, IMAGE_SUFFIXES)
    pairs = pair_by_name(images, files_by_stem(folder, PNG), folder, reading.problems)
    for name, (image, png) in pairs.items():
        yield Record(image_id=name, image=image, annotation=(place.kind, str(png), ()))


def _panoptic_records(place: Place, labels: list[Label], reading: Reading) -> Iterator[Record]:
    path = _panoptic_json(place.annotations)
    assert path is not None
    content = read_json_object(path)
    try:
        class_ids = _class_ids(content["categories"], labels)
        sizes = {i["id"]: (i.get("height"), i.get("width")) for i in content["images"]}
        segments = {
            entry["image_id"]: [
                (s["id"], s["category_id"], bool(s.get("iscrowd", 0)))
                for s in entry["segments_info"]
            ]
            for entry in content["annotations"]
        }
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no panoptic annotation file ({type(error).__name__}: {error}): restore it"
        ) from error
    images = files_by_stem(place.images, IMAGE_SUFFIXES)
    pngs = files_by_stem(path.parent, PNG)
    listed = {name: png for name, png in pngs.items() if name in segments}
    for name, (image, png) in pair_by_name(images, listed, path, reading.problems).items():
        unknown = {category for _, category, _ in segments[name]} - class_ids.keys()
        if unknown:
            reading.problems.error(
                "unknown class",
                f"{path}: image {name} has segments of category {min(unknown)}, which "
                f"'categories' does not list; correct it or add the category",
                file=path,
                image_id=name,
            )
        height, width = sizes.get(name, (None, None))
        kept = tuple(
            (id_, class_id, is_crowd)
            for id_, category, is_crowd in segments[name]
            if (class_id := class_ids.get(category)) is not None
        )
        annotation = (place.kind, str(png), kept)
        yield Record(name, image, annotation, height=height, width=width)


def _class_ids(categories: list[dict], labels: list[Label]) -> dict[int, int | None]:
    """Class id by category id; none for labels that are not scored."""
    scored = [i for i, label in enumerate(labels) if label.is_scored]
    by_name = {label.name: i for i, label in enumerate(labels)}
    class_ids: dict[int, int | None] = {}
    for category in categories:
        place = by_name.get(str(category.get("name")), category["id"] - 1)
        class_ids[category["id"]] = scored.index(place) if place in scored else None
    return class_ids


def _notes(place: Place, labels: list[Label], labels_from: str) -> tuple[str, ...]:
    unscored = ", ".join(label.name for label in labels if not label.is_scored)
    notes = (
        f"Annotations are read from {place.annotations / place.kind}.",
        f"Labels and what is scored come from {labels_from}; not scored: {unscored}.",
    )
    if _has_objects(place):
        return notes
    return (*notes, "Label PNGs hold no objects, so only semantic segmentation is possible.")


def _format(version: str, layout: str) -> Format:
    return Format(
        name=f"mapillary-{version}",
        layouts=(layout,),
        find=partial(find, version=version),
        read=partial(read, version=version),
    )


FORMAT_V1 = _format(
    "v1.2",
    "{split}/images with {split}/v1.2/{panoptic, instances or labels}, or these folders in "
    "{split} itself",
)
FORMAT_V2 = _format("v2.0", "{split}/images with {split}/v2.0/{panoptic, instances or labels}")
FORMATS = (FORMAT_V1, FORMAT_V2)
"""In order of preference."""
