"""mIoU by hand and against the formulas written out."""

import math
import pickle

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
    # the same sum over the four that occur in the ground truth or the prediction
    assert metrics["mIoU_2022"] == pytest.approx(100 * (2 / 3 + 1 / 4 + 0) / 4)
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


class PlainSemantic:
    """The formulas of detectron2, then and now, pixel by pixel."""

    def __init__(self, num_classes):
        self.pairs = [[0] * num_classes for _ in range(num_classes + 1)]

    def update(self, predicted, truth):
        for class_id, true_class in zip(predicted.ravel(), truth.ravel(), strict=True):
            if true_class >= 0:
                self.pairs[class_id][true_class] += 1

    def compute(self):
        class_ids = range(len(self.pairs[0]))
        true = [sum(row[i] for row in self.pairs) for i in class_ids]
        predicted = [sum(self.pairs[i]) for i in class_ids]
        right = [self.pairs[i][i] for i in class_ids]
        occurring = [i for i in class_ids if true[i]]
        if not occurring:
            return dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC"), math.nan), {}
        iou = {i: right[i] / (true[i] + predicted[i] - right[i]) for i in occurring}
        accuracy = {i: right[i] / true[i] for i in occurring}
        in_either = [i for i in class_ids if true[i] + predicted[i]]
        metrics = {
            "mIoU": 100 * sum(iou.values()) / len(iou),
            "mIoU_2022": 100 * sum(iou.values()) / len(in_either),
            "fwIoU": 100 * sum(iou[i] * true[i] / sum(true) for i in occurring),
            "mACC": 100 * sum(accuracy.values()) / len(accuracy),
            "pACC": 100 * sum(right) / sum(true),
        }
        return metrics, {i: {"IoU": 100 * iou[i], "ACC": 100 * accuracy[i]} for i in occurring}


def random_pair(generator, num_classes):
    """(predicted, truth): a part of the classes, some unscored, some that the data set lacks."""
    shape = tuple(generator.integers(1, 8, 2))
    some = generator.choice(num_classes, generator.integers(1, num_classes + 1), replace=False)
    truth = generator.choice([*some, -1] if generator.random() < 0.7 else some, shape)
    others = generator.integers(0, num_classes + 1, shape)
    return np.where((generator.random(shape) < 0.6) & (truth >= 0), truth, others), truth


def test_metrics_equal_the_formulas_of_detectron2_then_and_now() -> None:
    generator = np.random.default_rng(0)
    differing = 0
    for _ in range(400):
        num_classes = int(generator.integers(1, 7))
        classes = Classes(tuple("abcdef"), tuple(range(6)), (True,) * 6)
        classes = Classes(*(tuple(part[:num_classes]) for part in vars(classes).values()))
        metrics, plain = SemanticMetrics(classes), PlainSemantic(num_classes)
        for _ in range(generator.integers(1, 4)):
            pair = random_pair(generator, num_classes)
            metrics.update(*pair)
            plain.update(*pair)
        (found, per_class), (expected, rows) = metrics.compute(), plain.compute()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-9, nan_ok=True)
        for i, row in enumerate(per_class.values()):
            expected_row = rows.get(i, {"IoU": math.nan, "ACC": math.nan})
            assert row == pytest.approx(expected_row, abs=1e-9, nan_ok=True)
        differing += found["mIoU"] > found["mIoU_2022"] + 1e-9
    assert differing > 20


def test_hotcoco_agrees() -> None:
    semantic = pytest.importorskip("hotcoco.semantic")
    generator = np.random.default_rng(2)
    for _ in range(200):
        metrics, theirs = SemanticMetrics(CLASSES), semantic.SemanticEval(4)
        for _ in range(generator.integers(1, 4)):
            predicted, truth = random_pair(generator, 4)
            truth[predicted == 4] = -1  # it knows no classes that the data set lacks
            metrics.update(predicted, truth)
            theirs.update(np.where(truth < 0, 255, truth), np.clip(predicted, 0, 3))
        assert np.array_equal(metrics.table().pixels[:4].T, theirs.confusion())
        # its mean is over the classes in the ground truth or the prediction
        found, expected = metrics.compute()[0], theirs.report()["metrics"]
        same = {"mIoU_2022": "mIoU", "fwIoU": "fwIoU", "mACC": "mAcc", "pACC": "aAcc"}
        for name, their_name in same.items():
            if metrics.confusion[:, :-1].any():
                assert found[name] == pytest.approx(100 * expected[their_name], abs=1e-9)


def test_a_data_set_of_one_class_is_always_right() -> None:
    metrics = SemanticMetrics(Classes(("road",), (1,), (False,)))
    metrics.update(np.zeros((2, 3), int), np.array([[0, 0, -1], [0, -1, 0]]))
    values, _ = metrics.compute()
    assert set(values.values()) == {100.0}


@pytest.mark.parametrize("dtypes", [(np.uint8, np.int64), (np.int64, np.int16)])
def test_any_integers_are_counted(dtypes) -> None:
    predicted, truth = (np.array(a, dtype) for a, dtype in zip(IMAGE, dtypes, strict=True))
    assert np.array_equal(counted((predicted, truth)).confusion, counted(IMAGE).confusion)


def test_the_table_has_the_pixels_that_are_scored() -> None:
    metrics = counted(IMAGE, ([[4, 4]], [[0, -1]]))
    table = metrics.table()
    assert table.names == ("sky (id 3)", "road", "sky (id 4)", "bus")
    # rows: predicted as sky, road, second sky, bus, a class that the data set lacks
    assert table.pixels.tolist() == [
        [2, 1, 0, 0],
        [0, 1, 0, 1],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
        [1, 0, 0, 0],
    ]
    table.pixels[:] = 0
    assert metrics.confusion[0, 0] == 2


def test_no_order_and_no_division_among_processes_changes_a_bit() -> None:
    generator = np.random.default_rng(1)
    pairs = [random_pair(generator, 4) for _ in range(120)]

    def made():
        return SemanticMetrics(CLASSES, panoptic_quality=True, boundary=True)

    whole = made()
    for pair in pairs:
        whole.update(*pair)
    expected = whole.compute()
    assert not any(math.isnan(value) for value in expected[0].values())
    for num_processes in (2, 5):
        parts = [made() for _ in range(num_processes)]
        for position in generator.permutation(len(pairs)):
            parts[generator.integers(num_processes)].update(*pairs[position])
        merged = made()
        for part in parts[::-1]:
            merged.merge(pickle.loads(pickle.dumps(part)))  # noqa: S301 - made here
        assert merged.compute() == expected


def test_counts_of_different_things_do_not_merge() -> None:
    with pytest.raises(ValueError, match=r"'boundary': True.* came to .*'boundary': False"):
        SemanticMetrics(CLASSES).merge(SemanticMetrics(CLASSES, boundary=True))


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


def test_values_that_are_no_class_ids_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"prediction has class ids \[-1, 5\]; accepted are 0 to 3"
    ):
        counted(([[5, -1, 4]], [[0, 0, 0]]))
    with pytest.raises(ValueError, match=r"truth has class ids \[255\]; .* not scored to -1"):
        counted(([[0, 0]], [[0, 255]]))
