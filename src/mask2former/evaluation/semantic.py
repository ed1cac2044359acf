"""Mean intersection over union, from one confusion matrix over all images."""

import numpy as np
from jaxtyping import Int64, Integer

from mask2former.evaluation.averages import percent, ratio, unique_names
from mask2former.types import Classes


class SemanticMetrics:
    """Counts pixels image by image; the metrics are of all pixels together."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        size = len(classes) + 1
        self.confusion: Int64[np.ndarray, "k1 k1"] = np.zeros((size, size), np.int64)
        """Pixels by predicted class (rows; the last is any class that the data set does not have)
        and true class (columns; the last is not scored)."""

    def update(
        self, predicted: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "true_h true_w"]
    ) -> None:
        """Count one image.

        Args:
            predicted: Class ids; the number of classes where a class is predicted that the data
                set does not have.
            truth: Class ids, or -1 where the pixel is not scored.

        Raises:
            ValueError: The two maps differ in size.
        """
        if predicted.shape != truth.shape:
            raise ValueError(
                f"the prediction has size (h, w) = {predicted.shape} and the ground truth "
                f"{truth.shape}; predict at the size of the ground truth"
            )
        size = len(self.confusion)
        columns = np.where(truth < 0, size - 1, truth).astype(np.int64)
        pairs = np.bincount((predicted * size + columns).ravel(), minlength=size * size)
        self.confusion += pairs.reshape(size, size)

    def merge(self, other: "SemanticMetrics") -> None:
        """Add what another process counted, on other images."""
        self.confusion += other.confusion

    def compute(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The metrics in percent, of all classes and of each; NaN where nothing defines one.

        Classes without a true pixel take no part in the means. Pixels that are not scored count
        neither as true nor as predicted.

        Source:
            detectron2 `SemSegEvaluator` as it is now. Its version of 2022, with which Mask2Former
            was published, divided the sum of the same IoUs by the number of classes that occur in
            the ground truth *or the predictions*; both agree when every class occurs.
        """
        scored = self.confusion[:-1, :-1]
        right, predicted = scored.diagonal(), scored.sum(axis=1)
        true = self.confusion[:, :-1].sum(axis=0)
        occurs = true > 0
        iou = np.where(occurs, ratio(right, true + predicted - right), np.nan)
        accuracy = ratio(right, true)
        all_true = true.sum(keepdims=True)
        metrics = {
            "mIoU": percent(iou[occurs]),
            "fwIoU": percent(ratio((iou * true)[occurs].sum(keepdims=True), all_true)),
            "mACC": percent(accuracy[occurs]),
            "pACC": percent(ratio(right.sum(keepdims=True), all_true)),
        }
        per_class = {
            name: {"IoU": 100 * float(iou[i]), "ACC": 100 * float(accuracy[i])}
            for i, name in enumerate(unique_names(self.classes))
        }
        return metrics, per_class
