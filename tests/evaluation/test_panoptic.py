"""Panoptic quality by hand, and published numbers."""

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
    assert metrics.quality.counts.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]


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
    assert metrics.quality.counts[1].tolist() == [spurious, 0, 0]


def test_a_listed_segment_without_pixels_is_missed() -> None:
    metrics = PanopticMetrics(CLASSES)
    count(metrics, [[0, 0]], {}, [[5, 5]], [(5, 0), (77, 1)])
    assert metrics.quality.counts.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 0]]


def test_no_segments_at_all_give_no_metrics() -> None:
    metrics = PanopticMetrics(CLASSES)
    count(metrics, [[0, 0]], {}, [[0, 0]], [])
    assert all(math.isnan(value) for value in metrics.compute()[0].values())


@pytest.mark.parametrize(
    ("predicted_class", "true_class", "whose"), [(3, 0, "predicted"), (0, -1, "true")]
)
def test_segments_have_classes_of_the_data_set(predicted_class, true_class, whose) -> None:
    with pytest.raises(ValueError, match=rf"{whose} segments have class ids .* 0 to 2"):
        count(PanopticMetrics(CLASSES), [[1]], {1: predicted_class}, [[5]], [(5, true_class)])


def test_a_predicted_segment_without_pixels_is_not_counted() -> None:
    metrics = PanopticMetrics(CLASSES)
    count(metrics, [[0, 0]], {7: 1}, [[5, 5]], [(5, 0)])
    assert metrics.quality.counts.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


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
        assert metrics.quality.counts[row, averaged].mean() == pytest.approx(expected[name])
