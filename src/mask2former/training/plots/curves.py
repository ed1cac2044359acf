"""What a run logged, as curves: read, smoothed, thinned."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

Curve: TypeAlias = tuple[list[int], list[float]]
"""Steps, and the values after them."""

LOG_NAME = "metrics.jsonl"
SMOOTHED_SHARE = 50
"""A smoothed value is about the mean of the last one in so many values of the curve."""
LEAST_SMOOTHED = 20
"""Values of a curve; fewer are shown as they are."""


class Extreme(NamedTuple):
    """A value and where it was reached first."""

    step: int
    value: float


def read_curves(path: Path) -> dict[str, Curve]:
    """The values of a run by name; what was undefined at a step is left out there.

    A run that was resumed goes back to an earlier step: what it had logged from there on no longer
    counts. A line that was being written when the run was killed is left out.

    Args:
        path: A `metrics.jsonl`, of a run that may still be going on.

    Raises:
        ValueError: Nothing in the file is a logged value.
    """
    by_step: dict[str, dict[int, float]] = {}
    last = -1
    for step, values in _entries(path):
        if step < last:
            by_step = {
                name: {at: value for at, value in known.items() if at < step}
                for name, known in by_step.items()
            }
        last = step
        for name, value in values.items():
            by_step.setdefault(name, {})[step] = value
    if last < 0 and path.stat().st_size:
        raise ValueError(
            f"{path} holds no logged values; give the folder of a run, whose {LOG_NAME} has a JSON "
            "object with a step in each line"
        )
    return {name: (list(known), list(known.values())) for name, known in by_step.items() if known}


def _entries(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and values of each whole line."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict) and isinstance(step := entry.pop("step", None), int):
                yield step, {name: float(v) for name, v in entry.items() if _is_number(v)}


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def smooth(values: Sequence[float]) -> list[float]:
    """An exponential moving average that starts at the first value.

    Returns:
        As many values; the same ones where they are few.
    """
    if len(values) < LEAST_SMOOTHED:
        return list(values)
    keep = 1 - SMOOTHED_SHARE / len(values) if len(values) > 2 * SMOOTHED_SHARE else 0.5
    total = weight = 0.0
    smoothed = []
    for value in values:
        total = keep * total + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        smoothed.append(total / weight)
    return smoothed


def thin(
    steps: Int64[np.ndarray, " n"], values: Float64[np.ndarray, " n"], most: int
) -> Int64[np.ndarray, " kept"]:
    """Choose the points of a curve that its picture needs: ends, and extremes all along.

    Args:
        steps: Rising.
        values: At the steps.
        most: Points to keep, at least 4.

    Returns:
        Rising indices, all where they are few enough.
    """
    if len(steps) <= most:
        return np.arange(len(steps))
    num_spans = most // 2 - 1
    span = (steps - steps[0]) * num_spans // (steps[-1] - steps[0] + 1)
    order = np.lexsort((values, span))
    starts = np.flatnonzero(np.diff(span[order], prepend=-1))
    ends = np.append(starts[1:], len(order)) - 1
    kept = np.concatenate([[0, len(steps) - 1], order[starts], order[ends]])
    return np.unique(kept)


def lowest(curve: Curve) -> Extreme:
    """The least value."""
    place = int(np.argmin(curve[1]))
    return Extreme(curve[0][place], curve[1][place])


def highest(curve: Curve) -> Extreme:
    """The greatest value."""
    place = int(np.argmax(curve[1]))
    return Extreme(curve[0][place], curve[1][place])


def last_step(curves: Mapping[str, Curve]) -> int:
    """That anything was logged at; 0 before."""
    return max((steps[-1] for steps, _ in curves.values()), default=0)
