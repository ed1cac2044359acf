"""Panoptic quality."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from mask2former.data.annotations import SegmentLabel
from mask2former.evaluation.averages import percent, ratio, unique_names
from mask2former.types import Classes, Segment

VOID = 0


class PanopticMetrics:
    """Counts matched segments image by image.

    Source:
        panopticapi `pq_compute`, whose counts these are. Areas of the ground truth are counted
        from its id map, not read from its JSON.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.iou_sum: Float64[np.ndarray, " k"] = np.zeros(len(classes))
        """Over the matched segments of each class."""
        self.counts: Int64[np.ndarray, "3 k"] = np.zeros((3, len(classes)), np.int64)
        """Matched, spurious (false positive), missed (false negative) segments of each class."""

    def update(
        self,
        predicted: Integer[np.ndarray, "h w"],
        predicted_segments: Sequence[Segment],
        truth: Integer[np.ndarray, "true_h true_w"],
        true_segments: Sequence[SegmentLabel],
    ) -> None:
        """Count one image.

        Args:
            predicted: An id per pixel; 0 where no segment is.
            predicted_segments: What the ids mean.
            truth: An id per pixel. Ids that no segment lists are not scored.
            true_segments: What the ids mean.

        Raises:
            ValueError: The two maps differ in size, or a predicted id has no segment.
        """
        if predicted.shape != truth.shape:
            raise ValueError(
                f"the prediction has size (h, w) = {predicted.shape} and the ground truth "
                f"{truth.shape}; predict at the size of the ground truth"
            )
        table = _overlaps(
            predicted, [s.id for s in predicted_segments], truth, [s.id for s in true_segments]
        )
        overlap, unscored = table[:-1, :-1], table[:-1, -1]
        areas, true_areas = table[:-1].sum(axis=1), table[:, :-1].sum(axis=0)
        classes = np.array([s.class_id for s in predicted_segments], np.int64)
        true_classes = np.array([s.class_id for s in true_segments], np.int64)
        is_crowd = np.array([s.is_crowd for s in true_segments], bool)

        iou = ratio(overlap, areas[:, None] + true_areas - overlap - unscored[:, None])
        matches = (iou > 0.5) & (classes[:, None] == true_classes) & ~is_crowd
        excused = unscored + _in_crowd(overlap, classes, true_classes, is_crowd)
        spurious = ~matches.any(axis=1) & (areas > 0) & (2 * excused <= areas)
        missed = ~matches.any(axis=0) & ~is_crowd

        rows, columns = matches.nonzero()
        np.add.at(self.iou_sum, classes[rows], iou[rows, columns])
        for count, found in enumerate((classes[rows], classes[spurious], true_classes[missed])):
            self.counts[count] += np.bincount(found, minlength=len(self.classes))

    def merge(self, other: "PanopticMetrics") -> None:
        """Add what another process counted, on other images."""
        self.iou_sum += other.iou_sum
        self.counts += other.counts

    def compute(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The metrics in percent, of all classes and of each; NaN where nothing defines one.

        The means are over the classes that have a true segment or a spurious one.
        """
        matched, spurious, missed = self.counts
        halves = matched + (spurious + missed) / 2
        occurs = halves > 0
        quality = {
            "PQ": ratio(self.iou_sum, halves),
            # 0 for a class without a match, as panopticapi averages it
            "SQ": np.where(occurs & (matched == 0), 0.0, ratio(self.iou_sum, matched)),
            "RQ": ratio(matched, halves),
        }
        is_thing = np.array(self.classes.is_thing, bool)
        metrics = {
            name + suffix: percent(values[occurs & group])
            for suffix, group in (("", occurs), ("_th", is_thing), ("_st", ~is_thing))
            for name, values in quality.items()
        }
        per_class = {
            name: {metric: 100 * float(values[i]) for metric, values in quality.items()}
            for i, name in enumerate(unique_names(self.classes))
        }
        return metrics, per_class


def _in_crowd(
    overlap: Int64[np.ndarray, "p m"],
    classes: Int64[np.ndarray, " p"],
    true_classes: Int64[np.ndarray, " m"],
    is_crowd: Bool[np.ndarray, " m"],
) -> Int64[np.ndarray, " p"]:
    """Pixels of each predicted segment in crowd of its class: the last one listed, if several."""
    last_crowd = {true_classes[i]: i for i in is_crowd.nonzero()[0]}
    columns = np.array([last_crowd.get(class_id, -1) for class_id in classes], np.int64)
    pixels = np.zeros(len(classes), np.int64)
    rows = (columns >= 0).nonzero()[0]
    pixels[rows] = overlap[rows, columns[rows]]
    return pixels


def _overlaps(
    predicted: Integer[np.ndarray, "h w"],
    predicted_ids: Sequence[int],
    truth: Integer[np.ndarray, "h w"],
    true_ids: Sequence[int],
) -> Int64[np.ndarray, "p1 m1"]:
    """Pixels that each predicted and each true segment share.

    The last row is of pixels without a predicted segment, the last column of those that are not
    scored. Pixels are counted by runs, of which there are far fewer.
    """
    predicted, truth = predicted.ravel(), truth.ravel()
    changes = (predicted[1:] != predicted[:-1]) | (truth[1:] != truth[:-1])
    starts = np.concatenate(([0], np.flatnonzero(changes) + 1))
    lengths = np.diff(starts, append=len(predicted))
    rows = _positions(predicted[starts], predicted_ids)
    columns = _positions(truth[starts], true_ids)
    unlisted = np.unique(predicted[starts][(rows == len(predicted_ids))])
    if set(unlisted.tolist()) - {VOID}:
        raise ValueError(f"no segment is given for predicted ids {unlisted.tolist()}; list all")
    shape = (len(predicted_ids) + 1, len(true_ids) + 1)
    pixels = np.bincount(rows * shape[1] + columns, lengths, minlength=shape[0] * shape[1])
    return pixels.astype(np.int64).reshape(shape)


def _positions(
    values: Integer[np.ndarray, " runs"], ids: Sequence[int]
) -> Int64[np.ndarray, " runs"]:
    """Where each value stands in `ids`; their number when it does not."""
    distinct, index = np.unique(values, return_inverse=True)
    position = {id_: i for i, id_ in enumerate(ids)}
    return np.array([position.get(v, len(ids)) for v in distinct.tolist()], np.int64)[index]
