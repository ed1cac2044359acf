"""Runs in numbers: where each has got to, and its best."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from mask2former.training.plots.curves import Curve, highest, lowest, smooth
from mask2former.training.plots.run_charts import (
    LAYER,
    LOSS_TITLES,
    METRIC,
    SPEED_TITLES,
    LoggedRun,
)


def summarize(run: LoggedRun) -> dict[str, Any]:
    """The final and the best values of a run, for programs.

    Returns:
        `run`, `task`, `preset`, `steps`, `main_metric`, and `values` by logged name: of losses
        `final`, `best`, `best_step` of the smoothed curve; of scores the same of the curve itself;
        of speed and memory `final` and `median`; of all else `final`.
    """
    return {
        "run": run.folder,
        "task": run.task,
        "preset": run.preset,
        "steps": run.steps,
        "main_metric": run.main_metric,
        "values": {name: _of_curve(name, curve) for name, curve in run.curves.items()},
    }


def _of_curve(name: str, curve: Curve) -> dict[str, float | int]:
    steps, values = curve
    if name in LOSS_TITLES or LAYER.fullmatch(name):
        smoothed = smooth(values)
        best = lowest((steps, smoothed))
        return {"final": smoothed[-1], "best": best.value, "best_step": best.step}
    if name in SPEED_TITLES:
        return {"final": values[-1], "median": median(values)}
    if METRIC.search(name):
        best = highest(curve)
        return {"final": values[-1], "best": best.value, "best_step": best.step}
    return {"final": values[-1]}


SUMMARY_COLUMNS = ("run", "task", "step", "loss", "best", "s/step", "images/s")


def summary_row(run: LoggedRun) -> list[str]:
    """A run as a row under `SUMMARY_COLUMNS`; a dash for what was not logged."""
    values = summarize(run)["values"]
    best = values.get(run.main_metric)
    return [
        run.name,
        run.task or "-",
        str(run.steps),
        _shown(values, "loss", "final", ".2f"),
        f"{run.main_metric} {best['best']:.1f} at {best['best_step']}" if best else "-",
        _shown(values, "seconds_per_step", "median", ".2f"),
        _shown(values, "images_per_second", "median", ".1f"),
    ]


def _shown(values: Mapping[str, Mapping[str, float]], name: str, which: str, form: str) -> str:
    return format(values[name][which], form) if name in values else "-"
