"""Runs of equal pixels, of which there are far fewer than pixels."""

import numpy as np
from jaxtyping import Int64, Shaped


def find_runs(
    *maps: Shaped[np.ndarray, "*size"],
) -> tuple[Int64[np.ndarray, " runs"], Int64[np.ndarray, " runs"]]:
    """Divide the pixels where any of the maps changes.

    Args:
        maps: At least one, all of one size; they are gone through row after row.

    Returns:
        The first pixel of each run, as a position in the flattened maps, and how many it has.
    """
    num_pixels = maps[0].size
    changes = np.zeros(num_pixels, bool)
    changes[:1] = True
    for values in (a_map.ravel() for a_map in maps):
        changes[1:] |= values[1:] != values[:-1]
    starts = np.flatnonzero(changes)
    return starts, np.diff(starts, append=num_pixels)
