"""The objects of one image as a table of numbers, and what is wrong with their outlines."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from mask2former.check.findings import Finding, finding
from mask2former.data.annotations import Annotations, Instance, Instances, SegmentMap
from mask2former.masks.id_maps import compact_ids
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import coco_mask
from mask2former.types import Classes

OBJECT = np.dtype(
    [
        ("class_id", np.int32),
        ("is_crowd", np.bool_),
        ("area", np.float64),
        ("height", np.float32),
        ("width", np.float32),
    ]
)
"""Area in pixels inside the image; height and width of the box around them."""
ObjectTable: TypeAlias = np.ndarray
"""One `OBJECT` an entry, in file order."""

OUTSIDE_TOLERANCE = 1.0
"""Pixels; outlines drawn along the border round beyond it."""
SAME_OBJECT_IOU = 0.95
"""Two outlines of one class that agree so well were drawn twice."""
MIN_POLYGON_AREA = 1e-3
"""In square pixels: less is a line, whatever the rounding."""


class Objects(NamedTuple):
    """What an image shows."""

    table: ObjectTable
    """As `OBJECT`, in file order."""
    overlap: int
    unlabelled: int
    findings: list[Finding]
    """What is wrong with their outlines."""


NO_OBJECTS = Objects(np.zeros(0, OBJECT), overlap=0, unlabelled=0, findings=[])


def look_at_objects(annotations: Annotations, classes: Classes, image: str) -> Objects:
    """Measure the objects or segments of an image; `image` names it."""
    if isinstance(annotations, SegmentMap):
        return _look_at_segments(annotations)
    rles = _rles(annotations)
    table = np.zeros(len(rles), OBJECT)
    boxes = np.zeros((0, 4))
    if rles:
        boxes = coco_mask.toBbox(rles)
        table["area"] = coco_mask.area(rles)
        table["width"], table["height"] = boxes[:, 2], boxes[:, 3]
    table["class_id"] = [item.class_id for item in annotations.items]
    table["is_crowd"] = [item.is_crowd for item in annotations.items]
    findings: list[Finding] = []
    for position, item in enumerate(annotations.items):
        name = f"object {position + 1} ({classes.names[item.class_id]}) of {image}"
        findings += _judge_outline(item, annotations, float(table["area"][position]), name)
    overlap = _overlap(rles, table)
    if overlap:
        findings += _drawn_twice(rles, table, boxes, classes, image)
    return Objects(table, overlap, unlabelled=0, findings=findings)


def overlap_of(annotations: Annotations) -> int:
    """Pixels counted once for every object, crowds apart, beyond the first that covers them."""
    if isinstance(annotations, SegmentMap):
        return 0
    rles = _rles(annotations)
    table = np.zeros(len(rles), OBJECT)
    table["is_crowd"] = [item.is_crowd for item in annotations.items]
    table["area"] = coco_mask.area(rles) if rles else 0
    return _overlap(rles, table)


def _look_at_segments(annotations: SegmentMap) -> Objects:
    segments = annotations.segments
    compact = compact_ids(annotations.ids, [segment.id for segment in segments])
    counts = np.bincount(compact.ravel(), minlength=len(segments) + 1)
    table = np.zeros(len(segments), OBJECT)
    table["class_id"] = [segment.class_id for segment in segments]
    table["is_crowd"] = [segment.is_crowd for segment in segments]
    table["area"] = counts[1:]
    for position, place in enumerate(find_objects(compact, max_label=len(segments))):
        if place is not None:
            rows, columns = place
            table["height"][position] = rows.stop - rows.start
            table["width"][position] = columns.stop - columns.start
    return Objects(table, overlap=0, unlabelled=int(counts[0]), findings=[])


def _rles(annotations: Instances) -> list[dict]:
    height, width = annotations.height, annotations.width
    return [mask_to_rle(item.mask, height, width) for item in annotations.items]


def _judge_outline(item: Instance, image: Instances, area: float, name: str) -> Iterator[Finding]:
    if isinstance(item.mask, dict):
        if not area:
            message = f"{name} has an empty mask; draw it or take it out"
            yield finding("no mask", message, is_error=False)
        return
    points = np.concatenate(item.mask) if item.mask else np.zeros((0, 2))
    if not len(points):
        yield finding("no mask", f"{name} has no polygon; draw it or take it out", is_error=False)
        return
    low, high = points.min(axis=0), points.max(axis=0)
    box = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
    beyond = float(max(-low.min(), high[0] - image.width, high[1] - image.height))
    if beyond > OUTSIDE_TOLERANCE:
        mend = (
            "; what is outside is cut away: check that outline and image belong together"
            if area
            else " and has no pixel inside; correct the outline, or the size in the file"
        )
        yield finding(
            "mask outside image",
            f"{name} reaches {beyond:.0f} pixels beyond the image of (h, w) = "
            f"{(image.height, image.width)}{mend}",
            is_error=area == 0,
            weight=beyond,
            box=box,
        )
    flat = sum(polygon_area(part) < MIN_POLYGON_AREA for part in item.mask)
    if flat or (area == 0 and beyond <= OUTSIDE_TOLERANCE):
        lines = "a polygon" if flat == 1 else f"{flat} polygons"
        what = f"{lines} without area" if flat else "an outline that covers no pixel"
        yield finding(
            "degenerate polygon",
            f"{name} has {what}; draw it again or take it out",
            is_error=False,
            weight=float(flat),
            box=box,
        )


def polygon_area(points: NDArray[np.float64]) -> float:
    """Of the polygon with these corners (x, y), by the shoelace formula."""
    x, y = (points - points[0]).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def _overlap(rles: list[dict], table: ObjectTable) -> int:
    objects = [rle for rle, is_crowd in zip(rles, table["is_crowd"], strict=True) if not is_crowd]
    if len(objects) < 2:
        return 0
    return int(table["area"][~table["is_crowd"]].sum(dtype=np.float64)) - int(
        coco_mask.area(coco_mask.merge(objects))
    )


def _drawn_twice(
    rles: list[dict],
    table: ObjectTable,
    boxes: NDArray[np.float64],
    classes: Classes,
    image: str,
) -> Iterator[Finding]:
    kept = np.flatnonzero(~table["is_crowd"])
    chosen = [rles[i] for i in kept]
    shares = np.asarray(coco_mask.iou(chosen, chosen, [0] * len(kept)))
    class_ids = table["class_id"][kept]
    same = (shares >= SAME_OBJECT_IOU) & (class_ids[:, None] == class_ids)
    for first, second in zip(*np.nonzero(np.triu(same, k=1)), strict=True):
        a, b = int(kept[first]), int(kept[second])
        x, y, width, height = boxes[b].tolist()
        yield finding(
            "duplicate object",
            f"objects {a + 1} and {b + 1} ({classes.names[class_ids[first]]}) of {image} have the "
            f"same mask; take one of them out",
            is_error=False,
            weight=float(table["area"][b]),
            box=(x, y, width, height),
        )
