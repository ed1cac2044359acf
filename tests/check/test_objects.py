import numpy as np
import pytest

from mask2former.check.findings import Finding
from mask2former.check.objects import look_at_objects, overlap_of, polygon_area
from mask2former.data.annotations import Instance, Instances, SegmentLabel, SegmentMap
from mask2former.masks.rle import encode_mask
from mask2former.types import Classes

CLASSES = Classes(("cat", "dog"), (1, 2), (True, True))


IMAGE = "photo.jpg"


def outline(*points: tuple[float, float]) -> Instance:
    return Instance(0, (np.array(points, np.float64),), is_crowd=False, area=0.0)


def rectangle(left: int, top: int, right: int, bottom: int, class_id: int = 0) -> Instance:
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return Instance(class_id, (corners,), is_crowd=False, area=0.0)


def faults_of(*items: Instance) -> list[Finding]:
    return look_at_objects(Instances(20, 30, items), CLASSES, IMAGE).findings


def test_objects_are_measured() -> None:
    objects = look_at_objects(
        Instances(20, 30, (rectangle(2, 3, 12, 9), rectangle(20, 0, 26, 20, 1))), CLASSES, IMAGE
    )
    assert objects.table["area"].tolist() == [60, 120]
    assert objects.table["class_id"].tolist() == [0, 1]
    assert objects.table["height"].tolist() == [6, 20]
    assert objects.table["width"].tolist() == [10, 6]
    assert (objects.overlap, objects.unlabelled, objects.findings) == (0, 0, [])


def test_segments_are_measured_and_the_rest_is_unlabelled() -> None:
    ids = np.zeros((5, 7), np.int32)
    ids[1:3, 2:6] = 300
    ids[4, 0] = 2
    segments = (SegmentLabel(2, 1, is_crowd=True), SegmentLabel(300, 0))
    objects = look_at_objects(SegmentMap(ids, segments), CLASSES, IMAGE)
    assert objects.table["area"].tolist() == [1, 8]
    assert objects.table["is_crowd"].tolist() == [True, False]
    assert objects.table["height"].tolist() == [1, 2]
    assert objects.table["width"].tolist() == [1, 4]
    assert objects.unlabelled == 35 - 9
    assert overlap_of(SegmentMap(ids, segments)) == 0


def test_overlap_counts_every_object_beyond_the_first() -> None:
    # three rectangles share a column of 4 pixels; two of them share 4 more
    items = (rectangle(0, 0, 5, 4), rectangle(4, 0, 9, 4), rectangle(3, 0, 5, 4, 1))
    # columns 3 (first, third), 4 (all three): 4 + 2 * 4
    assert overlap_of(Instances(20, 30, items)) == 12


def test_crowds_overlap_nothing() -> None:
    crowd = Instance(0, encode_mask(np.ones((20, 30), bool)), is_crowd=True, area=600.0)
    assert overlap_of(Instances(20, 30, (rectangle(0, 0, 5, 4), crowd))) == 0


@pytest.mark.parametrize("right", [30, 31])
def test_outlines_along_the_border_are_inside(right: int) -> None:
    assert faults_of(rectangle(10, 10, right, 20)) == []


def test_what_reaches_beyond_the_image_is_a_warning_and_what_lies_outside_an_error() -> None:
    (partly,) = faults_of(rectangle(10, 10, 45, 20))
    assert (partly.kind, partly.problem.is_error) == ("mask outside image", False)
    assert "object 1 (cat) of photo.jpg reaches 15 pixels beyond" in partly.message
    (wholly,) = faults_of(rectangle(40, 10, 45, 20))
    assert (wholly.kind, wholly.problem.is_error) == ("mask outside image", True)
    assert "no pixel inside" in wholly.message


@pytest.mark.parametrize(
    "line", [outline((2, 2), (9, 9), (5, 5)), outline((3, 3), (3.1, 3), (3.1, 3.1))]
)
def test_polygons_without_area_are_degenerate(line: Instance) -> None:
    (fault,) = faults_of(line)
    assert (fault.kind, fault.problem.is_error) == ("degenerate polygon", False)


def test_an_empty_run_length_encoding_is_no_mask() -> None:
    empty = Instance(1, encode_mask(np.zeros((20, 30), bool)), is_crowd=False, area=0.0)
    (fault,) = faults_of(empty)
    assert fault.kind == "no mask"
    assert "object 1 (dog)" in fault.message


def test_objects_drawn_twice_are_named_once() -> None:
    (fault,) = faults_of(rectangle(2, 2, 12, 12), rectangle(2, 2, 12, 12))
    assert fault.kind == "duplicate object"
    assert "objects 1 and 2" in fault.message
    assert faults_of(rectangle(2, 2, 12, 12), rectangle(2, 2, 12, 12, class_id=1)) == []


def test_polygon_area_is_that_of_a_triangle() -> None:
    # base 6, height 4
    assert polygon_area(np.array([(101.0, 200), (107, 200), (103, 204)])) == 12
