import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mask2former.masks.contours import join_polygons, mask_outlines
from mask2former.masks.polygons import rasterize_polygons

masks = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda size: arrays(bool, size, elements=st.booleans())
)


def winding(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """How often a polygon with level and upright edges goes around each pixel's centre."""
    turns = np.zeros((height + 1, width), np.int64)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 == y1:
            turns[int(y0), int(min(x0, x1)) : int(max(x0, x1))] += 1 if x1 > x0 else -1
    return np.cumsum(turns, axis=0)[:-1]


@given(mask=masks)
@settings(max_examples=400, deadline=None)
def test_outlines_fill_to_the_same_mask(mask: np.ndarray) -> None:
    height, width = mask.shape
    outlines = mask_outlines(mask)
    if not mask.any():
        assert outlines == ()
        return
    assert np.array_equal(rasterize_polygons(outlines, height, width), mask)
    joined = join_polygons(outlines)
    assert np.array_equal(rasterize_polygons([joined], height, width), mask)


@given(mask=masks)
@settings(max_examples=200, deadline=None)
def test_outlines_wind_once_around_each_pixel_and_never_around_holes(mask: np.ndarray) -> None:
    turns = sum((winding(p, *mask.shape) for p in mask_outlines(mask)), np.zeros(mask.shape, int))
    assert np.array_equal(turns, mask.astype(int))


def test_parts_that_touch_at_a_corner_are_two() -> None:
    mask = np.array([[1, 0], [0, 1]], bool)
    first, second = mask_outlines(mask)
    assert first.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert second.tolist() == [[1, 1], [2, 1], [2, 2], [1, 2]]
    assert len(mask_outlines(mask[::-1].copy())) == 2


def test_a_hole_hangs_on_the_edge_above_it() -> None:
    mask = np.ones((3, 4), bool)
    mask[1, 2] = False
    (outline,) = mask_outlines(mask)
    assert outline.tolist() == [
        *([0, 0], [2, 0]),
        *([2, 1], [2, 2], [3, 2], [3, 1], [2, 1]),
        *([2, 0], [4, 0], [4, 3], [0, 3]),
    ]


def test_an_island_in_a_hole_is_a_part_of_its_own() -> None:
    mask = np.ones((5, 5), bool)
    mask[1:4, 1:4] = False
    mask[2, 2] = True
    assert [len(outline) for outline in mask_outlines(mask)] == [4 + 7, 4]


def test_noise_with_hundreds_of_nested_holes_is_traced() -> None:
    mask = np.random.default_rng(0).random((160, 200)) < 0.5
    outlines = mask_outlines(mask)
    assert np.array_equal(rasterize_polygons(outlines, 160, 200), mask)


def test_joined_parts_are_reached_from_the_nearest_corner() -> None:
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    joined = join_polygons([square, square + np.array([5.0, 0.5])])
    assert len(joined) == 4 + 5 + 1
    # corners (2, 0) and (5, 0.5) are nearest
    assert joined[1].tolist() == [2.0, 0.0]
    assert joined[2].tolist() == joined[6].tolist() == [5.0, 0.5]
    assert joined[7].tolist() == [2.0, 0.0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_joining_parts_that_do_not_overlap_changes_no_pixel(count: int) -> None:
    generator = np.random.default_rng(count)
    parts = [
        np.array([10.0 * (i % 3), 10.0 * (i // 3)]) + generator.uniform(0.0, 9.0, (6, 2))
        for i in range(count)
    ]
    expected = np.zeros((20, 30), bool)
    for part in parts:
        expected |= rasterize_polygons([part], 20, 30)
    assert np.array_equal(rasterize_polygons([join_polygons(parts)], 20, 30), expected)
