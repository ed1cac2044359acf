"""What an evaluation has found, in total, by class, and as tables to draw."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

Curves: TypeAlias = Mapping[str, Float64[np.ndarray, "10 101"]]
"""Precision of each class, by name: at IoU 0.50, 0.55, ..., 0.95 (rows) and recall 0, 0.01, ..., 1
(columns), in [0, 1], of objects of all sizes; NaN where no object is true."""
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""Of the rows of `Curves`."""
IOU_50, IOU_75 = 0, 5
"""Rows of `Curves`."""


@dataclass(frozen=True)
class Confusion:
    """Which classes are taken for which."""

    names: tuple[str, ...]
    """Of the k classes; repeated names carry their category id."""
    pixels: Int64[np.ndarray, "k1 k"]
    """By predicted class (rows; the last is any class that the data set does not have) and true
    class (columns). Pixels that are not scored are left out."""


@dataclass(frozen=True)
class Summary:
    """Metrics in percent, NaN where nothing defines one."""

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    """By the class's name; repeated names carry their category id."""
    per_category: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of groups of classes, by name, where the benchmark has such (Cityscapes)."""
    confusion: Confusion | None = None
    """Of tasks with a class per pixel."""
    curves: Curves = field(default_factory=dict)
    """Of tasks with objects."""
