"""mIoU by hand."""

import math

import numpy as np
import pytest

from mask2former.evaluation.semantic import SemanticMetrics
from mask2former.types import Classes

CLASSES = Classes(("sky", "road", "sky", "bus"), (3, 9, 4, 7), (False, False, False, True))


def counted(*pairs):
    metrics = SemanticMetrics(CLASSES)
    for predicted, truth in pairs:
        metrics.update(np.array(predicted), np.array(truth))
    return metrics


# sky: 2 true, 3 predicted, 2 right; road: 3 true, 2 predicted, 1 right;
# the second sky: none true, 1 predicted; bus: 1 true, none predicted.
# The last pixel is not scored, so its predicted bus does not count.
IMAGE = ([[0, 0, 0, 1], [1, 2, 1, 3]], [[0, 0, 1, 1], [3, 1, -1, -1]])


def test_metrics_by_hand() -> None:
    metrics, per_class = counted(IMAGE).compute()
    # IoU: sky 2 / (2 + 3 - 2), road 1 / (3 + 2 - 1), bus 0 / 1; the mean is over the three
    # classes that occur in the ground truth
    assert metrics["mIoU"] == pytest.approx(100 * (2 / 3 + 1 / 4 + 0) / 3)
    # weighted by 2, 3, 1 of the 6 true pixels
    assert metrics["fwIoU"] == pytest.approx(100 * (2 / 6 * 2 / 3 + 3 / 6 / 4))
    assert metrics["mACC"] == pytest.approx(100 * (1 + 1 / 3 + 0) / 3)
    assert metrics["pACC"] == pytest.approx(100 * 3 / 6)
    assert per_class["road"] == pytest.approx({"IoU": 25, "ACC": 100 / 3})


def test_a_class_without_true_pixels_has_no_value() -> None:
    _, per_class = counted(IMAGE).compute()
    assert math.isnan(per_class["sky (id 4)"]["IoU"])
    assert math.isnan(per_class["sky (id 4)"]["ACC"])


def test_classes_of_one_name_are_told_apart() -> None:
    _, per_class = counted(IMAGE).compute()
    assert list(per_class) == ["sky (id 3)", "road", "sky (id 4)", "bus"]


def test_images_are_counted_together_in_any_split() -> None:
    other = ([[1, 1, 1]], [[1, 0, -1]])
    together, left, right = counted(IMAGE, other), counted(IMAGE), counted(other)
    left.merge(right)
    assert np.array_equal(left.confusion, together.confusion)
    assert together.confusion.sum() == 11
    assert together.confusion[1].tolist() == [1, 2, 0, 1, 2]  # predicted as road


def test_nothing_scored_gives_no_metrics() -> None:
    metrics, per_class = counted(([[0, 1]], [[-1, -1]])).compute()
    assert all(math.isnan(value) for value in metrics.values())
    assert all(math.isnan(value) for row in per_class.values() for value in row.values())


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"size \(h, w\) = \(2, 3\) and the ground truth \(2, 4\)"):
        counted((np.zeros((2, 3), int), np.zeros((2, 4), int)))
