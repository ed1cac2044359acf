"""Counting which labels of two maps meet, by runs of equal pixels, of which there are far fewer."""

import numpy as np
from jaxtyping import Int64, Integer, Shaped


def check_sizes(
    predicted: Shaped[np.ndarray, "h w"], truth: Shaped[np.ndarray, "true_h true_w"]
) -> None:
    """Refuse a prediction that is not at the size of the ground truth.

    Raises:
        ValueError: The two maps differ in size.
    """
    if predicted.shape != truth.shape:
        raise ValueError(
            f"the prediction has size (h, w) = {predicted.shape} and the ground truth "
            f"{truth.shape}; predict at the size of the ground truth"
        )


def runs(
    *maps: Shaped[np.ndarray, "h w"],
) -> tuple[Int64[np.ndarray, " runs"], Int64[np.ndarray, " runs"]]:
    """Divide the pixels, row after row, where any of the maps changes.

    Returns:
        The first pixel of each run, as a position in the flattened maps, and its pixels.
    """
    num_pixels = maps[0].size
    changes = np.zeros(num_pixels, bool)
    changes[:1] = True
    for values in (a_map.ravel() for a_map in maps):
        changes[1:] |= values[1:] != values[:-1]
    starts = np.flatnonzero(changes)
    return starts, np.diff(starts, append=num_pixels)


def count_pairs(
    rows: Int64[np.ndarray, " runs"],
    columns: Int64[np.ndarray, " runs"],
    lengths: Integer[np.ndarray, " runs"],
    shape: tuple[int, int],
) -> Int64[np.ndarray, "rows columns"]:
    """Pixels of each pair of a row and a column.

    Args:
        rows: The row that each run counts for.
        columns: The column that it counts for.
        lengths: Its pixels.
        shape: Of the table.
    """
    pixels = np.bincount(rows * shape[1] + columns, lengths, minlength=shape[0] * shape[1])
    return pixels.astype(np.int64).reshape(shape)
