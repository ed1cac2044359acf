"""Precision and recall of ranked detections, as COCO accumulates them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer, UInt64

from mask2former.evaluation.matching import AREA_RANGES, THRESHOLDS, Overlap

RECALLS = np.linspace(0, 1, 101)
MOST_DETECTIONS = (1, 10, 100)
"""Of one class on one image, for recall; precision is that of the last."""
NUM_LANES = Overlap.BOUNDARY.lanes().stop


class Accumulated(NamedTuple):
    """In [0, 1]; NaN where a class has no object in the range of areas."""

    precision: Float64[np.ndarray, "lanes 101 k"]
    """At each of `RECALLS`, the highest one with at least this recall; 0 where none is reached."""
    recall: Float64[np.ndarray, "10 k 3"]
    """Of masks of all areas, by threshold, class and `MOST_DETECTIONS`."""


def accumulate(
    detections: np.ndarray, true_objects: np.ndarray, class_ids: Sequence[int]
) -> Accumulated:
    """Rank the detections of all images.

    Args:
        detections: Of type `matching.DETECTION`; of equal scores, the first is ranked first.
        true_objects: Of type `matching.TRUE_OBJECT`.
        class_ids: The k classes, in the order of the result.

    Source:
        pycocotools `COCOeval.accumulate`, number for number.
    """
    ranked = detections[np.lexsort((-detections["score"], detections["class_id"]))]
    firsts = np.searchsorted(ranked["class_id"], class_ids, side="left")
    lasts = np.searchsorted(ranked["class_id"], class_ids, side="right")
    num_true = _num_true(true_objects, class_ids)
    precision = np.full((NUM_LANES, len(RECALLS), len(class_ids)), np.nan)
    recall = np.full((len(THRESHOLDS), len(class_ids), len(MOST_DETECTIONS)), np.nan)
    for k, (first, last) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True)):
        of_class = ranked[first:last]
        precision[:, :, k] = _precision(of_class, num_true[k])
        if num_true[k, 0]:
            recall[:, k] = _recall(of_class, int(num_true[k, 0]))
    return Accumulated(precision, recall)


def _num_true(true_objects: np.ndarray, class_ids: Sequence[int]) -> Int64[np.ndarray, "k ranges"]:
    """How many objects of each class count in each range of areas."""
    counts = np.zeros((len(class_ids), len(AREA_RANGES)), np.int64)
    for i in range(len(AREA_RANGES)):
        in_range = true_objects["class_id"][(true_objects["ranges"] >> i) & 1 == 1]
        counts[:, i] = np.bincount(in_range, minlength=max(class_ids, default=0) + 1)[
            list(class_ids)
        ]
    return counts


def _precision(
    ranked: np.ndarray, num_true: Int64[np.ndarray, " ranges"]
) -> Float64[np.ndarray, "lanes 101"]:
    """Of one class, one lane after the other, so that memory does not grow with their number.

    Precision falls from one detection that finds an object to the next that does, so that only
    these need to be looked at.
    """
    precision = np.full((NUM_LANES, len(RECALLS)), np.nan)
    positive, ignored = (np.ascontiguousarray(ranked[name]) for name in ("positive", "ignored"))
    for overlap in Overlap:
        for area_range in range(overlap.num_ranges):
            total = int(num_true[area_range])
            if total == 0:
                continue
            for lane in range(NUM_LANES)[overlap.lanes(area_range)]:
                rows = np.flatnonzero(_lane(positive, lane))
                num_ignored = np.cumsum(_lane(ignored, lane), dtype=np.int32)[rows]
                precision[lane] = _precision_at_recalls(rows + 1 - num_ignored, total)
    return precision


def _precision_at_recalls(
    counted: Integer[np.ndarray, " positives"], num_true: int
) -> Float64[np.ndarray, " 101"]:
    """Of one lane.

    Args:
        counted: At each detection that finds an object, how many count until then.
        num_true: How many objects count.
    """
    found = np.arange(1, len(counted) + 1)
    # the smallest step of a float is COCOeval's guard against 0 / 0, which its last digit shows
    precision = found / (counted + np.spacing(1))
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(highest, 0)[np.searchsorted(found / num_true, RECALLS)]


def _recall(ranked: np.ndarray, num_true: int) -> Float64[np.ndarray, "10 3"]:
    recall = np.empty((len(THRESHOLDS), len(MOST_DETECTIONS)))
    for i, most in enumerate(MOST_DETECTIONS):
        positive = ranked["positive"][ranked["rank"] < most]
        for t, lane in enumerate(range(NUM_LANES)[Overlap.MASK.lanes()]):
            recall[t, i] = np.count_nonzero(_lane(positive, lane)) / num_true
    return recall


def _lane(words: UInt64[np.ndarray, " n"], lane: int) -> Bool[np.ndarray, " n"]:
    """Whether the bit of a lane is set."""
    return words & np.uint64(1 << lane) != 0
