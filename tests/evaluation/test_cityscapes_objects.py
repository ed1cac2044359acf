"""AP of Cityscapes by hand; tests/parity compares it with cityscapesScripts."""

import math
import pickle

import numpy as np
import pytest

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.evaluation.cityscapes_objects import CityscapesObjects, average_precision
from mask2former.masks.rle import encode_mask
from mask2former.types import Classes, InstanceResult, Segment

CLASSES = class_table("cityscapes")
THINGS = class_table("cityscapes_instance")
PERSON, RIDER, CAR, TRUCK = range(4)
HEIGHT, WIDTH = 20, 60
ROAD = 7
FIRST_CAR, SECOND_CAR, CAR_GROUP, CARAVAN = 26000, 26001, 26, 29000


def truth_of(lengths: dict[int, int]) -> SegmentMap:
    """Segments of so many pixels by id, one after the other in rows; then road."""
    ids = np.full(HEIGHT * WIDTH, ROAD, np.int32)
    ids[: sum(lengths.values())] = np.repeat(list(lengths), list(lengths.values()))
    class_ids = CLASSES.class_id_by_category()
    segments = []
    for id_ in np.unique(ids).tolist():
        label = id_ if id_ < 1000 else id_ // 1000
        if label in class_ids:
            is_crowd = CLASSES.is_thing[class_ids[label]] and id_ < 1000
            segments.append(SegmentLabel(id_, class_ids[label], is_crowd))
    return SegmentMap(ids.reshape(HEIGHT, WIDTH), tuple(segments))


def result_of(*objects: tuple[int, int, float, int]) -> InstanceResult:
    """Objects that cover the pixels (start, stop) in rows: (start, stop, score, class id)."""
    rles, segments = [], []
    for i, (start, stop, score, class_id) in enumerate(objects):
        mask = np.zeros(HEIGHT * WIDTH, bool)
        mask[start:stop] = True
        rles.append(encode_mask(mask.reshape(HEIGHT, WIDTH)))
        segments.append(Segment(i, class_id, score, stop - start, (0.0, 0.0, 0.0, 0.0)))
    return InstanceResult(HEIGHT, WIDTH, rles, segments)


def judged(
    lengths: dict[int, int], *objects: tuple[int, int, float, int]
) -> tuple[list[int], CityscapesObjects]:
    """Verdicts at the threshold 0.5, by descending score."""
    metrics = CityscapesObjects(THINGS)
    metrics.update(result_of(*objects), truth_of(lengths), CLASSES)
    return metrics.images[0].verdicts[:, 0].tolist(), metrics


def test_an_object_that_is_found_exactly_gives_a_perfect_score() -> None:
    overall, per_class = judged({FIRST_CAR: 200}, (0, 200, 0.7, CAR))[1].compute()
    assert overall == {"AP": 100, "AP50": 100}
    assert per_class["car"] == {"AP": 100, "AP50": 100}
    assert list(per_class) == list(THINGS.names)
    assert math.isnan(per_class["person"]["AP"])
    assert math.isnan(per_class["person"]["AP50"])


@pytest.mark.parametrize(("pixels", "num_exceeded"), [(100, 0), (101, 1), (120, 2), (180, 8)])
def test_the_iou_must_exceed_a_threshold(pixels: int, num_exceeded: int) -> None:
    # of 200 pixels: IoU 0.5, 0.505, 0.6, 0.9; equal is not enough, at 0.9 either
    metrics = judged({FIRST_CAR: 200}, (0, pixels, 0.7, CAR))[1]
    assert metrics.compute()[0]["AP"] == pytest.approx(10 * num_exceeded)


def test_another_class_finds_nothing() -> None:
    verdicts, metrics = judged({FIRST_CAR: 200}, (0, 200, 0.7, TRUCK))
    assert verdicts == [-1]
    overall, per_class = metrics.compute()
    assert overall["AP"] == 0
    assert math.isnan(per_class["truck"]["AP"])  # no truck is true, so the mistake costs nothing


def test_of_several_matches_the_highest_score_is_right() -> None:
    verdicts, metrics = judged({FIRST_CAR: 200}, (0, 150, 0.5, CAR), (0, 200, 0.4, CAR))
    assert verdicts == [1, -1]
    # At 0.5 ... 0.7 the poorer mask has the higher score: precision is 1 as recall reaches 1, and
    # the duplicate adds no recall. From 0.75 on it is a mistake before the right one: precision
    # 0, then 1/2, at recall 0, then 1: the trapezoids have 0 and (0 + 1/2) / 2.
    assert metrics.compute()[0]["AP50"] == 100
    assert metrics.compute()[0]["AP"] == pytest.approx((5 * 100 + 5 * 25) / 10)


def test_a_match_is_judged_even_if_it_could_be_excused() -> None:
    # The larger prediction has IoU 140/200 with the car, and the small group, which counts twice,
    # is an excuse of 120/200: alone it is right, after the other it is wrong.
    lengths = {FIRST_CAR: 140, CAR_GROUP: 60}
    assert judged(lengths, (0, 200, 0.8, CAR))[0] == [1]
    assert judged(lengths, (0, 140, 0.9, CAR), (0, 200, 0.8, CAR))[0] == [1, -1]


@pytest.mark.parametrize(
    ("lengths", "verdict"),
    [
        ({0: 100, ROAD: 100}, -1),  # half is not more than half
        ({0: 101, ROAD: 99}, 0),
        ({4: 101, ROAD: 99}, 0),  # static, not scored
        ({CAR_GROUP: 101, ROAD: 99}, 0),
        ({CAR_GROUP: 60, 0: 41, ROAD: 99}, 0),
        ({24: 101, ROAD: 99}, -1),  # a group of another class
        ({FIRST_CAR: 99, 0: 2, ROAD: 99}, 0),  # a small car
        ({24000: 99, 0: 2, ROAD: 99}, -1),  # a small person
        ({FIRST_CAR: 100, ROAD: 100}, -1),  # a car that is large enough
        ({CAR_GROUP: 51, ROAD: 149}, 0),  # a small group counts twice
        ({CARAVAN: 200}, -1),
        ({29: 200}, 0),  # a group of caravans
    ],
)
def test_a_prediction_mostly_where_nothing_is_scored_is_ignored(
    lengths: dict[int, int], verdict: int
) -> None:
    assert judged(lengths, (0, 200, 0.7, CAR))[0] == [verdict]


def test_the_excuse_must_exceed_the_same_threshold() -> None:
    # 140 of 200 pixels are not scored: an excuse at 0.5, 0.55, 0.6, 0.65, but not at 0.7
    verdicts = judged({0: 140}, (0, 200, 0.7, CAR))[1].images[0].verdicts
    assert verdicts.tolist() == [[0] * 4 + [-1] * 6]


@pytest.mark.parametrize(("pixels", "num_true"), [(99, 0), (100, 1)])
def test_small_objects_need_not_be_found(pixels: int, num_true: int) -> None:
    _, metrics = judged({FIRST_CAR: pixels, CAR_GROUP: 300})
    assert metrics.num_true.tolist() == [0, 0, num_true, 0, 0, 0, 0, 0]
    assert metrics.compute()[0]["AP"] == pytest.approx(0 if num_true else math.nan, nan_ok=True)


def test_empty_masks_take_no_part() -> None:
    verdicts, metrics = judged({FIRST_CAR: 200}, (0, 0, 0.9, CAR), (0, 200, 0.1, CAR))
    assert verdicts == [1]
    assert metrics.compute()[0]["AP"] == 100


def test_a_class_all_of_whose_predictions_are_ignored_scores_0() -> None:
    # the benchmark's own program ends with an IndexError here
    verdicts, metrics = judged({FIRST_CAR: 200, 0: 200}, (200, 400, 0.7, CAR))
    assert verdicts == [0]
    assert metrics.compute()[0] == {"AP": 0, "AP50": 0}


def test_ap_is_the_mean_over_the_classes_that_occur() -> None:
    metrics = judged({FIRST_CAR: 200, 24000: 200}, (0, 200, 0.7, CAR))[1]
    assert metrics.compute()[0] == {"AP": 50, "AP50": 50}


def test_precision_over_recall_is_integrated_by_trapezoids() -> None:
    # Right, wrong, right of 4 objects: (recall, precision) = (0, 1), (1/4, 1), (1/4, 1/2),
    # (1/2, 2/3): 1/4 x 1 + 0 + 1/4 x (1/2 + 2/3) / 2
    area = average_precision(np.array([0.2, 0.9, 0.5]), np.array([1, 1, -1], np.int8), 4)
    assert area == pytest.approx(1 / 4 + 7 / 48)


def test_equal_scores_are_one_point_of_the_curve() -> None:
    # (0, 1), then both at once: (1/2, 1/2); what is ignored adds nothing
    scores, verdicts = np.array([0.5, 0.5, 0.5]), np.array([-1, 1, 0], np.int8)
    assert average_precision(scores, verdicts, 2) == pytest.approx(1 / 2 * (1 + 1 / 2) / 2)


def test_no_prediction_gives_an_empty_curve() -> None:
    assert average_precision(np.empty(0), np.empty(0, np.int8), 2) == 0


def test_nothing_judged_gives_no_numbers() -> None:
    overall, per_class = CityscapesObjects(THINGS).compute()
    assert all(math.isnan(value) for value in overall.values())
    assert all(math.isnan(value) for values in per_class.values() for value in values.values())


def test_results_may_be_numbered_by_all_classes() -> None:
    car, road = CLASSES.names.index("car"), CLASSES.names.index("road")
    metrics = CityscapesObjects(CLASSES)
    # the road is no thing and takes no part
    result = result_of((0, 200, 0.5, car), (200, 300, 0.9, road))
    metrics.update(result, truth_of({FIRST_CAR: 200}), CLASSES)
    overall, per_class = metrics.compute()
    assert overall["AP"] == 100
    assert list(per_class) == list(THINGS.names)


def random_objects(generator: np.random.Generator) -> list[tuple[int, int, float, int]]:
    starts = generator.integers(0, 900, 8).tolist()
    return [
        (start, start + int(generator.integers(0, 300)), float(generator.integers(1, 9)) / 8, CAR)
        for start in starts
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_do_not_depend_on_order_or_division(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = {FIRST_CAR: 200, 0: 90, SECOND_CAR: 250, CAR_GROUP: 80, 26002: 120, 26003: 70}
    images = [[*random_objects(generator), (0, 190, 0.7, CAR)] for _ in range(9)]
    truth = truth_of(lengths)
    whole = CityscapesObjects(THINGS)
    for objects in images:
        whole.update(result_of(*objects), truth, CLASSES)
    parts = [CityscapesObjects(THINGS) for _ in range(3)]
    for i in generator.permutation(len(images)):
        shuffled = [images[i][j] for j in generator.permutation(len(images[i]))]
        parts[generator.integers(3)].update(result_of(*shuffled), truth, CLASSES)
    merged = pickle.loads(pickle.dumps(parts[0]))  # noqa: S301  our own bytes
    merged.merge(parts[2])
    merged.merge(parts[1])
    assert merged.compute()[0] == whole.compute()[0]
    assert 0 < whole.compute()[0]["AP"] < 100


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"= \(3, 4\) and the ground truth \(20, 60\)"):
        CityscapesObjects(THINGS).update(InstanceResult(3, 4, []), truth_of({}), CLASSES)


def test_classes_that_are_not_annotated_are_refused() -> None:
    classes = Classes(("car", "boat"), (26, 99), (True, True))
    with pytest.raises(ValueError, match=r"classes \['boat'\] of the results are none of the"):
        CityscapesObjects(classes).update(result_of(), truth_of({}), CLASSES)
