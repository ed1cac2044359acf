"""Curves of a run, from its `metrics.jsonl`."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curve: TypeAlias = tuple[list[int], list[float]]
"""Steps, and the values after them."""

LOSSES = ("loss", "loss_class", "loss_mask", "loss_dice")
METRICS = ("PQ", "PQ_th", "PQ_st", "AP", "AP50", "mIoU")


def plot_run(output: Path) -> None:
    """Draw `plots/losses.png`, and `plots/metrics.png` of a run that was evaluated.

    Args:
        output: The run's folder.
    """
    curves = read_curves(output / "metrics.jsonl")
    folder = output / "plots"
    folder.mkdir(exist_ok=True)
    _draw(curves, LOSSES, "loss, weighted and summed over layers", folder / "losses.png")
    _draw(curves, METRICS, "validation, %", folder / "metrics.png")


def read_curves(path: Path) -> dict[str, Curve]:
    """The values of a run by name; what was undefined at a step is left out there.

    A run that was resumed repeats the steps since its saved state; the later values count.
    """
    by_step: dict[str, dict[int, float]] = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        step = entry.pop("step")
        for name, value in entry.items():
            if value is not None:
                by_step[name][step] = value
    return {
        name: ([step for step, _ in sorted(values.items())], [v for _, v in sorted(values.items())])
        for name, values in by_step.items()
    }


def _draw(curves: Mapping[str, Curve], names: Sequence[str], label: str, path: Path) -> None:
    shown = [name for name in names if name in curves]
    if not shown:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in shown:
        steps, values = curves[name]
        axes.plot(steps, values, marker="." if len(steps) < 50 else None, label=name)
    axes.set(xlabel="step", ylabel=label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    FigureCanvasAgg(figure).print_png(path)
