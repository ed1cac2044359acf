import numpy as np
import pytest
import torch

from mask2former.masks.id_maps import (
    MAX_ID,
    compact_ids,
    ids_to_rgb,
    pack_compact_ids,
    rgb_to_ids,
)
from mask2former.masks.packed import pack_masks


def test_red_counts_ones_green_256_blue_65536() -> None:
    rgb = np.array([[[7, 0, 0], [0, 2, 0], [1, 1, 1]]], np.uint8)
    # 7; 2 * 256; 1 + 256 + 65536
    assert rgb_to_ids(rgb).tolist() == [[7, 512, 65793]]


def test_ids_survive_the_way_through_colours() -> None:
    ids = np.array([[0, 1, 255], [256, 65535, 65536], [MAX_ID, 12345678, 3]], np.int32)
    np.testing.assert_array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)


@pytest.mark.parametrize("wrong", [-1, MAX_ID + 1])
def test_ids_beyond_three_bytes_are_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="do not fit a panoptic PNG; renumber"):
        ids_to_rgb(np.array([[1, wrong]]))


def test_compact_ids_are_positions_from_one_in_the_given_order() -> None:
    ids = np.array([[5, 9_000_000, 0], [7, 5, 9_000_000]], np.int32)
    assert compact_ids(ids, [9_000_000, 5]).tolist() == [[2, 1, 0], [0, 2, 1]]


def test_listed_ids_may_be_absent_from_the_map() -> None:
    assert compact_ids(np.array([[1, 2]], np.int32), [MAX_ID, 2]).tolist() == [[0, 2]]
    assert compact_ids(np.array([[1, 2]], np.int32), []).tolist() == [[0, 0]]


@pytest.mark.parametrize("num_masks", [0, 1, 8, 9, 33, 65])
def test_packing_positions_equals_packing_masks(num_masks: int) -> None:
    rng = np.random.default_rng(num_masks)
    compact = rng.integers(0, 70, (11, 13)).astype(np.uint16)
    positions = rng.permutation(np.arange(1, 70))[:num_masks].tolist()
    masks = np.array([compact == p for p in positions], bool).reshape(num_masks, 11, 13)
    assert torch.equal(pack_compact_ids(compact, positions), pack_masks(masks))
