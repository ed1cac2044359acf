"""Panoptic quality by hand, against a transcription of panopticapi, and published numbers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentLabel
from mask2former.evaluation.panoptic import PanopticMetrics
from mask2former.types import Classes, Segment

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "data/metrics_reference/deeplab2_pq"
CLASSES = Classes(("dog", "cat", "grass"), (18, 17, 1), (True, True, False))


def segment(id_, class_id):
    return Segment(id_, class_id, score=1.0, area=0, box=(0.0, 0.0, 0.0, 0.0))


def count(metrics, predicted, predicted_classes, truth, true_segments):
    metrics.update(
        np.array(predicted),
        [segment(id_, class_id) for id_, class_id in predicted_classes.items()],
        np.array(truth),
        [SegmentLabel(*s) for s in true_segments],
    )


def panopticapi_counts(predicted, predicted_classes, truth, true_segments, num_classes):
    """`pq_compute_single_core` of panopticapi: IoU sum, matched, spurious, missed per class."""
    void = 0
    listed = {id_: (class_id, crowd) for id_, class_id, crowd in true_segments}
    truth = np.where(np.isin(truth, list(listed)), truth, void)
    true_area = {id_: int((truth == id_).sum()) for id_ in listed}
    area = {id_: int((predicted == id_).sum()) for id_ in predicted_classes}
    pairs, sizes = np.unique(truth.astype(np.int64) << 24 | predicted, return_counts=True)
    shared = {(int(p) >> 24, int(p) & 0xFFFFFF): int(n) for p, n in zip(pairs, sizes, strict=True)}
    iou_sum, counts = np.zeros(num_classes), np.zeros((3, num_classes), int)
    matched, found = set(), set()
    for (true_id, id_), pixels in shared.items():
        if true_id not in listed or id_ not in predicted_classes:
            continue
        class_id, crowd = listed[true_id]
        if crowd or class_id != predicted_classes[id_]:
            continue
        union = area[id_] + true_area[true_id] - pixels - shared.get((void, id_), 0)
        if pixels / union > 0.5:
            counts[0, class_id] += 1
            iou_sum[class_id] += pixels / union
            found.add(true_id)
            matched.add(id_)
    crowds = {}
    for true_id, (class_id, crowd) in listed.items():
        if crowd:
            crowds[class_id] = true_id
        elif true_id not in found:
            counts[2, class_id] += 1
    for id_, class_id in predicted_classes.items():
        excused = shared.get((void, id_), 0) + shared.get((crowds.get(class_id), id_), 0)
        if id_ not in matched and not excused / area[id_] > 0.5:
            counts[1, class_id] += 1
    return iou_sum, counts


def blocks(generator, shape, count):
    """A map of `count` ids that lie in blocks, as segments do."""
    coarse = generator.integers(0, count, (-(-shape[0] // 4), -(-shape[1] // 5)))
    return np.kron(coarse, np.ones((4, 5), int))[: shape[0], : shape[1]]


def moved(ids, generator):
    """A prediction: shifted a little, one in four blocks replaced."""
    shifted = np.roll(ids, generator.integers(-1, 2, 2), (0, 1))
    other = blocks(generator, ids.shape, ids.max() + 2)
    return np.where(blocks(generator, ids.shape, 4) == 0, other, shifted)


@pytest.mark.parametrize("seed", range(8))
def test_counts_equal_panopticapi_with_void_and_crowds(seed) -> None:
    generator = np.random.default_rng(seed)
    metrics = PanopticMetrics(CLASSES)
    iou_sum, counts = np.zeros(3), np.zeros((3, 3), int)
    for shape in ((31, 43), (24, 17), (3, 5)):
        truth = 7 * blocks(generator, shape, 9)
        # of the ids 0, 7, ..., 56 some are not listed, and two in nine are crowds
        true_segments = [
            (int(id_), int(generator.integers(3)), bool(generator.random() < 2 / 9))
            for id_ in np.unique(truth)
            if id_ and generator.random() < 0.8
        ]
        predicted = moved(truth, generator)
        true_class = {id_: class_id for id_, class_id, _ in true_segments}
        predicted_classes = {
            int(id_): true_class.get(int(id_), int(generator.integers(3)))
            for id_ in np.unique(predicted)
            if id_
        }
        count(metrics, predicted, predicted_classes, truth, true_segments)
        expected = panopticapi_counts(predicted, predicted_classes, truth, true_segments, 3)
        iou_sum, counts = iou_sum + expected[0], counts + expected[1]
    assert np.array_equal(metrics.counts, counts)
    np.testing.assert_allclose(metrics.iou_sum, iou_sum, rtol=1e-12)  # order of the sum
    assert counts.sum(axis=1).min() > 0  # matched, spurious and missed all occur


def test_quality_by_hand() -> None:
    metrics = PanopticMetrics(CLASSES)
    count(
        metrics,
        [[1, 1, 1, 2, 2, 0], [3, 3, 3, 3, 2, 2]],
        {1: 0, 2: 0, 3: 2},
        [[5, 5, 6, 6, 6, 6], [9, 9, 9, 9, 9, 9]],
        [(5, 0), (6, 0), (9, 2)],
    )
    values, per_class = metrics.compute()
    # dog 1: 2 of 3 + 2 - 2 = 2/3, matched; dog 2: 2 of 4 + 4 - 2 = 1/3, so one spurious and one
    # missed: PQ = 2/3 / (1 + 1/2 + 1/2); grass: 4 of 4 + 6 - 4 = 2/3, matched
    assert per_class["dog"] == pytest.approx({"PQ": 100 / 3, "SQ": 200 / 3, "RQ": 50})
    assert per_class["grass"] == pytest.approx({"PQ": 200 / 3, "SQ": 200 / 3, "RQ": 100})
    assert all(math.isnan(value) for value in per_class["cat"].values())
    assert values["PQ"] == pytest.approx(50)
    assert values["PQ_th"] == pytest.approx(100 / 3)
    assert values["PQ_st"] == pytest.approx(200 / 3)
    assert (values["SQ"], values["RQ"]) == pytest.approx((200 / 3, 75))
    assert set(values) == {a + b for a in ("PQ", "SQ", "RQ") for b in ("", "_th", "_st")}


def test_an_iou_of_exactly_one_half_is_no_match() -> None:
    metrics = PanopticMetrics(CLASSES)
    count(metrics, [[1, 1]], {1: 0}, [[5, 6]], [(5, 0), (6, 1)])
    assert metrics.counts.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]


def test_pixels_that_are_not_scored_leave_the_union() -> None:
    metrics = PanopticMetrics(CLASSES)
    # 1 pixel of 3 is right, the other two lie in an unlisted id and in 0: IoU = 1 / 1
    count(metrics, [[1, 1, 1]], {1: 0}, [[5, 8, 0]], [(5, 0)])
    assert metrics.compute()[0]["PQ"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("crowd_class", "crowd_pixels", "spurious"), [(0, 3, 0), (0, 2, 1), (1, 3, 1)]
)
def test_a_segment_mostly_in_crowd_of_its_class_is_no_mistake(
    crowd_class, crowd_pixels, spurious
) -> None:
    metrics = PanopticMetrics(CLASSES)
    truth = [[5] * crowd_pixels + [9] * (4 - crowd_pixels)]
    count(metrics, [[1] * 4], {1: 0}, truth, [(5, crowd_class, True), (9, 2)])
    assert metrics.counts[1].tolist() == [spurious, 0, 0]


def test_a_listed_segment_without_pixels_is_missed() -> None:
    metrics = PanopticMetrics(CLASSES)
    count(metrics, [[0, 0]], {}, [[5, 5]], [(5, 0), (77, 1)])
    assert metrics.counts.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 0]]


def test_parts_merge_to_the_whole() -> None:
    images = [
        ([[1, 1, 2]], {1: 0, 2: 2}, [[5, 5, 6]], [(5, 0), (6, 2)]),
        ([[1, 2, 2]], {1: 1, 2: 0}, [[5, 5, 5]], [(5, 0)]),
    ]
    whole, left, right = (PanopticMetrics(CLASSES) for _ in range(3))
    for image in images:
        count(whole, *image)
    count(left, *images[0])
    count(right, *images[1])
    left.merge(right)
    assert left.compute()[0] == pytest.approx(whole.compute()[0], nan_ok=True)
    assert np.array_equal(left.counts, whole.counts)


def test_no_segments_at_all_give_no_metrics() -> None:
    metrics = PanopticMetrics(CLASSES)
    count(metrics, [[0, 0]], {}, [[0, 0]], [])
    assert all(math.isnan(value) for value in metrics.compute()[0].values())


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"size \(h, w\) = \(1, 2\) and the ground truth \(1, 3\)"):
        count(PanopticMetrics(CLASSES), [[1, 1]], {1: 0}, [[5, 5, 5]], [(5, 0)])


def test_every_predicted_id_needs_a_segment() -> None:
    with pytest.raises(ValueError, match=r"no segment is given for predicted ids \[4\]"):
        count(PanopticMetrics(CLASSES), [[1, 4]], {1: 0}, [[5, 5]], [(5, 0)])


@pytest.mark.skipif(not REFERENCE.exists(), reason="needs the sample data in ../shared")
@pytest.mark.parametrize(
    ("photos", "key"),
    [(("team",), "team only"), (("bird", "cat", "team"), "bird+cat+team accumulated")],
)
def test_published_numbers(photos, key) -> None:
    reference = json.loads((REFERENCE / "expected.json").read_text())
    colors = reference["colour_to_class_in_pred_class_png"]
    expected = reference["expected"][key]
    metrics = PanopticMetrics(Classes(tuple("0123456"), tuple(range(7)), (True,) * 7))
    for photo in photos:
        gt_path = next(REFERENCE.glob(f"{photo}_gt*.png"))
        grey = np.asarray(Image.open(gt_path).convert("L"), np.int64)
        class_of = reference["gt_grey_value_to_class"][gt_path.name]
        rgb = np.asarray(Image.open(REFERENCE / f"{photo}_pred_class.png").convert("RGB"))
        class_map = np.zeros(rgb.shape[:2], np.int64)
        for color, class_id in colors.items():
            class_map[(rgb == np.array(color.split(","), int)).all(-1)] = class_id
        number = Image.open(REFERENCE / f"{photo}_pred_instance.png").convert("L")
        predicted = np.where(class_map > 0, class_map * 256 + np.asarray(number, np.int64), 0)
        count(
            metrics,
            predicted,
            {int(id_): int(id_) // 256 for id_ in np.unique(predicted) if id_},
            grey + 1,  # so that a grey value of 0 is an id like others
            [(int(value) + 1, class_id) for value, class_id in class_of.items() if class_id],
        )
    values, _ = metrics.compute()
    for name in ("PQ", "SQ", "RQ"):
        assert values[name] / 100 == pytest.approx(expected[name], abs=1e-6)
    averaged = expected["classes_averaged"]
    for row, name in enumerate(("mean_TP", "mean_FP", "mean_FN")):
        assert metrics.counts[row, averaged].mean() == pytest.approx(expected[name])
