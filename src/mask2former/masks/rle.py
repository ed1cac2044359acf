"""COCO run-length encodings: alternating run lengths, down the columns, first run outside.

Throughout the package an RLE is `{"size": [height, width], "counts": bytes}`, as pycocotools
writes it. Files also hold `counts` as text or as a plain list of run lengths.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from jaxtyping import Bool, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

MASKS_PER_WORD = 64
coco_mask: Any = pycocotools.mask
"""Untyped: the package's annotations know neither arrays of points nor plain dictionaries."""


def canonical_rle(segmentation: dict, height: int, width: int) -> dict:
    """Read an RLE as annotation files write it.

    Args:
        segmentation: `size` (height, width) and `counts`: bytes, text, or a list of run lengths.
        height: Of the image in pixels.
        width: Of the image in pixels.

    Raises:
        ValueError: The RLE is for another size, is cut off, or its runs do not cover its size
            exactly.
    """
    if set(segmentation) < {"size", "counts"}:
        raise ValueError(f"a run-length encoding has 'size' and 'counts', not {set(segmentation)}")
    size = [int(length) for length in segmentation["size"]]
    if size != [height, width]:
        raise ValueError(
            f"the run-length encoding has size (h, w) = {tuple(size)} but the image "
            f"{(height, width)}; encode the mask at the image's size"
        )
    counts = segmentation["counts"]
    if isinstance(counts, list):
        runs = np.asarray(counts, dtype=np.int64)
        _check_runs(runs, height, width)
        return coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)
    if isinstance(counts, str):
        counts = counts.encode("ascii")
    if counts and (counts[-1] - 48) & 32:
        raise ValueError(
            "the counts of the run-length encoding end within a number; the file is damaged"
        )
    rle = {"size": size, "counts": counts}
    _check_runs(run_lengths(rle), height, width)
    return rle


def run_lengths(rle: dict) -> Int64[np.ndarray, " runs"]:
    """Lengths in pixels of the runs outside, inside, outside, ..."""
    return run_lengths_of([rle])[0]


def run_lengths_of(rles: Sequence[dict]) -> list[Int64[np.ndarray, " _"]]:
    """What `run_lengths` gives for each, several times faster than one by one.

    Source:
        pycocotools `rleFrString`: five bits a character from 48, bit 5 continues the number,
        bit 4 of its last character is the sign; from the fourth run on the difference to the
        run two places before is stored.
    """
    if not rles:
        return []
    texts = [rle["counts"] for rle in rles]
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate(([0], ends + 1))[:-1]
    lengths = ends + 1 - starts
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, starts)
    numbers -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    last_of_texts = np.cumsum([len(text) for text in texts])
    of_masks = np.split(numbers, np.searchsorted(ends, last_of_texts)[:-1])
    for runs in of_masks:
        runs[1::2] = np.cumsum(runs[1::2])
        runs[2::2] = np.cumsum(runs[2::2])
    return of_masks


def encode_mask(mask: Bool[np.ndarray, "h w"]) -> dict:
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def decode_rle(rle: dict) -> Bool[np.ndarray, "h w"]:
    """The mask, in column-major order; pycocotools' own `decode` warns under NumPy 2."""
    height, width = rle["size"]
    runs = run_lengths(rle)
    is_inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(is_inside, runs).reshape(width, height).T


def rle_area(rle: dict) -> int:
    """Pixels inside."""
    return int(coco_mask.area(rle))


def rle_box(rle: dict) -> tuple[float, float, float, float]:
    """Tight box (x, y, width, height) in pixels; zeros when the mask is empty."""
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    return (x, y, width, height)


def pack_rles(rles: Sequence[dict], height: int, width: int) -> UInt8[Tensor, "h w bytes"]:
    """What `pack_masks` makes of the decoded masks, without decoding them one by one.

    A mask's bit is toggled where its runs begin; one running XOR from row to row then fills in all
    masks at once.
    """
    words = [
        _pack_word(rles[i : i + MASKS_PER_WORD], height, width)
        for i in range(0, len(rles), MASKS_PER_WORD)
    ]
    if not words:
        return torch.zeros(height, width, 0, dtype=torch.uint8)
    return words[0] if len(words) == 1 else torch.cat(words, dim=-1)


def word_type(num_masks: int) -> np.dtype:
    """The smallest unsigned little-endian integer with a bit for each of up to 64 masks."""
    return np.dtype(next(f"<u{size}" for size in (1, 2, 4, 8) if num_masks <= 8 * size))


def words_to_bytes(words: NDArray, num_masks: int) -> UInt8[Tensor, "h w bytes"]:
    """Integers with one bit a mask, (h, w), as ceil(m / 8) bytes a pixel."""
    by_pixel = words.view(np.uint8).reshape(*words.shape, words.itemsize)
    return torch.from_numpy(np.ascontiguousarray(by_pixel[..., : -(-num_masks // 8)]))


def _pack_word(rles: Sequence[dict], height: int, width: int) -> UInt8[Tensor, "h w bytes"]:
    dtype = word_type(len(rles))
    toggles = np.zeros(height * width, dtype)
    changed_in = np.zeros(width + 1, dtype)  # the bits that a column changes; one past the last
    for i, rle in enumerate(rles):
        starts = np.cumsum(run_lengths(rle)[:-1])  # the last run ends with the image
        columns, rows = np.divmod(starts[starts < height * width], height)
        # `at`, because a run of length 0 toggles one place twice
        np.bitwise_xor.at(changed_in, columns + 1, dtype.type(1 << i))
        np.bitwise_xor.at(toggles, rows * width + columns, dtype.type(1 << i))
    words = toggles.reshape(height, width)
    words[0] ^= np.bitwise_xor.accumulate(changed_in)[:-1]
    above = words[0]
    for row in words[1:]:
        np.bitwise_xor(above, row, out=row)
        above = row
    return words_to_bytes(words, len(rles))


def _check_runs(runs: Int64[np.ndarray, " runs"], height: int, width: int) -> None:
    if runs.sum() != height * width or (runs < 0).any():
        raise ValueError(
            f"the runs of the run-length encoding sum to {runs.sum()} pixels, not to "
            f"{height} x {width} = {height * width}; the file is damaged"
        )
