"""Masks as integers of one bit a pixel, read from run lengths: all masks of an image at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from mask2former.masks.rle import run_lengths_of


class MaskBits(NamedTuple):
    """The pixels of a mask, from the first column that it is in."""

    bits: int
    """One a pixel, down the columns; the lowest is the top of `first_column`."""
    first_column: int
    area: int
    """In pixels."""


def rle_bits(rles: Sequence[dict]) -> list[MaskBits]:
    """Read masks.

    Args:
        rles: Compressed, of one size.
    """
    return [
        _bits(runs, rle["size"][0]) for runs, rle in zip(run_lengths_of(rles), rles, strict=True)
    ]


def _bits(runs: Int64[np.ndarray, " runs"], height: int) -> MaskBits:
    edges = np.cumsum(runs)
    # of a last run outside nothing begins; runs of length 0 would set a bit twice
    starts, ends = edges[:-1:2], edges[1::2]
    is_run = ends > starts
    starts, ends = starts[is_run], ends[is_run]
    if starts.size == 0:
        return MaskBits(0, 0, 0)
    first_column = int(starts[0]) // height
    first_pixel = first_column * height
    num_bytes = (int(ends[-1]) - first_pixel) // 8 + 1
    # a run from start to end is 2^end - 2^start
    bits = _powers(ends - first_pixel, num_bytes) - _powers(starts - first_pixel, num_bytes)
    return MaskBits(bits, first_column, int((ends - starts).sum()))


def _powers(positions: Int64[np.ndarray, " n"], num_bytes: int) -> int:
    """The integer with the bits at these positions, which are distinct."""
    bits = np.zeros(num_bytes, np.uint8)
    np.bitwise_or.at(bits, positions >> 3, np.left_shift(1, positions & 7).astype(np.uint8))
    return int.from_bytes(bits.tobytes(), "little")
