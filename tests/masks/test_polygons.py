import numpy as np
import pycocotools.mask as coco_mask
import pytest

from mask2former.masks.polygons import move_polygons, polygons_to_rle, rasterize_polygons

SQUARE = np.array([[1.0, 2.0], [4.0, 2.0], [4.0, 5.0], [1.0, 5.0]])
SHIFTED = np.add(SQUARE, (2, 1))


def star(center: tuple[float, float], radius: float) -> np.ndarray:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, 0.4, 1.0) * radius
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None] + center


def test_square_covers_the_pixels_between_its_corners() -> None:
    mask = rasterize_polygons([SQUARE], 7, 9)
    expected = np.zeros((7, 9), bool)
    expected[2:5, 1:4] = True
    np.testing.assert_array_equal(mask, expected)


def test_parts_are_one_union() -> None:
    both = rasterize_polygons([SQUARE, SHIFTED], 9, 11)
    either = rasterize_polygons([SQUARE], 9, 11) | rasterize_polygons([SHIFTED], 9, 11)
    np.testing.assert_array_equal(both, either)
    assert both.sum() == 9 + 9 - 2  # two squares of 9 pixels share 1 x 2


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools 2.0.11, NumPy 2.4
def test_filling_equals_pycocotools_bit_by_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts = [star(rng.uniform(0, 40, 2), rng.uniform(2, 25)).round(2) for _ in range(2)]
        lists = [part.ravel().tolist() for part in parts]
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(lists, 37, 43)))
        np.testing.assert_array_equal(rasterize_polygons(parts, 37, 43), expected.astype(bool))


def test_filling_in_a_window_equals_cutting_the_window_out() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        polygon = star((30.3, 28.7), rng.uniform(10, 26))
        whole = rasterize_polygons([polygon], 60, 64)
        window = rasterize_polygons([polygon - [11, 9]], 33, 29)
        # pycocotools rounds to 1/5 pixel towards 0, so corners left of the window or above it
        # move by up to 1/5 pixel: a pixel for each of the 10 edges of the star at most
        assert (window != whole[9 : 9 + 33, 11 : 11 + 29]).sum() <= 10


def test_polygon_outside_the_image_is_empty() -> None:
    assert not rasterize_polygons([SQUARE - 50], 7, 9).any()
    assert not rasterize_polygons([SQUARE + 50], 7, 9).any()
    assert polygons_to_rle([SQUARE + 50], 7, 9)["size"] == [7, 9]


def test_points_are_scaled_then_shifted() -> None:
    (moved,) = move_polygons([SQUARE], (-2.0, 3.0), (10.0, 1.0))
    # (1, 2) -> (-2 + 10, 6 + 1), (4, 5) -> (-8 + 10, 15 + 1)
    assert moved.tolist() == [[8, 7], [2, 7], [2, 16], [8, 16]]


@pytest.mark.parametrize("num_points", [3, 4, 5])
def test_few_points_are_a_polygon_and_no_box(num_points: int) -> None:
    angles = np.arange(num_points) * 2 * np.pi / num_points
    polygon = np.stack([np.cos(angles), np.sin(angles)], 1) * 8 + [10, 11]
    area = rasterize_polygons([polygon], 22, 24).sum()
    # a regular n-gon has area n / 2 r^2 sin(2 pi / n); the outline is uncertain by half a pixel
    side = 2 * 8 * np.sin(np.pi / num_points)
    exact = num_points / 2 * 64 * np.sin(2 * np.pi / num_points)
    assert abs(area - exact) < num_points * side / 2
