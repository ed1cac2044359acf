import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mask2former.masks.packed import pack_masks
from mask2former.masks.rle import (
    canonical_rle,
    decode_rle,
    encode_mask,
    pack_rles,
    rle_area,
    rle_box,
    run_lengths,
    run_lengths_of,
)

# 3 x 4, read down the columns: 000 110 111 000
MASK = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)
RUNS = [3, 2, 1, 3, 3]


def random_masks(num_masks: int, height: int, width: int) -> np.ndarray:
    """Blocks rather than noise, so that runs have many lengths."""
    rng = np.random.default_rng(num_masks)
    small = rng.random((num_masks, -(-height // 7), -(-width // 5))) < 0.5
    return np.repeat(np.repeat(small, 7, axis=1), 5, axis=2)[:, :height, :width]


def test_encoding_goes_down_the_columns_and_starts_outside() -> None:
    assert run_lengths(encode_mask(MASK)).tolist() == RUNS


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=30), st.booleans())
def test_run_lengths_equal_those_that_were_encoded(runs: list[int], starts_inside: bool) -> None:
    runs = [0, *runs] if starts_inside else runs
    rle = coco_mask.frPyObjects({"size": [sum(runs), 1], "counts": runs}, sum(runs), 1)
    assert run_lengths(rle).tolist() == runs


@pytest.mark.parametrize("form", ["list", "text", "bytes"])
def test_every_form_of_counts_becomes_the_same_rle(form: str) -> None:
    compressed = encode_mask(MASK)["counts"]
    counts = {"list": RUNS, "text": compressed.decode(), "bytes": compressed}[form]
    rle = canonical_rle({"size": [3, 4], "counts": counts}, 3, 4)
    assert rle == {"size": [3, 4], "counts": compressed}
    np.testing.assert_array_equal(decode_rle(rle), MASK)


def test_rle_of_another_size_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size \(h, w\) = \(3, 4\) but the image \(4, 3\)"):
        canonical_rle({"size": [3, 4], "counts": RUNS}, 4, 3)


def test_rle_without_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="has 'size' and 'counts'"):
        canonical_rle({"size": [3, 4]}, 3, 4)


@pytest.mark.parametrize("counts", [[3, 2], [3, 2, 1, 3, 4], [20, -8], "3", ""])
def test_runs_that_do_not_cover_the_image_are_refused(counts: list[int] | str) -> None:
    with pytest.raises(ValueError, match="not to 3 x 4 = 12; the file is damaged"):
        canonical_rle({"size": [3, 4], "counts": counts}, 3, 4)


def test_counts_that_are_cut_off_within_a_number_are_refused() -> None:
    # the first run has 100 pixels: two characters, of which the first says that one follows
    whole = encode_mask(np.zeros((10, 10), bool))["counts"]
    assert len(whole) == 2
    with pytest.raises(ValueError, match="end within a number; the file is damaged"):
        canonical_rle({"size": [10, 10], "counts": whole[:1]}, 10, 10)


def test_several_masks_are_read_as_one_by_one() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        masks = generator.random((generator.integers(0, 5), 7, 9)) < generator.random()
        rles = [encode_mask(mask) for mask in masks]
        found = run_lengths_of(rles)
        assert [runs.tolist() for runs in found] == [run_lengths(rle).tolist() for rle in rles]


def test_area_and_box_count_pixels() -> None:
    rle = encode_mask(MASK)
    assert rle_area(rle) == 5
    assert rle_box(rle) == (1, 0, 2, 3)


def test_empty_mask_has_a_box_of_zeros() -> None:
    assert rle_box(encode_mask(np.zeros((3, 4), bool))) == (0, 0, 0, 0)


@pytest.mark.parametrize("num_masks", [0, 1, 8, 9, 33, 64, 65, 130])
def test_packing_rles_equals_packing_masks(num_masks: int) -> None:
    masks = random_masks(num_masks, 23, 31)
    rles = [encode_mask(mask) for mask in masks]
    assert torch.equal(pack_rles(rles, 23, 31), pack_masks(masks))


def test_packing_bears_runs_of_length_zero_inside() -> None:
    # 2 outside, 0 inside, 3 outside, 1 inside: only pixel 5 (row 1 of column 2) is inside
    counts = coco_mask.frPyObjects({"size": [2, 3], "counts": [2, 0, 3, 1]}, 2, 3)
    assert pack_rles([counts], 2, 3).flatten().tolist() == [0, 0, 0, 0, 0, 1]


def test_packing_full_and_empty_masks() -> None:
    masks = np.stack([np.ones((5, 6), bool), np.zeros((5, 6), bool)])
    assert torch.equal(pack_rles([encode_mask(m) for m in masks], 5, 6), pack_masks(masks))
