"""Masks as integers of one bit a pixel, read from run lengths: all masks of an image at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64


class MaskBits(NamedTuple):
    """The pixels of a mask, from the first column that it is in."""

    bits: int
    """One a pixel, down the columns; the lowest is the top of `first_column`."""
    first_column: int


def rle_bits(rles: Sequence[dict]) -> list[MaskBits]:
    """Read masks.

    Args:
        rles: Compressed, of one size.
    """
    if not rles:
        return []
    height = rles[0]["size"][0]
    starts, ends, mask_ids = _inside(rles)
    firsts = np.searchsorted(mask_ids, np.arange(len(rles)))
    num_runs = np.diff(firsts, append=len(mask_ids))
    present = np.flatnonzero(num_runs)
    lasts = firsts[present] + num_runs[present] - 1
    columns = np.zeros(len(rles), np.int64)
    columns[present] = starts[firsts[present]] // height
    num_bytes = np.zeros(len(rles), np.int64)
    num_bytes[present] = (ends[lasts] - columns[present] * height) // 8 + 1
    offsets = np.cumsum(num_bytes) - num_bytes
    to_bit = (8 * offsets - columns * height)[mask_ids]
    start_bits, end_bits = (
        _set_bits(positions + to_bit, int(num_bytes.sum())) for positions in (starts, ends)
    )
    masks = []
    for first, length, column in zip(
        offsets.tolist(), num_bytes.tolist(), columns.tolist(), strict=True
    ):
        part = slice(first, first + length)
        # a run from start to end is 2^end - 2^start
        end, start = (int.from_bytes(bits[part], "little") for bits in (end_bits, start_bits))
        masks.append(MaskBits(end - start, column))
    return masks


def _inside(
    rles: Sequence[dict],
) -> tuple[Int64[np.ndarray, " runs"], Int64[np.ndarray, " runs"], Int64[np.ndarray, " runs"]]:
    """Where runs inside begin and end, down the columns of their mask, and which mask it is."""
    values, num_values = _values(rles)
    num_rows = (num_values + 1) // 2
    first_row = np.cumsum(num_rows) - num_rows
    mask_ids = np.repeat(np.arange(len(rles)), num_rows)
    # a row is a run outside and the run inside that follows it, if one does
    padding = 2 * num_rows - num_values
    runs = np.zeros((len(mask_ids), 2), np.int64)
    is_padded = np.cumsum(padding) - padding
    runs.ravel()[np.arange(len(values)) + np.repeat(is_padded, num_values)] = values
    # the first run outside is not part of the sum
    first_runs = runs[first_row, 0]
    runs[first_row, 0] = 0
    sums = np.cumsum(runs, axis=0)
    runs = sums - (sums[first_row] - runs[first_row])[mask_ids]
    runs[first_row, 0] = first_runs
    runs[(first_row + num_rows - 1)[padding == 1], 1] = 0
    edges = np.cumsum(runs.ravel()).reshape(-1, 2)
    edges -= (edges[first_row, 0] - first_runs)[mask_ids, None]
    is_run = runs[:, 1] > 0
    return edges[is_run, 0], edges[is_run, 1], mask_ids[is_run]


def _values(
    rles: Sequence[dict],
) -> tuple[Int64[np.ndarray, " values"], Int64[np.ndarray, " m"]]:
    """The numbers that are stored, and how many each mask has; see `rle.run_lengths`."""
    counts = [rle["counts"] for rle in rles]
    codes = np.frombuffer(b"".join(counts), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes < 32)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends + 1 - starts
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    last_bytes = np.cumsum([len(text) for text in counts])
    return values, np.diff(np.searchsorted(ends, last_bytes), prepend=0)


def _set_bits(positions: Int64[np.ndarray, " n"], num_bytes: int) -> bytes:
    """Bytes in which the bits at these positions, which are distinct, are set."""
    bits = np.zeros(num_bytes, np.uint8)
    np.bitwise_or.at(bits, positions >> 3, np.left_shift(1, positions & 7).astype(np.uint8))
    return bits.tobytes()
