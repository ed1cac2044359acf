"""The classes that are confused most, and an order that puts similar ones side by side."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from mask2former.evaluation.averages import ratio

OTHER = "(other)"
"""Name of any predicted class that the data set does not have."""


def most_confused(
    pixels: Int64[np.ndarray, "k k1"], occurring: Sequence[int], most: int
) -> list[int]:
    """Class ids that fit into a picture.

    Args:
        pixels: By true class (rows) and predicted class (columns; the last is any other class).
        occurring: Class ids to choose from.
        most: How many; at least 2.

    Returns:
        All of them, as they come, if they are few enough. Else those of the confusions with the
        highest share of the true class's pixels, ordered so that classes that are taken for one
        another are near.
    """
    if len(occurring) <= most:
        return list(occurring)
    among = pixels[np.ix_(occurring, occurring)]
    of_class = pixels[occurring].sum(axis=1, keepdims=True)
    rates = np.nan_to_num(ratio(among, np.broadcast_to(of_class, among.shape)))
    np.fill_diagonal(rates, 0)
    order = np.lexsort((-among.ravel(), -rates.ravel()))  # of equal shares, more pixels first
    chosen: set[int] = set()
    for pair in zip(*np.unravel_index(order, rates.shape), strict=True):
        if len(chosen.union(map(int, pair))) > most:
            break
        chosen.update(map(int, pair))
    positions = sorted(chosen)
    similar = _side_by_side(rates[np.ix_(positions, positions)])
    return [occurring[positions[i]] for i in similar]


def _side_by_side(rates: Float64[np.ndarray, "n n"]) -> list[int]:
    """Positions in an order in which the distance between confused classes is small."""
    distance = 1 - np.maximum(rates, rates.T)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return leaves_list(tree).tolist()
