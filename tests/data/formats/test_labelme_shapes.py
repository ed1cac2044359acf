import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Mask
from mask2former.data.formats.labelme_groups import Shapes, class_labels, group_shapes
from mask2former.data.formats.labelme_shapes import (
    Bitmap,
    Fault,
    ignored_mask,
    object_mask,
    read_region,
)
from mask2former.masks.polygons import rasterize_polygons
from mask2former.masks.rle import decode_rle

HEIGHT, WIDTH = 20, 30


def box(x1: float, y1: float, x2: float, y2: float, label: str = "a", **more) -> dict[str, Any]:
    return {"label": label, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle", **more}


def group(*shapes: dict[str, Any]) -> Shapes:
    return group_shapes(shapes, HEIGHT, WIDTH)


def pixels(mask: Mask) -> np.ndarray:
    return decode_rle(mask) if isinstance(mask, dict) else rasterize_polygons(mask, HEIGHT, WIDTH)


def painted(parts: tuple) -> np.ndarray:
    return pixels(object_mask(parts, HEIGHT, WIDTH))


def nobodys(found: Shapes) -> Mask | None:
    """What of the one ignored shape is not drawn over."""
    ((part, num_below),) = found.ignored
    above = [object_mask(parts, HEIGHT, WIDTH) for _, parts in found.objects[num_below:]]
    return ignored_mask(part, above, HEIGHT, WIDTH)


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    """Filled where an odd number of boxes lies on one another."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for x1, y1, x2, y2 in corners:
        mask[y1:y2, x1:x2] ^= True
    return mask


def png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_shapes_of_one_label_and_group_are_one_object() -> None:
    objects, _, faults = group(
        box(0, 0, 4, 4, group_id=1),
        box(0, 5, 4, 9),
        box(6, 0, 9, 4, group_id=1),
        box(6, 0, 9, 4, "b", group_id=1),
        box(0, 5, 4, 9),
    )
    assert not faults
    assert [(label, len(parts)) for label, parts in objects] == [
        ("a", 2),
        ("a", 1),
        ("b", 1),
        ("a", 1),
    ]
    np.testing.assert_array_equal(painted(objects[0][1]), boxes((0, 0, 4, 4), (6, 0, 9, 4)))


def test_parts_beside_one_another_stay_polygons() -> None:
    ((_, parts),) = group(box(0, 0, 4, 4, group_id=1), box(3, 3, 9, 9, group_id=1)).objects
    mask = object_mask(parts, HEIGHT, WIDTH)
    assert isinstance(mask, tuple)
    assert len(mask) == 2


def test_part_inside_a_part_of_its_object_is_a_hole_and_in_that_an_island() -> None:
    corners = [(0, 0, 20, 18), (2, 2, 16, 16), (4, 4, 12, 12)]
    ((_, parts),) = group(*(box(*c, group_id=0) for c in corners[::-1])).objects
    np.testing.assert_array_equal(painted(parts), boxes(*corners))


def test_the_same_part_twice_is_no_hole() -> None:
    ((_, parts),) = group(box(1, 1, 5, 5, group_id=0), box(1, 1, 5, 5, group_id=0)).objects
    np.testing.assert_array_equal(painted(parts), boxes((1, 1, 5, 5)))


def test_objects_without_group_hide_nothing_of_one_another() -> None:
    objects = group(box(0, 0, 20, 18), box(2, 2, 16, 16)).objects
    assert painted(objects[0][1]).sum() == 20 * 18


@pytest.mark.parametrize("flagged", [True, False])
def test_marked_hole_is_cut_from_its_group_even_if_it_sticks_out(flagged: bool) -> None:
    hole = (
        box(5, 5, 25, 8, flags={"hole": True}, group_id=3)
        if flagged
        else box(5, 5, 25, 8, "__hole__", group_id=3)
    )
    # whatever the order of drawing
    for shapes in ([hole, box(0, 0, 10, 10, group_id=3)], [box(0, 0, 10, 10, group_id=3), hole]):
        ((label, parts),) = group(*shapes).objects
        assert label == "a"
        np.testing.assert_array_equal(painted(parts), boxes((0, 0, 10, 10), (5, 5, 10, 8)))


def test_hole_by_label_is_cut_from_all_of_its_group() -> None:
    objects = group(
        box(0, 0, 9, 9, group_id=1), box(0, 0, 9, 9, "b", group_id=1), box(0, 0, 9, 9, "b"),
        box(2, 2, 4, 4, "__hole__", group_id=1),
    ).objects  # fmt: skip
    assert [painted(parts).sum() for _, parts in objects] == [77, 77, 81]


def test_hole_of_no_object_is_refused() -> None:
    *_, (fault,) = group(box(0, 0, 9, 9), box(2, 2, 4, 4, "__hole__"))
    assert (fault.kind, fault.is_error) == ("bad polygon", True)
    assert "shape 1 ('__hole__') is a hole, but no object has its label and group_id" in (
        fault.message
    )


def test_background_cuts_what_was_drawn_before_it() -> None:
    objects = group(
        box(0, 0, 10, 10), box(5, 5, 15, 8, "_background_"), box(5, 0, 10, 10, "b")
    ).objects
    assert [label for label, _ in objects] == ["a", "b"]
    np.testing.assert_array_equal(painted(objects[0][1]), boxes((0, 0, 10, 10), (5, 5, 10, 8)))
    np.testing.assert_array_equal(painted(objects[1][1]), boxes((5, 0, 10, 10)))


def test_ignored_shapes_are_no_objects_and_lie_where_they_were_drawn() -> None:
    found = group(box(0, 0, 9, 9), box(4, 4, 14, 14, "__ignore__"), box(8, 0, 12, 6, "b"))
    assert [label for label, _ in found.objects] == ["a", "b"]
    assert [one.num_below for one in found.ignored] == [1]
    mask = nobodys(found)
    assert mask is not None
    expected = boxes((4, 4, 14, 14)) & ~boxes((8, 0, 12, 6))
    np.testing.assert_array_equal(pixels(mask), expected)


def test_ignored_shape_that_nothing_covers_stays_a_polygon() -> None:
    mask = nobodys(group(box(4, 4, 14, 14, "__ignore__"), box(20, 0, 22, 6)))
    assert isinstance(mask, tuple)
    np.testing.assert_array_equal(pixels(mask), boxes((4, 4, 14, 14)))


def test_ignored_shape_that_is_drawn_over_is_gone() -> None:
    assert nobodys(group(box(4, 4, 6, 6, "__ignore__"), box(0, 0, 10, 10))) is None
    assert nobodys(group(box(4, 4, 6, 6, "__ignore__"), box(0, 0, 10, 10, "_background_"))) is None


def test_ignored_shape_shows_through_the_hole_of_an_object() -> None:
    found = group(
        box(0, 0, 10, 10, "__ignore__"),
        box(0, 0, 10, 10, group_id=1),
        box(2, 2, 6, 6, group_id=1),
    )
    mask = nobodys(found)
    assert mask is not None
    np.testing.assert_array_equal(pixels(mask), boxes((2, 2, 6, 6)))


def test_corners_of_rectangles_come_in_any_order() -> None:
    for points in ([[9, 2], [1, 5]], [[1, 5], [9, 2]], [[1, 2], [9, 2], [9, 5], [1, 5]]):
        region = read_region({"points": points, "shape_type": "rectangle"}, HEIGHT, WIDTH)
        assert isinstance(region, np.ndarray)
        np.testing.assert_array_equal(
            rasterize_polygons([region], HEIGHT, WIDTH), boxes((1, 2, 9, 5))
        )


@pytest.mark.parametrize("kind", ["polygon", None, "oriented_rectangle", "rotation"])
def test_outlines_are_kept_as_they_are(kind: str | None) -> None:
    points = [[3, 1], [9, 4], [7, 8], [1, 5]]
    region = read_region({"points": points, "shape_type": kind}, HEIGHT, WIDTH)
    np.testing.assert_array_equal(region, points)


def test_circle_has_its_area() -> None:
    region = read_region({"points": [[15, 10], [15, 18]], "shape_type": "circle"}, HEIGHT, WIDTH)
    assert isinstance(region, np.ndarray)
    inside = rasterize_polygons([region], HEIGHT, WIDTH)
    assert inside[10, 15]
    assert not inside[1, 15]
    # pi 8^2 = 201, within one pixel in 40 of the circumference
    assert inside.sum() == pytest.approx(np.pi * 64, rel=0.025)


def test_painted_mask_lies_at_its_box_and_is_cut_at_the_border() -> None:
    crop = np.array([[255, 0, 255], [255, 255, 0]], np.uint8)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    for left, top in ((4, 6), (-1, -1), (28, 19)):
        shape = {
            "label": "a",
            "points": [[left, top], [left + 2, top + 1]],
            "shape_type": "mask",
            "mask": png(crop),
        }
        ((_, parts),) = group(shape).objects
        expected[:] = False
        for y, x in np.argwhere(crop):
            if 0 <= y + top < HEIGHT and 0 <= x + left < WIDTH:
                expected[y + top, x + left] = True
        np.testing.assert_array_equal(painted(parts), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_any_kind_of_png_can_be_a_mask(mode: str) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8) * 255).convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    shape = {"points": [[0, 0], [1, 0]], "shape_type": "mask"}
    region = read_region(
        {**shape, "mask": base64.b64encode(file.getvalue()).decode()}, HEIGHT, WIDTH
    )
    assert isinstance(region, Bitmap)


@pytest.mark.parametrize(
    ("shape", "kind", "is_error", "message"),
    [
        ({"shape_type": "line", "points": [[0, 0], [1, 1]]}, "no mask", False, "is a line, which"),
        ({"shape_type": "point", "points": [[0, 0]]}, "no mask", False, "has no area"),
        ({"shape_type": "cuboid", "points": [[0, 0]]}, "no mask", True, "'cuboid'; accepted: poly"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]]}, "no mask", True, "without a readable"),
        (
            {"shape_type": "mask", "points": [[0, 0]], "mask": "AAAA"},
            "no mask",
            True,
            "without a readable",
        ),
        ({"points": [[0, 0], [1, 1]]}, "degenerate polygon", False, "2 points that enclose no"),
        ({"points": []}, "degenerate polygon", False, "0 points that enclose no area"),
        ({"points": [[0, 0], [4, 4], [8, 8]]}, "degenerate polygon", False, "enclose no area"),
        ({"points": [[0, 0], [4, "x"], [8, 8]]}, "bad polygon", True, "no pairs of numbers"),
        ({"points": [[0, 0], [4], [8, 8]]}, "bad polygon", True, "no pairs of numbers"),
        ({"points": [[0, 0], [4, 1e9], [8, 8]]}, "bad polygon", True, "no pairs of numbers"),
        ({}, "bad polygon", True, "no pairs of numbers"),
        (
            {"shape_type": "circle", "points": [[0, 0]]},
            "bad polygon",
            True,
            "circle of 1 points; give the centre",
        ),
        (
            {"shape_type": "rectangle", "points": [[0, 0]]},
            "bad polygon",
            True,
            "rectangle of 1 points; give 2 or 4",
        ),
        (
            {"points": [[40, 0], [50, 0], [50, 9]]},
            "mask outside image",
            True,
            r"from (x, y) = (40.0, 0.0) to (50.0, 9.0) where (w, h) = (30, 20); move it",
        ),
    ],
)
def test_faulty_shapes_are_named(
    shape: dict[str, Any], kind: str, is_error: bool, message: str
) -> None:
    fault = read_region(shape, HEIGHT, WIDTH)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.is_error) == (kind, is_error)
    assert message in fault.message
    objects, _, (named,) = group(box(0, 0, 5, 5), {"label": "b", **shape})
    assert named.message == f"shape 1 ('b') {fault.message}"
    assert len(objects) == 1


def test_shape_without_label_is_named() -> None:
    *_, (fault,) = group({"points": [[0, 0], [4, 0], [4, 4]]})
    assert (fault.kind, fault.message) == ("unknown class", "shape 0 has no label; give it one")


def test_impossible_group_is_named_and_impossible_flags_are_none() -> None:
    objects, _, (fault,) = group(
        box(0, 0, 5, 5, group_id=[1]), box(0, 0, 5, 5, flags=["hole"], group_id=1)
    )
    assert len(objects) == 1
    assert fault.kind == "unreadable annotation"
    assert fault.message == "shape 0 ('a') has the group_id [1]; give it a number or none"


def test_labels_that_name_no_objects_are_no_classes() -> None:
    shapes = [
        box(0, 0, 1, 1, "car"),
        box(0, 0, 1, 1, "__ignore__"),
        box(0, 0, 1, 1, "_background_"),
        box(0, 0, 1, 1, "__hole__"),
        {"label": "way", "shape_type": "line"},
        {"label": 3},
        {"label": ["car"]},
        "damage",
    ]
    assert class_labels(shapes) == {"car"}
