"""Mean intersection over union, from one confusion matrix over all images."""

import numpy as np
from jaxtyping import Float64, Int64, Integer

from mask2former.evaluation.averages import percent, ratio, share, unique_names
from mask2former.evaluation.label_boundaries import count_boundaries, near_boundaries
from mask2former.evaluation.segment_quality import SegmentQuality, check_sizes, count_pairs
from mask2former.evaluation.summary import Confusion
from mask2former.masks.runs import find_runs
from mask2former.types import Classes


class SemanticMetrics:
    """Counts pixels image by image; the metrics are of all pixels together."""

    def __init__(
        self, classes: Classes, *, panoptic_quality: bool = False, boundary: bool = False
    ) -> None:
        """Make the counts, all zero.

        Args:
            classes: Of the data set.
            panoptic_quality: Also PQ, SQ and RQ, where all pixels of a class in an image are one
                segment, predicted and true.
            boundary: Also the IoU of boundary regions. Every class has one: its pixels that have
                a pixel of another class, or the outside of the image, within `boundary_distance`.
                Pixels that are not scored count as another class in truth and prediction alike,
                so that a prediction without mistakes has 100, and are in no region.

        Source:
            PQ: Mask2Former's tool `evaluate_pq_for_semantic_segmentation`. Boundary IoU: Cheng et
            al., 2021. The one of detectron2 is not followed: it erodes the map of class ids and
            subtracts, which leaves differences between ids, counted as if they were classes.
        """
        self.classes = classes
        size = len(classes) + 1
        self.confusion: Int64[np.ndarray, "k1 k1"] = np.zeros((size, size), np.int64)
        """Pixels by predicted class (rows; the last is any class that the data set does not have)
        and true class (columns; the last is not scored)."""
        self.quality = SegmentQuality(len(classes)) if panoptic_quality else None
        self.boundaries: Int64[np.ndarray, "3 k"] | None = (
            np.zeros((3, len(classes)), np.int64) if boundary else None
        )
        """Pixels of the boundary regions of each class: shared, predicted, true."""

    def update(
        self, predicted: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "true_h true_w"]
    ) -> None:
        """Count one image.

        Args:
            predicted: Class ids; the number of classes where a class is predicted that the data
                set does not have.
            truth: Class ids, or -1 where the pixel is not scored.

        Raises:
            ValueError: The two maps differ in size, or have values that are no class ids.
        """
        check_sizes(predicted, truth)
        near = () if self.boundaries is None else near_boundaries(predicted, truth)
        starts, lengths = find_runs(predicted, truth, *near)
        classes = predicted.ravel()[starts].astype(np.int64)
        true_classes = truth.ravel()[starts].astype(np.int64)
        self._check_class_ids(classes, true_classes)
        true_classes[true_classes < 0] = len(self.classes)

        present, rows = _present(classes, len(self.classes))
        true_present, columns = _present(true_classes, len(self.classes))
        shared = count_pairs(rows, columns, lengths, (len(present), len(true_present)))
        self.confusion[np.ix_(present, true_present)] += shared
        if self.quality is not None:
            no_crowd = np.zeros(len(true_present) - 1, bool)
            self.quality.add(shared, present[:-1], true_present[:-1], no_crowd)
        if self.boundaries is not None:
            near_of_runs = np.stack([flags.ravel()[starts] for flags in near])
            self.boundaries += count_boundaries(
                classes, true_classes, lengths, near_of_runs, len(self.classes)
            )

    def merge(self, other: "SemanticMetrics") -> None:
        """Add what another process counted, on other images.

        Raises:
            ValueError: The other does not count the same things.
        """
        if self._extras() != other._extras():
            raise ValueError(
                f"counts with {other._extras()} came to counts with {self._extras()}; give "
                f"`SemanticMetrics` the same arguments in all processes"
            )
        self.confusion += other.confusion
        if self.quality is not None and other.quality is not None:
            self.quality.merge(other.quality)
        if self.boundaries is not None and other.boundaries is not None:
            self.boundaries += other.boundaries

    def table(self) -> Confusion:
        """Which classes are taken for which, over all scored pixels."""
        return Confusion(tuple(unique_names(self.classes)), self.confusion[:, :-1].copy())

    def compute(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The metrics in percent, of all classes and of each; NaN where nothing defines one.

        Pixels that are not scored count neither as true nor as predicted. Classes without a true
        pixel have no IoU and take no part in the means, with two exceptions:

        - mIoU_2022 divides the same sum of IoUs as mIoU by the number of classes that occur in
          the ground truth *or the predictions*. Both agree when every class occurs.
        - PQ, SQ and RQ are over the classes that occur in either, as in `PanopticMetrics`.

        Source:
            detectron2 `SemSegEvaluator` as it is now (mIoU, fwIoU, mACC, pACC) and as it was in
            2022, when Mask2Former's results were published (mIoU_2022). cityscapesScripts
            averages as mIoU_2022 does.
        """
        by_class = self._by_class()
        metrics = self._pixel_means(by_class["IoU"], by_class["ACC"])
        if "boundaryIoU" in by_class:
            metrics["mBoundaryIoU"] = _mean(by_class["boundaryIoU"])
        if self.quality is not None:
            metrics |= {name: _mean(by_class[name]) for name in self.quality.by_class()}
        per_class = {
            name: {metric: 100 * float(values[i]) for metric, values in by_class.items()}
            for i, name in enumerate(unique_names(self.classes))
        }
        return metrics, per_class

    def _by_class(self) -> dict[str, Float64[np.ndarray, " k"]]:
        """The metrics of each class in [0, 1]; NaN where nothing defines one."""
        counts = self._right_predicted_true()
        by_class = {"IoU": _iou(counts), "ACC": ratio(counts[0], counts[2])}
        if self.boundaries is not None:
            by_class["boundaryIoU"] = _iou(self.boundaries)
        if self.quality is not None:
            by_class |= self.quality.by_class()
        return by_class

    def _pixel_means(
        self, iou: Float64[np.ndarray, " k"], accuracy: Float64[np.ndarray, " k"]
    ) -> dict[str, float]:
        right, predicted, true = self._right_predicted_true()
        occurs = true > 0
        return {
            "mIoU": _mean(iou),
            "mIoU_2022": share(iou[occurs].sum(), np.count_nonzero(occurs | (predicted > 0))),
            "fwIoU": share((iou * true)[occurs].sum(), true.sum()),
            "mACC": _mean(accuracy),
            "pACC": share(right.sum(), true.sum()),
        }

    def _right_predicted_true(self) -> Int64[np.ndarray, "3 k"]:
        """Scored pixels of each class: predicted where true, predicted, true."""
        scored = self.confusion[:-1, :-1]
        true = self.confusion[:, :-1].sum(axis=0)
        return np.stack((scored.diagonal(), scored.sum(axis=1), true))

    def _check_class_ids(
        self, classes: Int64[np.ndarray, " runs"], true_classes: Int64[np.ndarray, " runs"]
    ) -> None:
        size = len(self.classes)
        unknown = np.unique(classes[(classes < 0) | (classes > size)]).tolist()
        if unknown:
            raise ValueError(
                f"the prediction has class ids {unknown}; accepted are 0 to {size - 1}, and "
                f"{size} for a class that the data set does not have"
            )
        unknown = np.unique(true_classes[true_classes >= size]).tolist()
        if unknown:
            raise ValueError(
                f"the ground truth has class ids {unknown}; accepted are 0 to {size - 1}; set "
                f"pixels that are not scored to -1"
            )

    def _extras(self) -> dict[str, bool]:
        return {
            "panoptic_quality": self.quality is not None,
            "boundary": self.boundaries is not None,
        }


def _present(
    classes: Int64[np.ndarray, " runs"], num_classes: int
) -> tuple[Int64[np.ndarray, " present"], Int64[np.ndarray, " runs"]]:
    """The classes that occur and, last, `num_classes`; and where among them each run's stands."""
    occurs = np.bincount(classes, minlength=num_classes + 1) > 0
    occurs[-1] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[classes]


def _iou(counts: Int64[np.ndarray, "3 k"]) -> Float64[np.ndarray, " k"]:
    """Of the pixels of each class that are shared, predicted and true; NaN where none is true."""
    shared, predicted, true = counts
    return np.where(true > 0, ratio(shared, true + predicted - shared), np.nan)


def _mean(values: Float64[np.ndarray, " k"]) -> float:
    """In percent, over the classes that have a value."""
    return percent(values[~np.isnan(values)])
