"""Which detections of an image find a true object: COCO's rule, under all its settings at once.

A setting is a kind of overlap, an IoU threshold and a range of areas. Each is a lane: one bit of a
64-bit integer, so that a pair of a detection and an object is judged in all lanes by a few integer
operations.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Integer, UInt64

from mask2former.data.derive import TrueObject
from mask2former.evaluation.boundary import boundary_iou, find_boundaries
from mask2former.masks.rle import coco_mask
from mask2former.types import InstanceResult

THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])
"""In pixels, both ends included: all, small, medium, large."""
MAX_DETECTIONS = 100
"""Of one class on one image; those with lower scores are not looked at."""
ALL_LANES = (1 << 64) - 1

DETECTION = np.dtype(
    [
        ("score", "<f8"),
        ("positive", "<u8"),  # the lanes in which it finds an object
        ("ignored", "<u8"),  # the lanes in which it counts neither as right nor as wrong
        ("class_id", "<i4"),
        ("rank", "u1"),  # among those of its class on its image, 0 for the highest score
    ]
)
TRUE_OBJECT = np.dtype([("class_id", "<i4"), ("ranges", "u1")])
"""`ranges` has bit a where the object counts in `AREA_RANGES[a]`."""
Pair: TypeAlias = tuple[int, float, int]
"""(detection, -IoU, -object): sorted, the best overlap is first, and of equal ones the last."""


class Overlap(Enum):
    """What is compared, and the first of its lanes; `THRESHOLDS` lie side by side in a range."""

    MASK = 0
    BOX = 40
    BOUNDARY = 50

    @property
    def num_ranges(self) -> int:
        """How many of `AREA_RANGES` it is judged in, from the first."""
        return len(AREA_RANGES) if self is Overlap.MASK else 1

    def lanes(self, area_range: int = 0) -> slice:
        """Of all thresholds in a range of areas."""
        first = self.value + area_range * len(THRESHOLDS)
        return slice(first, first + len(THRESHOLDS))


class ImageMatches(NamedTuple):
    """What average precision needs of an image, as bytes: few objects, and quick to gather."""

    detections: bytes
    """Of `DETECTION`, by class, highest score first."""
    true_objects: bytes
    """Of `TRUE_OBJECT`."""


def match_image(
    result: InstanceResult,
    truth: Sequence[TrueObject],
    is_thing: Bool[np.ndarray, " k"],
    *,
    boundary: bool,
) -> ImageMatches:
    """Match the things of an image.

    Args:
        result: The prediction.
        truth: All objects, crowds among them.
        is_thing: By class id. Other classes take no part.
        boundary: Match by boundaries as well.

    Source:
        pycocotools `COCOeval.evaluateImg`. A detection takes the free object of its class that it
        overlaps most, objects that count before those that are ignored; among equal ones, the last.
        Crowds are ignored and never taken. What is left over is ignored where its own area is out
        of range: that of its mask, or of its box.
    """
    truth = [item for item in truth if is_thing[item.class_id]]
    detections, rles, boxes = _ranked(result, is_thing)
    areas = coco_mask.area(rles)
    box_areas = boxes[:, 2] * boxes[:, 3]
    outside = _outside(areas, Overlap.MASK, Overlap.BOUNDARY) | _outside(box_areas, Overlap.BOX)

    true_areas = np.array([item.area for item in truth], np.float64)
    ignoring = [
        ALL_LANES if item.is_crowd else lanes
        for item, lanes in zip(truth, _outside(true_areas, *Overlap).tolist(), strict=True)
    ]
    pairs = {Overlap.MASK: _mask_pairs(detections["class_id"], rles, truth)}
    pairs[Overlap.BOX] = _box_pairs(detections["class_id"], boxes, truth)
    if boundary:
        pairs[Overlap.BOUNDARY] = _boundary_pairs(pairs[Overlap.MASK], rles, truth)

    detections["ignored"] = outside
    matches = _merged(_match(overlap, found, ignoring, truth) for overlap, found in pairs.items())
    for i, (positive, ignored) in matches.items():
        detections["positive"][i] = positive
        detections["ignored"][i] = ignored | (int(outside[i]) & ~positive)
    return ImageMatches(detections.tobytes(), _true_records(truth, true_areas).tobytes())


def _ranked(
    result: InstanceResult, is_thing: Bool[np.ndarray, " k"]
) -> tuple[np.ndarray, list[dict], Float64[np.ndarray, "n 4"]]:
    """The detections that are looked at, by class and highest score first, masks and boxes."""
    class_ids = np.array([segment.class_id for segment in result.segments], np.int64)
    scores = np.array([segment.score for segment in result.segments], np.float64)
    order = np.lexsort((-scores, class_ids))
    order = order[is_thing[class_ids[order]]]
    class_ids = class_ids[order]
    rank = np.arange(len(order)) - np.searchsorted(class_ids, class_ids)
    is_seen = rank < MAX_DETECTIONS
    order = order[is_seen]
    detections = np.zeros(len(order), DETECTION)
    detections["score"], detections["rank"] = scores[order], rank[is_seen]
    detections["class_id"] = class_ids[is_seen]
    ranked = order.tolist()
    boxes = np.array([result.segments[i].box for i in ranked], np.float64).reshape(-1, 4)
    return detections, [result.rles[i] for i in ranked], boxes


def _true_records(truth: Sequence[TrueObject], areas: Float64[np.ndarray, " m"]) -> np.ndarray:
    records = np.zeros(len(truth), TRUE_OBJECT)
    records["class_id"] = [item.class_id for item in truth]
    counts = ~_is_outside(areas) & ~np.array([item.is_crowd for item in truth], bool)[:, None]
    records["ranges"] = counts @ (1 << np.arange(len(AREA_RANGES)))
    return records


def _is_outside(areas: Integer[np.ndarray, " n"] | Float64[np.ndarray, " n"]) -> np.ndarray:
    """By object and range."""
    return (areas[:, None] < AREA_RANGES[:, 0]) | (areas[:, None] > AREA_RANGES[:, 1])


def _outside(
    areas: Integer[np.ndarray, " n"] | Float64[np.ndarray, " n"], *overlaps: Overlap
) -> UInt64[np.ndarray, " n"]:
    """The lanes of these kinds whose range of areas an object is not in."""
    return _is_outside(areas) @ sum(_RANGE_LANES[overlap] for overlap in overlaps)


def _mask_pairs(
    class_ids: Integer[np.ndarray, " n"], rles: list[dict], truth: Sequence[TrueObject]
) -> list[Pair]:
    """Pairs of one class whose masks overlap enough for the lowest threshold."""
    objects_by_class: dict[int, list[int]] = defaultdict(list)
    for i, item in enumerate(truth):
        objects_by_class[item.class_id].append(i)
    true_classes = list(objects_by_class)
    firsts = np.searchsorted(class_ids, true_classes, side="left").tolist()
    lasts = np.searchsorted(class_ids, true_classes, side="right").tolist()
    pairs: list[Pair] = []
    for first, last, objects in zip(firsts, lasts, objects_by_class.values(), strict=True):
        if first == last:
            continue
        crowds = [truth[i].is_crowd for i in objects]
        ious = coco_mask.iou(rles[first:last], [truth[i].rle for i in objects], crowds)
        found = _overlapping(ious)
        pairs += [(first + i, iou, -objects[j]) for i, iou, j in found]
    return pairs


def _box_pairs(
    class_ids: Integer[np.ndarray, " n"],
    boxes: Float64[np.ndarray, "n 4"],
    truth: Sequence[TrueObject],
) -> list[Pair]:
    if not (len(boxes) and truth):
        return []
    true_boxes = np.array([item.box for item in truth], np.float64)
    ious = coco_mask.iou(boxes, true_boxes, [item.is_crowd for item in truth])
    ious[class_ids[:, None] != [item.class_id for item in truth]] = 0
    return [(i, iou, -j) for i, iou, j in _overlapping(ious)]


def _boundary_pairs(
    mask_pairs: Sequence[Pair], rles: list[dict], truth: Sequence[TrueObject]
) -> list[Pair]:
    """By the lower of the IoU of masks and that of boundaries; crowds by their masks alone.

    Pairs whose masks do not overlap enough need no boundaries.
    """
    pairs = [pair for pair in mask_pairs if truth[-pair[2]].is_crowd]
    rated = [pair for pair in mask_pairs if not truth[-pair[2]].is_crowd]
    masks = {rles[i]["counts"]: rles[i] for i, _, _ in rated}
    masks |= {truth[-j].rle["counts"]: truth[-j].rle for _, _, j in rated}
    found = find_boundaries(list(masks.values()))
    boundaries = dict(zip(masks, found, strict=True))
    for i, iou, j in rated:
        rle = truth[-j].rle
        height = rle["size"][0]
        a, b = boundaries[rles[i]["counts"]], boundaries[rle["counts"]]
        lower = max(iou, -boundary_iou(a, b, height))
        if -lower >= THRESHOLDS[0]:
            pairs.append((i, lower, j))
    return pairs


def _overlapping(ious: Float64[np.ndarray, "n m"]) -> list[tuple[int, float, int]]:
    """(row, -IoU, column) of what reaches the lowest threshold."""
    rows, columns = np.nonzero(ious >= THRESHOLDS[0])
    return list(zip(rows.tolist(), (-ious[rows, columns]).tolist(), columns.tolist(), strict=True))


def _match(
    overlap: Overlap, pairs: list[Pair], ignoring: Sequence[int], truth: Sequence[TrueObject]
) -> dict[int, tuple[int, int]]:
    """(lanes in which it finds an object, lanes in which the object is ignored) by detection."""
    passed = _PASSED[overlap]
    taken = [0] * len(truth)
    matches = {}
    for detection, candidates in groupby(sorted(pairs), key=itemgetter(0)):
        positive = ignored = 0
        rated = [(-j, passed[bisect_right(_THRESHOLD_LIST, -iou)]) for _, iou, j in candidates]
        for j, lanes in rated:
            lanes &= ~(ignoring[j] | taken[j] | positive)
            positive |= lanes
            taken[j] |= lanes
        for j, lanes in rated:
            lanes &= ignoring[j] & ~(taken[j] | positive | ignored)
            ignored |= lanes
            if not truth[j].is_crowd:
                taken[j] |= lanes
        matches[detection] = (positive, ignored)
    return matches


def _merged(parts: Iterable[Mapping[int, tuple[int, int]]]) -> dict[int, tuple[int, int]]:
    merged: dict[int, tuple[int, int]] = {}
    for part in parts:
        for detection, (positive, ignored) in part.items():
            known = merged.get(detection, (0, 0))
            merged[detection] = (known[0] | positive, known[1] | ignored)
    return merged


def _lane_bits(overlap: Overlap, num_thresholds: int, area_range: int) -> int:
    """The lanes of the lowest thresholds in a range of areas."""
    return ((1 << num_thresholds) - 1) << overlap.lanes(area_range).start


_THRESHOLD_LIST: list[float] = THRESHOLDS.tolist()
_RANGE_LANES = {
    overlap: np.array(
        [
            _lane_bits(overlap, len(THRESHOLDS), i) if i < overlap.num_ranges else 0
            for i in range(len(AREA_RANGES))
        ],
        np.uint64,
    )
    for overlap in Overlap
}
"""By range of areas."""
_PASSED = {
    overlap: [
        sum(_lane_bits(overlap, n, i) for i in range(overlap.num_ranges))
        for n in range(len(THRESHOLDS) + 1)
    ]
    for overlap in Overlap
}
"""By the number of thresholds that an IoU reaches."""
