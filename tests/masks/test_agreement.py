"""Every way to hold masks says the same as pycocotools, whatever their shape."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torch.testing import assert_close

from mask2former.masks.id_maps import compact_ids, ids_to_rgb, pack_compact_ids, rgb_to_ids
from mask2former.masks.packed import pack_masks, sample_masks, unpack_masks
from mask2former.masks.polygons import move_polygons, polygons_to_rle, rasterize_polygons
from mask2former.masks.rle import (
    canonical_rle,
    decode_rle,
    encode_mask,
    pack_rles,
    rle_area,
    rle_box,
    run_lengths,
)

ODD_SIZES = st.tuples(st.integers(1, 37), st.integers(1, 41))
KINDS = ("empty", "full", "one pixel", "noise", "border")


def coco_decode(rle: dict) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools under NumPy 2
        return coco_mask.decode(rle).astype(bool)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """(m, h, w), of up to 70 kinds, so that more than one word of bits is needed."""
    height, width = draw(ODD_SIZES)
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=0, max_size=70))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return np.array([_mask(kind, height, width, generator) for kind in kinds], bool).reshape(
        -1, height, width
    )


def _mask(kind: str, height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    mask = np.full((height, width), kind == "full")
    if kind == "one pixel":
        mask[generator.integers(height), generator.integers(width)] = True
    elif kind == "noise":
        mask = generator.random((height, width)) < generator.random()
    elif kind == "border":
        mask[0] = mask[-1] = mask[:, 0] = mask[:, -1] = True
    return mask


@st.composite
def polygons(draw: st.DrawFn) -> tuple[tuple[np.ndarray, ...], int, int]:
    """One to three rings, also self-crossing ones and ones that leave the image."""
    height, width = draw(ODD_SIZES)
    point = st.tuples(st.floats(-20, 60, width=32), st.floats(-20, 60, width=32))
    rings = draw(st.lists(st.lists(point, min_size=3, max_size=9), min_size=1, max_size=3))
    return tuple(np.array(ring, np.float64) for ring in rings), height, width


@given(masks())
def test_run_lengths_hold_what_pycocotools_holds(stack: np.ndarray) -> None:
    for mask in stack:
        rle = encode_mask(mask)
        np.testing.assert_array_equal(decode_rle(rle), mask)
        np.testing.assert_array_equal(coco_decode(rle), mask)
        assert run_lengths(rle).sum() == mask.size
        assert rle_area(rle) == mask.sum() == coco_mask.area(rle)
        rows, columns = np.nonzero(mask)
        if len(rows):
            box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
            assert rle_box(rle) == box
        else:
            assert rle_box(rle) == (0, 0, 0, 0)
        for counts in (rle["counts"].decode(), run_lengths(rle).tolist()):
            as_in_a_file = {"size": list(mask.shape), "counts": counts}
            assert canonical_rle(as_in_a_file, *mask.shape) == rle


@given(masks())
def test_packed_masks_hold_what_the_masks_hold(stack: np.ndarray) -> None:
    packed = pack_masks(stack)
    np.testing.assert_array_equal(unpack_masks(packed, len(stack)).numpy(), stack)
    height, width = stack.shape[1:]
    rles = [encode_mask(mask) for mask in stack]
    assert torch.equal(pack_rles(rles, height, width), packed)


@given(masks())
def test_id_maps_hold_what_does_not_overlap(stack: np.ndarray) -> None:
    ids = np.zeros(stack.shape[1:], np.int32)
    for i, mask in enumerate(stack):
        ids[mask] = 7 * i + 300  # beyond one byte, so that the colours carry
    np.testing.assert_array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)
    segment_ids = [7 * i + 300 for i in range(len(stack))]
    packed = pack_compact_ids(compact_ids(ids, segment_ids), range(1, len(stack) + 1))
    visible = np.array([ids == segment_id for segment_id in segment_ids], bool)
    assert torch.equal(packed, pack_masks(visible.reshape(stack.shape)))


@given(polygons())
def test_polygons_fill_what_pycocotools_fills(case: tuple) -> None:
    rings, height, width = case
    flat = [ring.ravel().tolist() for ring in rings]
    theirs = coco_mask.merge(coco_mask.frPyObjects(flat, height, width))
    assert polygons_to_rle(rings, height, width) == theirs
    filled = rasterize_polygons(rings, height, width)
    np.testing.assert_array_equal(filled, coco_decode(theirs))
    # a union: each ring alone covers no pixel that the whole does not
    parts = [rasterize_polygons((ring,), height, width) for ring in rings]
    np.testing.assert_array_equal(filled, np.logical_or.reduce(parts))
    packed = pack_rles([theirs], height, width)
    np.testing.assert_array_equal(unpack_masks(packed, 1)[0].numpy(), filled)


@given(polygons(), st.integers(-8, 8), st.integers(-8, 8))
def test_moving_polygons_by_whole_pixels_moves_their_masks(case: tuple, dx: int, dy: int) -> None:
    rings, height, width = case
    rings = tuple(ring.round(1) for ring in rings)  # so that sums are as exact as their parts
    margin = 90
    moved = move_polygons(rings, (1.0, 1.0), (float(dx + margin), float(dy + margin)))
    still = move_polygons(rings, (1.0, 1.0), (float(margin), float(margin)))
    here = rasterize_polygons(still, height + 2 * margin, width + 2 * margin)
    there = rasterize_polygons(moved, height + 2 * margin, width + 2 * margin)
    expected = np.roll(here, (dy, dx), (0, 1))
    # a corner within rounding of a multiple of 1/5 pixel may fall to either side
    assert (there != expected).sum() <= 0.02 * here.sum() + 2 * len(np.concatenate(rings))


@given(stack=masks(), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("num_points", [1, 17])
def test_sampling_bits_equals_sampling_floats(
    stack: np.ndarray, seed: int, num_points: int
) -> None:
    height, width = stack.shape[1:]
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(num_points, 2, generator=generator) * 1.2 - 0.1
    ours = sample_masks(pack_masks(stack), len(stack), points, (height, width))
    theirs = torch.nn.functional.grid_sample(
        torch.from_numpy(stack[:, None].astype(np.float32)),
        (2 * points - 1).expand(len(stack), 1, num_points, 2),
        align_corners=False,
    )
    assert_close(ours, theirs[:, 0, 0], atol=1e-5, rtol=0)
