"""IoU and iIoU of Cityscapes by hand; tests/parity compares them with cityscapesScripts."""

import math
import pickle

import numpy as np
import pytest

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.evaluation.cityscapes_pixels import (
    CATEGORIES,
    MEAN_OBJECT_AREA,
    CityscapesPixels,
)
from mask2former.types import Classes

CLASSES = class_table("cityscapes")
ROAD, SIDEWALK, SKY, PERSON, RIDER, CAR, BUS = (
    CLASSES.names.index(name)
    for name in ("road", "sidewalk", "sky", "person", "rider", "car", "bus")
)
LACKING = len(CLASSES)


def count(metrics: CityscapesPixels, predicted: list[int], ids: list[int]) -> None:
    """One row of pixels; ids as in `*_instanceIds.png`, below 7 not scored."""
    class_ids = CLASSES.class_id_by_category()
    segments = []
    for id_ in sorted(set(ids)):
        label = id_ if id_ < 1000 else id_ // 1000
        if label in class_ids:
            class_id = class_ids[label]
            is_crowd = CLASSES.is_thing[class_id] and id_ < 1000
            segments.append(SegmentLabel(id_, class_id, is_crowd))
    truth = SegmentMap(np.array([ids], np.int32), tuple(segments))
    metrics.update(np.array([predicted]), truth)


def counted(predicted: list[int], ids: list[int]) -> CityscapesPixels:
    metrics = CityscapesPixels(CLASSES)
    count(metrics, predicted, ids)
    return metrics


def defined(table: dict[str, dict[str, float]]) -> dict[tuple[str, str], float]:
    """The numbers of a table, by row and column, without NaN, which equals nothing."""
    return {
        (name, metric): value
        for name, values in table.items()
        for metric, value in values.items()
        if not math.isnan(value)
    }


def test_the_tables_have_every_class_of_cityscapes_once() -> None:
    members = [name for names in CATEGORIES.values() for name in names]
    assert sorted(members) == sorted(CLASSES.names)
    things = {n for n, t in zip(CLASSES.names, CLASSES.is_thing, strict=True) if t}
    assert set(MEAN_OBJECT_AREA) == things


def test_iou_of_classes_and_categories() -> None:
    # road: 2 of 4 true and 2 predicted; sidewalk: 1 of 1 true and 3 predicted; sky is predicted
    # once and nowhere true. Flat: 5 true, 5 predicted, 5 shared; the category sky as the class.
    metrics = counted([ROAD, ROAD, SIDEWALK, SIDEWALK, SIDEWALK, SKY], [7, 7, 7, 7, 8, 21])
    overall, per_class = metrics.compute()
    # vegetation, at the pixel of the sky, is 0 as well
    assert overall["IoU"] == pytest.approx(100 * (2 / 4 + 1 / 3 + 0 + 0) / 4)
    # flat 1, nature 0, sky 0
    assert overall["IoU_sup"] == pytest.approx(100 / 3)
    table = metrics.per_category()
    assert table["flat"] == {"IoU": pytest.approx(100)}
    assert table["sky"] == {"IoU": 0}
    assert math.isnan(table["human"]["IoU"])
    assert math.isnan(overall["iIoU"])
    assert math.isnan(overall["iIoU_sup"])
    assert set(overall) == {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}
    assert set(per_class) == set(MEAN_OBJECT_AREA)


def test_pixels_that_are_not_scored_are_no_mistake_whatever_is_predicted() -> None:
    overall = counted([ROAD, ROAD, CAR, LACKING], [7, 0, 4, 29000]).compute()[0]
    assert overall["IoU"] == 100
    assert math.isnan(overall["iIoU"])  # the predicted car lies where nothing is scored


def test_a_class_that_the_data_set_lacks_is_a_miss_and_no_false_alarm() -> None:
    overall = counted([ROAD, LACKING], [7, 7]).compute()[0]
    assert overall["IoU"] == 50
    assert overall["IoU_sup"] == 50


def test_objects_of_a_class_weigh_the_same() -> None:
    # one car of 4 pixels is found, one of 1 pixel is missed: IoU is 4/5, iIoU 1/2
    overall, per_class = counted([CAR] * 4 + [ROAD], [26000] * 4 + [26001]).compute()
    assert per_class["car"]["iIoU"] == pytest.approx(50)
    assert overall["IoU"] == pytest.approx(100 * (4 / 5 + 0) / 2)  # the road is false
    assert overall["iIoU"] == pytest.approx(50)


def test_false_alarms_weigh_as_pixels() -> None:
    # the car weighs as 12794.02 pixels, half of which are found; one pixel of road is taken for it
    found = counted([CAR, ROAD, CAR], [26000, 26000, 7]).compute()[1]["car"]["iIoU"]
    mean = MEAN_OBJECT_AREA["car"]
    assert found == pytest.approx(100 * (mean / 2) / (mean + 1), rel=1e-12)


def test_groups_weigh_nothing_and_are_no_false_alarm() -> None:
    alone = counted([CAR, CAR], [26000, 26000])
    # one group is found and another missed
    grouped = counted([CAR, CAR, CAR, ROAD], [26000, 26000, 26, 26])
    assert defined(grouped.compute()[1]) == defined(alone.compute()[1]) == {("car", "iIoU"): 100}
    assert grouped.compute()[0]["IoU"] == pytest.approx(100 * (3 / 4 + 0) / 2)


def test_a_class_of_the_same_category_is_right_for_the_category() -> None:
    # a person taken for a rider; a bus taken half for a car, half for a person
    metrics = counted([RIDER, CAR, PERSON], [24000, 28000, 28000])
    overall, per_class = metrics.compute()
    assert per_class["person"]["iIoU"] == 0
    assert per_class["bus"]["iIoU"] == 0
    table = metrics.per_category()
    person = MEAN_OBJECT_AREA["person"]
    # of humans, one pixel more is predicted
    assert table["human"]["iIoU"] == pytest.approx(100 * person / (person + 1), rel=1e-12)
    assert table["vehicle"]["iIoU"] == pytest.approx(50)
    assert table["human"]["IoU"] == pytest.approx(50)
    assert overall["iIoU_sup"] == pytest.approx(
        (table["human"]["iIoU"] + table["vehicle"]["iIoU"]) / 2
    )


def test_only_categories_of_objects_have_an_iiou() -> None:
    table = counted([ROAD], [7]).per_category()
    assert [name for name, values in table.items() if "iIoU" in values] == ["human", "vehicle"]


def test_a_listed_object_without_pixels_weighs_nothing() -> None:
    metrics = CityscapesPixels(CLASSES)
    segments = (SegmentLabel(26000, CAR), SegmentLabel(26001, CAR))
    metrics.update(np.array([[CAR]]), SegmentMap(np.array([[26000]], np.int32), segments))
    assert metrics.compute()[1]["car"]["iIoU"] == 100


def test_nothing_counted_gives_no_numbers() -> None:
    overall, per_class = CityscapesPixels(CLASSES).compute()
    assert all(math.isnan(value) for value in overall.values())
    assert all(math.isnan(values["iIoU"]) for values in per_class.values())


def test_classes_may_stand_in_another_order() -> None:
    order = np.random.default_rng(1).permutation(len(CLASSES))
    other = Classes(*(tuple(np.array(part)[order].tolist()) for part in vars(CLASSES).values()))
    place = {int(class_id): i for i, class_id in enumerate(order)}
    metrics = CityscapesPixels(other)
    segments = (SegmentLabel(26000, place[CAR]), SegmentLabel(7, place[ROAD]))
    ids = np.array([[26000, 26000, 7, 7]], np.int32)
    predicted = np.array([[place[CAR], place[ROAD], place[ROAD], place[BUS]]])
    metrics.update(predicted, SegmentMap(ids, segments))
    same = counted([CAR, ROAD, ROAD, BUS], ids[0].tolist())
    assert metrics.compute()[0] == pytest.approx(same.compute()[0], rel=1e-12)
    assert defined(metrics.compute()[1]) == pytest.approx(defined(same.compute()[1]), rel=1e-12)
    assert defined(metrics.per_category()) == pytest.approx(defined(same.per_category()), rel=1e-12)


def random_row(generator: np.random.Generator) -> tuple[list[int], list[int]]:
    ids = generator.choice([0, 4, 7, 8, 24, 24000, 24001, 26, 26000, 26001, 33000, 29000], 200)
    return generator.integers(0, len(CLASSES) + 1, 200).tolist(), ids.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_do_not_depend_on_order_or_division(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [random_row(generator) for _ in range(12)]
    whole = CityscapesPixels(CLASSES)
    for row in rows:
        count(whole, *row)
    parts = [CityscapesPixels(CLASSES) for _ in range(3)]
    for i in generator.permutation(len(rows)):
        count(parts[generator.integers(3)], *rows[i])
    merged = pickle.loads(pickle.dumps(parts[0]))  # noqa: S301  our own bytes
    merged.merge(parts[2])
    merged.merge(parts[1])
    assert merged.compute()[0] == whole.compute()[0]
    assert defined(merged.compute()[1]) == defined(whole.compute()[1])
    assert defined(merged.per_category()) == defined(whole.per_category())


def test_sizes_must_agree() -> None:
    truth = SegmentMap(np.full((1, 3), 7, np.int32), (SegmentLabel(7, ROAD),))
    with pytest.raises(ValueError, match=r"size \(h, w\) = \(1, 2\) and the ground truth \(1, 3\)"):
        CityscapesPixels(CLASSES).update(np.zeros((1, 2), int), truth)


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"classes \['tree'\] are none of Cityscapes, which"):
        CityscapesPixels(Classes(("road", "tree"), (7, 8), (False, False)))
