"""What the metrics have in common: names of classes, and averages over what is defined."""

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mask2former.types import Classes


def unique_names(classes: Classes) -> list[str]:
    """The class names; a name that several classes have is told apart by its category id."""
    count = Counter(classes.names)
    return [
        f"{name} (id {category_id})" if count[name] > 1 else name
        for name, category_id in zip(classes.names, classes.category_ids, strict=True)
    ]


def percent(values: NDArray[np.floating]) -> float:
    """Mean x 100; NaN when there is nothing to average."""
    return 100 * float(values.mean()) if values.size else math.nan


def ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> NDArray[np.float64]:
    """Part / whole, NaN where whole is 0."""
    undefined = np.full(np.shape(whole), np.nan)
    return np.divide(part, whole, out=undefined, where=np.asarray(whole) > 0)


def share(part: float | np.number, whole: float | np.number) -> float:
    """Part / whole x 100; NaN where whole is 0."""
    return 100 * float(part) / float(whole) if whole else math.nan
