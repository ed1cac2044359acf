"""Integers of bits against masks that are decoded one by one."""

import numpy as np
from pycocotools import mask as coco_mask

from mask2former.masks.rle import decode_rle, encode_mask
from mask2former.masks.rle_bits import rle_bits


def as_mask(found, size):
    """The bits back in the image."""
    height, width = size
    mask = np.zeros((width, height), bool)
    length = found.bits.bit_length()
    packed = np.frombuffer(found.bits.to_bytes(length // 8 + 1, "little"), np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[:length]
    mask[found.first_column :].flat[:length] = bits
    return mask.T


def test_bits_are_those_of_the_masks() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        size = tuple(int(n) for n in generator.integers(1, 20, 2))
        masks = []
        for _ in range(generator.integers(1, 6)):
            mask = generator.random(size) < generator.choice([0.0, 0.1, 0.5, 0.9, 1.0])
            mask[:, : generator.integers(size[1] + 1)] = False
            masks.append(mask)
        found = rle_bits([encode_mask(mask) for mask in masks])
        assert len(found) == len(masks)
        for bits, mask in zip(found, masks, strict=True):
            np.testing.assert_array_equal(as_mask(bits, size), mask)
            columns = np.flatnonzero(mask.any(axis=0))
            assert bits.area == mask.sum()
            assert bits.first_column == (columns[0] if columns.size else 0)


def test_long_runs_are_read() -> None:
    # runs of several characters, and differences of both signs
    mask = np.zeros((700, 900), bool)
    mask[100:600, 30:40] = mask[:, 500:800] = mask[5, 5] = True
    (found,) = rle_bits([encode_mask(mask)])
    np.testing.assert_array_equal(as_mask(found, mask.shape), mask)


def test_runs_of_length_0_change_nothing() -> None:
    # as other tools may write them: down three columns of 5, the middle one is inside
    counts = [2, 0, 3, 2, 0, 3, 0, 0, 5, 0]
    rle = coco_mask.frPyObjects({"size": [5, 3], "counts": counts}, 5, 3)
    mask = np.zeros((5, 3), bool)
    mask[:, 1] = True
    np.testing.assert_array_equal(decode_rle(rle), mask)
    found = rle_bits([rle, encode_mask(mask), rle])
    assert found[0] == found[1] == found[2]


def test_no_masks_have_no_bits() -> None:
    assert rle_bits([]) == []
    empty = encode_mask(np.zeros((4, 5), bool))
    assert [bits.bits for bits in rle_bits([empty, empty])] == [0, 0]
