"""Boundary regions of classes, against erosions of one mask at a time."""

import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from mask2former.evaluation.label_boundaries import near_boundary
from mask2former.evaluation.semantic import SemanticMetrics
from mask2former.types import Classes

NUM_CLASSES = 4
CLASSES = Classes(("sky", "road", "car", "tree"), (1, 2, 3, 4), (False, False, True, False))


def patches(generator, shape, count):
    """Labels 0..count - 1 in overlapping rectangles."""
    labels = np.full(shape, generator.integers(count))
    for _ in range(generator.integers(0, 8)):
        top, left = (generator.integers(0, side) for side in shape)
        bottom, right = (generator.integers(1, side + 1) for side in shape)
        labels[top:bottom, left:right] = generator.integers(count)
    return labels


def boundary_of(mask, distance):
    """As detectron2 and the authors of boundary IoU do with one mask: small erosions, repeated."""
    eroded = binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)
    return mask & ~eroded


def test_near_boundary_equals_the_erosion_of_every_label() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        shape = tuple(generator.integers(1, 40, 2))
        distance = int(generator.integers(1, 9))
        labels = patches(generator, shape, NUM_CLASSES)
        expected = np.zeros(shape, bool)
        for label in range(NUM_CLASSES):
            expected |= boundary_of(labels == label, distance)
        assert np.array_equal(near_boundary(labels, distance), expected)
        inside += not expected.all()
    assert inside > 100


def plain_boundary_iou(pairs):
    """IoU of the boundary regions of each class in percent, NaN where it is never true."""
    shared, either, true = (np.zeros(NUM_CLASSES, int) for _ in range(3))
    for predicted, truth in pairs:
        distance = max(1, round(0.02 * math.hypot(*truth.shape)))
        for class_id in range(NUM_CLASSES):
            mine = boundary_of((predicted == class_id) & (truth >= 0), distance)
            theirs = boundary_of(truth == class_id, distance)
            shared[class_id] += (mine & theirs).sum()
            either[class_id] += (mine | theirs).sum()
            true[class_id] += (truth == class_id).sum()
    return [100 * s / e if t else math.nan for s, e, t in zip(shared, either, true, strict=True)]


def test_boundary_iou_equals_one_mask_at_a_time() -> None:
    generator = np.random.default_rng(1)
    for _ in range(60):
        pairs = []
        for _ in range(generator.integers(1, 4)):
            shape = tuple(generator.integers(3, 130, 2))
            truth = patches(generator, shape, NUM_CLASSES + 1) - 1
            moved = np.roll(truth, generator.integers(-2, 3, 2), (0, 1))
            other = patches(generator, shape, NUM_CLASSES + 1)  # one that the data set lacks
            predicted = np.where((generator.random() < 0.3) | (moved < 0), other, moved)
            pairs.append((predicted, truth))
        metrics = SemanticMetrics(CLASSES, boundary=True)
        for pair in pairs:
            metrics.update(*pair)
        expected = plain_boundary_iou(pairs)
        values, per_class = metrics.compute()
        found = [row["boundaryIoU"] for row in per_class.values()]
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
        defined = [value for value in expected if not math.isnan(value)]
        mean = sum(defined) / len(defined) if defined else math.nan
        assert values["mBoundaryIoU"] == pytest.approx(mean, abs=1e-9, nan_ok=True)


def test_a_prediction_without_mistakes_has_100_whatever_it_says_of_unscored_pixels() -> None:
    truth = np.repeat([0, -1, 1, 2], 30)[None].repeat(90, axis=0)
    predicted = np.where(truth < 0, 3, truth)
    metrics = SemanticMetrics(CLASSES, boundary=True)
    metrics.update(predicted, truth)
    values, per_class = metrics.compute()
    assert values["mBoundaryIoU"] == 100
    assert math.isnan(per_class["tree"]["boundaryIoU"])


def test_boundary_iou_by_hand() -> None:
    # 5 x 5, so 1 pixel wide: road is a 3 x 3 square, of which all but the middle is boundary, and
    # is predicted without its right column, all boundary: 5 shared of 8 + 6 - 5. Of the sky all
    # 16 pixels are boundary, and of 19 predicted all as well.
    truth = np.zeros((5, 5), int)
    truth[1:4, 1:4] = 1
    predicted = truth.copy()
    predicted[1:4, 3] = 0
    metrics = SemanticMetrics(CLASSES, boundary=True)
    metrics.update(predicted, truth)
    _, per_class = metrics.compute()
    assert per_class["road"]["boundaryIoU"] == pytest.approx(100 * 5 / 9)
    assert per_class["sky"]["boundaryIoU"] == pytest.approx(100 * 16 / 19)


def test_only_where_it_is_asked_for() -> None:
    metrics = SemanticMetrics(CLASSES)
    metrics.update(np.zeros((3, 4), int), np.zeros((3, 4), int))
    values, per_class = metrics.compute()
    assert set(values) == {"mIoU", "mIoU_2022", "fwIoU", "mACC", "pACC"}
    assert set(per_class["sky"]) == {"IoU", "ACC"}
