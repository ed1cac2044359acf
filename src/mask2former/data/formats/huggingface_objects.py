"""The segments and objects of one row of a Hugging Face data set, checked."""

import json
from typing import Any, NamedTuple

import numpy as np

from mask2former.data.dataset import Record
from mask2former.data.formats.huggingface_columns import OBJECT_MASKS, as_objects, category_of
from mask2former.data.formats.listing import first_few
from mask2former.data.problems import Problems
from mask2former.types import Classes

SMALLEST_POLYGON = 3
"""Points"""


class PackedObject(NamedTuple):
    """One object as it lies in a record."""

    class_id: int
    mask: tuple[list[float], ...] | dict
    """Polygons as x, y, x, y, ...; or run lengths."""
    is_crowd: bool
    area: float | None


class PackedSegment(NamedTuple):
    """One segment as it lies in a record."""

    id: int
    class_id: int
    is_crowd: bool


def read_segments(
    value: Any, record: Record, classes: Classes, problems: Problems
) -> tuple[PackedSegment, ...]:
    """The segments of one image; what is wrong is told and left out.

    Args:
        value: As in the table.
        record: Of the image.
        classes: Of the data set.
        problems: What is told of faults.
    """
    segments: dict[int, PackedSegment] = {}
    for entry in _entries(value, record, problems):
        class_id = _class_id(entry, record, classes, problems)
        id_ = entry.get("id")
        if not isinstance(id_, int) or id_ < 1 or id_ in segments:
            problems.error(
                "bad segment",
                f"{record.image}: segment id {id_!r} is no positive number or occurs twice; number "
                f"the segments of an image from 1, in the table and in the mask",
                file=record.image,
                image_id=record.image_id,
            )
        elif class_id is not None:
            segments[id_] = PackedSegment(id_, class_id, bool(entry.get("iscrowd") or False))
    return tuple(segments.values())


def read_objects(
    value: Any, record: Record, classes: Classes, problems: Problems
) -> list[PackedObject]:
    """The objects of one image; what is wrong is told and left out.

    Args:
        value: As in the table.
        record: Of the image.
        classes: Of the data set.
        problems: What is told of faults.
    """
    objects = []
    for number, entry in enumerate(_entries(value, record, problems)):
        class_id = _class_id(entry, record, classes, problems)
        segmentation = next((entry[n] for n in OBJECT_MASKS if entry.get(n) is not None), None)
        try:
            mask = _read_mask(segmentation)
        except (TypeError, ValueError) as error:
            problems.error(
                "bad polygon",
                f"{record.image}: object {number} has a segmentation that is no polygon and no "
                f"run-length encoding ({error}); give x, y, x, y, ... in pixels, or size and "
                f"counts",
                file=record.image,
                image_id=record.image_id,
            )
            continue
        if class_id is not None:
            area = entry.get("area")
            is_crowd = bool(entry.get("iscrowd") or False)
            objects.append(
                PackedObject(class_id, mask, is_crowd, None if area is None else float(area))
            )
    return objects


def _entries(value: Any, record: Record, problems: Problems) -> list[dict[str, Any]]:
    try:
        return as_objects(value)
    except ValueError as error:
        problems.error(
            "unreadable annotation",
            f"{record.image}: {error}; give one list of objects, or lists of equal length",
            file=record.image,
            image_id=record.image_id,
        )
        return []


def _read_mask(segmentation: Any) -> tuple[list[float], ...] | dict:
    """Polygons as flat lists, whichever way they nest points; or run lengths.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(segmentation, str):
        segmentation = json.loads(segmentation)
    if isinstance(segmentation, dict):
        if not {"size", "counts"} <= segmentation.keys():
            raise ValueError(f"it has the keys {sorted(segmentation)}")
        return {"size": segmentation["size"], "counts": segmentation["counts"]}
    depth = _depth(segmentation)
    # one part as numbers, as points; several as numbers, as points
    is_one = depth == 1 or (depth == 2 and all(len(part) == 2 for part in segmentation))
    parts = [segmentation] if is_one else segmentation
    if depth == 0 or not parts:
        raise ValueError("it is empty")
    flat = tuple(np.asarray(part, np.float64).ravel().tolist() for part in parts)
    wrong = [len(part) for part in flat if len(part) % 2 or len(part) < 2 * SMALLEST_POLYGON]
    if wrong:
        raise ValueError(f"a part has {wrong[0]} numbers")
    return flat


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list | tuple) and len(value) else 0


def _class_id(
    entry: dict[str, Any], record: Record, classes: Classes, problems: Problems
) -> int | None:
    category = category_of(entry)
    if isinstance(category, str) and category in classes.names:
        return classes.names.index(category)
    class_id = classes.class_id_by_category().get(category) if isinstance(category, int) else None
    if class_id is None:
        problems.error(
            "unknown class",
            f"{record.image} has an object of category {category!r}; known are "
            f"{first_few(classes.category_ids)}: correct it, or add the class to id2label.json",
            file=record.image,
            image_id=record.image_id,
        )
    return class_id
