"""Average precision of objects as the benchmark of Cityscapes defines it, which is not COCO's."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64, UInt16

from mask2former.data.annotations import SegmentMap
from mask2former.data.formats.cityscapes import OBJECTS_PER_LABEL
from mask2former.evaluation.averages import percent, ratio, unique_names
from mask2former.masks.id_maps import compact_ids
from mask2former.masks.rle import run_lengths
from mask2former.masks.runs import find_runs
from mask2former.types import Classes, InstanceResult

THRESHOLDS: Float64[np.ndarray, " t"] = np.arange(0.5, 1.0, 0.05)
"""An IoU must exceed them. Some are a trifle above 0.6, 0.65, ...; so are the benchmark's."""
SMALLEST_AREA = 100
"""In pixels, of a true object that is to be found."""
RIGHT, WRONG, IGNORED = 1, -1, 0
NO_THING = -1


class Verdicts(NamedTuple):
    """What the predicted objects of one image are."""

    class_ids: Int64[np.ndarray, " p"]
    scores: Float64[np.ndarray, " p"]
    verdicts: Int8[np.ndarray, "p t"]
    """`RIGHT`, `WRONG` or `IGNORED` at each of `THRESHOLDS`."""


class Truths(NamedTuple):
    """The annotated segments of one image."""

    class_ids: Int64[np.ndarray, " m"]
    """As results are numbered; `NO_THING` for others."""
    areas: Int64[np.ndarray, " m"]
    """In pixels."""
    is_group: Bool[np.ndarray, " m"]

    @property
    def is_small(self) -> Bool[np.ndarray, " m"]:
        return self.areas < SMALLEST_AREA

    @property
    def is_wanted(self) -> Bool[np.ndarray, " m"]:
        """Whether it is an object to be found."""
        return (self.class_ids != NO_THING) & ~self.is_group & ~self.is_small


class CityscapesObjects:
    """Judges predicted objects image by image and keeps the verdicts.

    A prediction is right if its IoU with an object of its class exceeds the threshold; of several
    that do, the one with the highest score is right and the others are wrong. Any other is wrong
    too, unless its share in what is not scored, in groups and in small objects of its class
    exceeds the threshold: then it is ignored.

    Source:
        cityscapesScripts `evalInstanceLevelSemanticLabeling.py`. Where all predictions of a class
        that occurs are ignored, it ends with an IndexError; here the class has AP 0.
    """

    def __init__(self, classes: Classes) -> None:
        """Make it, with nothing counted.

        Args:
            classes: What results are numbered by. Only the things among them take part.
        """
        self.classes = classes
        self.num_true: Int64[np.ndarray, " k"] = np.zeros(len(classes), np.int64)
        """Objects of each class that are to be found."""
        self.images: list[Verdicts] = []

    def update(self, result: InstanceResult, truth: SegmentMap, true_classes: Classes) -> None:
        """Judge one image.

        Args:
            result: The prediction. Empty masks take no part.
            truth: The panoptic annotation with the ids of Cityscapes: a segment per object, and
                groups as crowds. Pixels that no segment lists are not scored, unless they have
                the id of an object (a caravan or trailer): the benchmark excuses nothing there.
            true_classes: What the annotation is numbered by.

        Raises:
            ValueError: The two differ in size, or the annotation lacks a class.
        """
        size = (result.height, result.width)
        if truth.ids.shape != size:
            raise ValueError(
                f"the prediction has size (h, w) = {size} and the ground truth {truth.ids.shape}; "
                f"predict at the size of the ground truth"
            )
        columns = _columns(truth)
        truths = self._truths(columns, truth, true_classes)
        shared = _shared_pixels(result.rles, columns, len(truth.segments) + 2)
        class_ids = np.array([s.class_id for s in result.segments], np.int64)
        scores = np.array([s.score for s in result.segments], np.float64)
        takes_part = np.array(self.classes.is_thing, bool)[class_ids] & (shared.sum(axis=1) > 0)
        kept = np.flatnonzero(takes_part)
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        verdicts = _judge(class_ids[kept], shared[kept], truths)
        self.images.append(Verdicts(class_ids[kept], scores[kept], verdicts))
        np.add.at(self.num_true, truths.class_ids[truths.is_wanted], 1)

    def merge(self, other: "CityscapesObjects") -> None:
        """Add what another process judged, on other images."""
        self.num_true += other.num_true
        self.images += other.images

    def compute(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """AP and AP50 in percent, of all things and of each; NaN for a class without object.

        AP is the mean over classes and `THRESHOLDS`, AP50 that at the first of them. COCO's
        metrics of these names are others.
        """
        class_ids = np.concatenate([np.empty(0, np.int64), *(i.class_ids for i in self.images)])
        scores = np.concatenate([np.empty(0), *(i.scores for i in self.images)])
        no_verdicts = np.empty((0, len(THRESHOLDS)), np.int8)
        verdicts = np.concatenate([no_verdicts, *(i.verdicts for i in self.images)])
        precision = np.full((len(self.classes), len(THRESHOLDS)), np.nan)
        for class_id in np.flatnonzero(self.num_true):
            own = class_ids == class_id
            precision[class_id] = [
                average_precision(scores[own], column, int(self.num_true[class_id]))
                for column in verdicts[own].T
            ]
        defined = precision[self.num_true > 0]
        metrics = {"AP": percent(defined), "AP50": percent(defined[:, 0])}
        per_class = {
            name: {"AP": percent(precision[i]), "AP50": 100 * float(precision[i, 0])}
            for i, name in enumerate(unique_names(self.classes))
            if self.classes.is_thing[i]
        }
        return metrics, per_class

    def _truths(
        self, columns: UInt16[np.ndarray, "h w"], truth: SegmentMap, true_classes: Classes
    ) -> Truths:
        own_ids = {
            category_id: class_id
            for category_id, class_id in self.classes.class_id_by_category().items()
            if self.classes.is_thing[class_id]
        }
        missing = set(own_ids) - set(true_classes.category_ids)
        if missing:
            names = [self.classes.names[own_ids[category_id]] for category_id in sorted(missing)]
            raise ValueError(
                f"classes {names} of the results are none of the annotation's, which are "
                f"{', '.join(true_classes.names)}; number the results by the data set's classes"
            )
        segments = truth.segments
        categories = [true_classes.category_ids[s.class_id] for s in segments]
        areas = np.bincount(columns.ravel(), minlength=len(segments) + 2)
        return Truths(
            np.array([own_ids.get(category, NO_THING) for category in categories], np.int64),
            areas[1 : len(segments) + 1],
            np.array([s.is_crowd for s in segments], bool),
        )


def average_precision(
    scores: Float64[np.ndarray, " p"], verdicts: Int8[np.ndarray, " p"], num_true: int
) -> float:
    """Area under precision over recall, by the trapezoidal rule from (recall 0, precision 1).

    Args:
        scores: One point of the curve is made of all predictions with at least one of them.
        verdicts: `RIGHT`, `WRONG` or `IGNORED`.
        num_true: Objects to be found, at least 1.

    Returns:
        In [0, 1].

    Source:
        cityscapesScripts `evaluateMatches`, which calls it an integration by steps; but its steps
        are half of those on both sides of a point, which is the trapezoidal rule.
    """
    counted = verdicts != IGNORED
    order = np.argsort(-scores[counted])
    ranked, is_right = scores[counted][order], verdicts[counted][order] == RIGHT
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], ranked.size > 0))
    num_right = np.cumsum(is_right)[ends]
    precision = np.concatenate([[1.0], num_right / (ends + 1)])
    recall = np.concatenate([[0.0], num_right / num_true])
    return math.fsum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2)


def _judge(
    class_ids: Int64[np.ndarray, " p"], shared: Int64[np.ndarray, "p columns"], truths: Truths
) -> Int8[np.ndarray, "p t"]:
    """The verdict on each prediction at each of `THRESHOLDS`.

    Args:
        class_ids: By descending score.
        shared: As from `_shared_pixels`, of `_columns`.
        truths: The annotated segments.
    """
    areas, unscored = shared.sum(axis=1), shared[:, 0]
    overlap = np.where(class_ids[:, None] == truths.class_ids, shared[:, 1:-1], 0)
    iou = ratio(overlap, areas[:, None] + truths.areas - overlap)
    # above one half a prediction can match only one object
    matches = (iou[..., None] > THRESHOLDS) & truths.is_wanted[:, None]  # (p, m, t)
    is_first = matches & (np.cumsum(matches, axis=0) == 1)
    is_right = is_first.any(axis=1)
    is_repeated = matches.any(axis=1) & ~is_right
    # a small group counts twice, as in the benchmark
    excused = unscored + overlap @ (truths.is_group.astype(int) + truths.is_small)
    is_excused = (excused / areas)[:, None] > THRESHOLDS
    is_wrong = is_repeated | ~is_excused
    return np.where(is_right, RIGHT, np.where(is_wrong, WRONG, IGNORED)).astype(np.int8)


def _columns(truth: SegmentMap) -> UInt16[np.ndarray, "h w"]:
    """Which column of `_shared_pixels` a pixel counts for.

    The first is of pixels that are not scored; one of each segment follows, and the last is of
    objects of labels that are not scored.
    """
    columns = compact_ids(truth.ids, [segment.id for segment in truth.segments])
    unlisted_object = (columns == 0) & (truth.ids >= OBJECTS_PER_LABEL)
    columns[unlisted_object] = len(truth.segments) + 1
    return columns


def _shared_pixels(
    rles: Sequence[dict], columns: UInt16[np.ndarray, "h w"], num_columns: int
) -> Int64[np.ndarray, "p columns"]:
    """Pixels of each mask by column, counted by runs: no mask is decoded."""
    pixels = columns.ravel(order="F")  # as masks run
    starts, num_pixels = find_runs(pixels)
    stops = starts + num_pixels
    column_of_run = pixels[starts].astype(np.int64)
    shared = np.zeros((len(rles), num_columns), np.int64)
    for row, rle in zip(shared, rles, strict=True):
        changes = np.cumsum(run_lengths(rle))
        inside, outside = changes[:-1:2], changes[1::2]
        first = np.searchsorted(starts, inside, "right") - 1
        num_runs = np.searchsorted(starts, outside, "left") - first
        mask_run = np.repeat(np.arange(len(inside)), num_runs)
        run = np.arange(len(mask_run)) + (first - np.cumsum(num_runs) + num_runs)[mask_run]
        lengths = np.minimum(stops[run], outside[mask_run])
        lengths -= np.maximum(starts[run], inside[mask_run])
        np.add.at(row, column_of_run[run], lengths)
    return shared
