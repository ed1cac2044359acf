"""What two maps share, matched segments of them, and the quality of each class's matches."""

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer, Shaped

from mask2former.evaluation.averages import ratio

IOU_UNIT = 2**-53
"""Every double in [1/2, 1] is a multiple of it."""


def check_sizes(
    predicted: Shaped[np.ndarray, "h w"], truth: Shaped[np.ndarray, "true_h true_w"]
) -> None:
    """Refuse a prediction that is not at the size of the ground truth.

    Raises:
        ValueError: The two maps differ in size.
    """
    if predicted.shape != truth.shape:
        raise ValueError(
            f"the prediction has size (h, w) = {predicted.shape} and the ground truth "
            f"{truth.shape}; predict at the size of the ground truth"
        )


def count_pairs(
    rows: Int64[np.ndarray, " runs"],
    columns: Int64[np.ndarray, " runs"],
    lengths: Integer[np.ndarray, " runs"],
    shape: tuple[int, int],
) -> Int64[np.ndarray, "rows columns"]:
    """Pixels of each pair of a row and a column.

    Args:
        rows: The row that each run counts for.
        columns: The column that it counts for.
        lengths: Its pixels.
        shape: Of the table.
    """
    pixels = np.bincount(rows * shape[1] + columns, lengths, minlength=shape[0] * shape[1])
    return pixels.astype(np.int64).reshape(shape)


class SegmentQuality:
    """Counts matched segments image by image.

    Everything is summed in integers, so that neither the order of the images nor their division
    among processes changes a bit.

    Source:
        panopticapi `pq_compute`.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts: Int64[np.ndarray, "3 k"] = np.zeros((3, num_classes), np.int64)
        """Matched, spurious (false positive), missed (false negative) segments of each class."""
        self.iou_sums: list[int] = [0] * num_classes
        """Over the matched segments of each class, in `IOU_UNIT`: beyond 64 bits, but exact, as
        a match has an IoU above 1/2."""

    def add(
        self,
        shared: Int64[np.ndarray, "p1 m1"],
        classes: Int64[np.ndarray, " p"],
        true_classes: Int64[np.ndarray, " m"],
        is_crowd: Bool[np.ndarray, " m"],
    ) -> None:
        """Count one image.

        Args:
            shared: Pixels that each predicted (rows) and each true segment (columns) share. The
                last row is of pixels without a predicted segment, the last column of those that
                are not scored.
            classes: Of the predicted segments.
            true_classes: Of the true segments.
            is_crowd: Of the true segments; crowd is neither matched nor missed.
        """
        overlap, unscored = shared[:-1, :-1], shared[:-1, -1]
        areas, true_areas = shared[:-1].sum(axis=1), shared[:, :-1].sum(axis=0)

        iou = ratio(overlap, areas[:, None] + true_areas - overlap - unscored[:, None])
        matches = (iou > 0.5) & (classes[:, None] == true_classes) & ~is_crowd
        excused = unscored + _in_crowd(overlap, classes, true_classes, is_crowd)
        spurious = ~matches.any(axis=1) & (areas > 0) & (2 * excused <= areas)
        missed = ~matches.any(axis=0) & ~is_crowd

        rows, columns = matches.nonzero()
        for class_id, value in zip(classes[rows], iou[rows, columns], strict=True):
            self.iou_sums[class_id] += int(value / IOU_UNIT)
        for count, found in enumerate((classes[rows], classes[spurious], true_classes[missed])):
            self.counts[count] += np.bincount(found, minlength=self.counts.shape[1])

    def merge(self, other: "SegmentQuality") -> None:
        """Add what another process counted, on other images."""
        self.counts += other.counts
        self.iou_sums = [a + b for a, b in zip(self.iou_sums, other.iou_sums, strict=True)]

    def by_class(self) -> dict[str, Float64[np.ndarray, " k"]]:
        """PQ, SQ and RQ in [0, 1]; NaN of a class that has neither a true nor a spurious segment.

        A class without a match has an SQ of 0, as panopticapi averages it.
        """
        matched, spurious, missed = self.counts
        iou_sums = np.array([total * IOU_UNIT for total in self.iou_sums], np.float64)
        halves = matched + (spurious + missed) / 2
        no_match = (halves > 0) & (matched == 0)
        return {
            "PQ": ratio(iou_sums, halves),
            "SQ": np.where(no_match, 0.0, ratio(iou_sums, matched)),
            "RQ": ratio(matched, halves),
        }


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
