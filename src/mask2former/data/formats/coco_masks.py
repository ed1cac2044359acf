"""Masks as COCO's files write them, and the objects of a record that holds some."""

import math
from typing import Any, TypeAlias

import numpy as np

from mask2former.data.annotations import Box, Instance, Instances
from mask2former.data.dataset import Record
from mask2former.data.problems import FaultError
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import canonical_rle, rle_area

FARTHEST_POINT = 1e6
"""Pixels; a coordinate beyond is damage, and would overflow pycocotools' integers."""
PackedObject: TypeAlias = tuple[int, list | dict, bool, float | None, int | None, Box | None]
"""Class id, polygons or RLE, is crowd, area in pixels (none: count it), track id, box."""


def parse_segmentation(segmentation: Any, height: int, width: int) -> tuple[list | dict, int]:
    """Polygons or a compressed RLE, and how many polygons of fewer than 3 points were dropped.

    Args:
        segmentation: Of one object on one image, as in the file.
        height: Of the image in pixels.
        width: Of the image in pixels.

    Raises:
        FaultError: It is no mask of such an image; the message goes on after the object's name.
    """
    if isinstance(segmentation, dict):
        return _parse_rle(segmentation, height, width), 0
    if not segmentation:
        raise FaultError(
            "has no mask, only a box; give it a 'segmentation' (polygons or run lengths), since "
            "masks cannot be learnt from boxes",
            "no mask",
        )
    if not isinstance(segmentation, list) or not all(isinstance(p, list) for p in segmentation):
        raise FaultError(
            "has a segmentation that is neither a list of polygons [[x1, y1, x2, y2, ...], ...] "
            "nor a run-length encoding; write it as one of these",
            "bad polygon",
        )
    for part in segmentation:
        if len(part) % 2:
            raise FaultError(
                f"has a polygon of {len(part)} numbers; x and y come in pairs", "bad polygon"
            )
        if part and not _is_near(part):
            raise FaultError(
                f"has a polygon with a coordinate that is no number or beyond "
                f"{FARTHEST_POINT:.0f} pixels; correct it",
                "bad polygon",
            )
    parts = [part for part in segmentation if len(part) >= 6]
    return parts, len(segmentation) - len(parts)


def decode_objects(record: Record) -> Instances:
    """The objects of one image, from a record that holds `PackedObject`s and its size."""
    height, width = record.height, record.width
    assert height is not None, "readers check that every image has a size"
    assert width is not None
    items = []
    for class_id, segmentation, is_crowd, area, track_id, box in record.annotation:
        mask = segmentation if isinstance(segmentation, dict) else _points(segmentation)
        if area is None:
            area = rle_area(mask_to_rle(mask, height, width))
        items.append(Instance(class_id, mask, is_crowd, float(area), track_id, box))
    return Instances(height, width, tuple(items))


def known_area(area: Any) -> float | None:
    """An area in pixels as in the file; none, to be counted, where that is no such number."""
    return float(area) if isinstance(area, int | float) and 0 <= area < math.inf else None


def known_box(box: Any) -> Box | None:
    """A box (x, y, width, height) as in the file; none where that is no box, or one of no size.

    Tools that write no boxes fill the entry with zeros, or leave it empty.
    """
    if not isinstance(box, list) or len(box) != 4 or not _is_near(box):
        return None
    x, y, width, height = map(float, box)
    is_box = min(width, height) >= 0 and max(width, height) > 0
    return (x, y, width, height) if is_box else None


def _parse_rle(segmentation: dict, height: int, width: int) -> dict:
    if not {"size", "counts"} <= set(segmentation):
        raise FaultError(
            f"has a segmentation with {sorted(map(str, segmentation))}; a run-length encoding has "
            f"'size' and 'counts'",
            "bad run lengths",
        )
    try:
        return canonical_rle(segmentation, height, width)
    except (ValueError, TypeError, OverflowError) as error:
        raise FaultError(
            f"has run lengths that cannot be read: {error}", "bad run lengths"
        ) from error


def _is_near(numbers: list) -> bool:
    try:
        # the sum finds a NaN, which `min` and `max` may step over
        near = min(numbers) > -FARTHEST_POINT and max(numbers) < FARTHEST_POINT
        return near and not math.isnan(sum(numbers))
    except TypeError:
        return False


def _points(parts: list) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(part, np.float64).reshape(-1, 2) for part in parts)
