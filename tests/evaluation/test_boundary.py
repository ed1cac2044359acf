"""Boundaries from integers of bits against erosion of the whole image."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_erosion

from mask2former.evaluation.boundary import boundary_distance, boundary_iou, find_boundaries
from mask2former.masks.rle import encode_mask


def eroded_from_outside(mask, distance):
    inner = binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=distance)[1:-1, 1:-1]
    return mask & ~inner


def as_mask(boundary, size):
    """The bits back in the image."""
    height, width = size
    length = boundary.bits.bit_length()
    packed = np.frombuffer(boundary.bits.to_bytes(length // 8 + 1, "little"), np.uint8)
    mask = np.zeros((width, height), bool)
    mask[boundary.first_column :].flat[:length] = np.unpackbits(packed, bitorder="little")[:length]
    return mask.T


def random_mask(generator, size):
    """Full, scattered, or made of a few rectangles that may touch the image's borders."""
    kind = generator.integers(4)
    if kind == 0:
        return generator.random(size) < generator.choice([0.0, 0.05, 0.5, 0.95, 1.0])
    mask = np.zeros(size, bool)
    for _ in range(generator.integers(1, 4)):
        (y, y_end), (x, x_end) = (np.sort(generator.integers(0, n + 1, 2)) for n in size)
        mask[y:y_end, x:x_end] ^= True
    return mask


@pytest.mark.parametrize(
    ("height", "width", "distance"),
    [
        (3, 4, 1),  # 0.1 is at least 1
        (30, 40, 1),  # 1.0
        (45, 60, 2),  # 1.5 is rounded to the even number
        (75, 100, 2),  # 2.5 is rounded to the even number
        (480, 640, 16),
    ],
)
def test_distance_is_two_hundredths_of_the_diagonal(height, width, distance) -> None:
    assert boundary_distance(height, width) == distance


def test_boundaries_equal_those_of_the_whole_image() -> None:
    generator = np.random.default_rng(0)
    for index in range(400):
        size = tuple(int(n) for n in generator.integers(1, 12 if index % 4 else 130, 2))
        mask = random_mask(generator, size)
        (found,) = find_boundaries([encode_mask(mask)])
        expected = eroded_from_outside(mask, boundary_distance(*size))
        np.testing.assert_array_equal(as_mask(found, size), expected)
        assert found.area == expected.sum()


def test_iou_equals_that_of_run_lengths_to_the_last_bit() -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        size = tuple(int(n) for n in generator.integers(1, 60, 2))
        masks = [random_mask(generator, size) for _ in range(5)]
        found = find_boundaries([encode_mask(mask) for mask in masks])
        thin = [encode_mask(eroded_from_outside(m, boundary_distance(*size))) for m in masks]
        expected = coco_mask.iou(thin, thin, [0] * len(thin))
        ious = [[boundary_iou(a, b, size[0]) for b in found] for a in found]
        np.testing.assert_array_equal(ious, expected)


def test_no_masks_have_no_boundaries() -> None:
    assert find_boundaries([]) == []
