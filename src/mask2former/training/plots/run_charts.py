"""What one looks at of runs: which quantities, under which titles, in which units."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

from mask2former.training.plots.curves import (
    LOG_NAME,
    Curve,
    Extreme,
    highest,
    last_step,
    lowest,
    read_curves,
    smooth,
)

MAIN_METRICS: Mapping[str, str] = {"panoptic": "PQ", "instance": "AP", "semantic": "mIoU"}
"""By task."""
LOSS_TITLES: Mapping[str, str] = {
    "loss": "Total loss",
    "loss_class": "Class loss",
    "loss_mask": "Mask loss",
    "loss_dice": "Dice loss",
}
SPEED_TITLES: Mapping[str, tuple[str, str]] = {
    "seconds_per_step": ("Time of a step", "seconds"),
    "seconds_data": ("of which waiting for data", "seconds"),
    "seconds_compute": ("of which computing", "seconds"),
    "images_per_second": ("Throughput, all devices", "images a second"),
    "memory_gib": ("Memory, the most so far", "GiB"),
}
METRIC_TITLES: Mapping[str, str] = {
    "PQ": "PQ: panoptic quality",
    "AP": "AP: average precision of masks",
    "mIoU": "mIoU: overlap, mean over classes",
    "PQ_th": "PQ of things",
    "PQ_st": "PQ of stuff",
    "SQ": "SQ: overlap of matched segments",
    "RQ": "RQ: F1 score of matching segments",
    "AP50": "AP of masks at IoU 0.5",
    "AP75": "AP of masks at IoU 0.75",
    "APs": "AP of small objects",
    "APm": "AP of medium objects",
    "APl": "AP of large objects",
    "boxAP": "AP of boxes",
    "boundaryAP": "AP of boundaries",
    "fwIoU": "IoU weighted by frequency",
    "mACC": "Accuracy, mean over classes",
    "pACC": "Accuracy over pixels",
}
"""In the order to show them; others follow by name."""
METRIC = re.compile(r"PQ|SQ|RQ|IoU|AP|AR\d|ACC")
"""What stands somewhere in the name of every score in percent."""
LAYER = re.compile(r"(loss_(?:class|mask|dice))_layer(\d+)")
"""Name of a loss of one prediction layer; layer 0 predicts from the initial queries."""

LAST_SHADE = 9
"""Colour of the last prediction layer; the first one has colour 0."""

Best = Literal["lowest", "highest"]


@dataclass(frozen=True)
class LoggedRun:
    """A run as its folder tells of it."""

    name: str
    folder: Path
    task: str | None
    """None where the folder has no configuration."""
    preset: str | None
    curves: Mapping[str, Curve]

    @property
    def steps(self) -> int:
        return last_step(self.curves)

    @property
    def main_metric(self) -> str | None:
        """That chooses the best weights; None where the run was not scored."""
        wanted = [MAIN_METRICS[self.task]] if self.task in MAIN_METRICS else MAIN_METRICS.values()
        return next((name for name in wanted if name in self.curves), None)


class Series(NamedTuple):
    """One line of a panel."""

    label: str
    color: int
    """Index of the run; of a prediction layer, its place from first to last in [0, 9]."""
    raw: Curve
    smoothed: list[float] | None
    """As many values; None where the raw ones are shown alone."""
    best: Extreme | None
    """None where there is nothing to mark."""


class Panel(NamedTuple):
    """One quantity, of all runs that logged it."""

    title: str
    unit: str
    series: list[Series]


class Chart(NamedTuple):
    """Panels that are looked at together."""

    name: str
    """Of its file."""
    title: str
    note: str
    panels: list[Panel]
    is_of_layers: bool = False
    """Whether colours are prediction layers, not runs."""


def open_runs(folders: Sequence[Path]) -> list[LoggedRun]:
    """Read what runs logged so far.

    Args:
        folders: At least one; their names are the runs' names, with as much of the path before
            them as tells them apart.

    Raises:
        FileNotFoundError: A folder is missing, or has no log.
        ValueError: A log has no values yet, or a folder comes twice.
    """
    resolved = [folder.resolve() for folder in folders]
    twice = [str(f) for f, r in zip(folders, resolved, strict=True) if resolved.count(r) > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} are the same run; give each run once")
    names = _names(resolved)
    return [_open_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def _open_run(folder: Path, name: str) -> LoggedRun:
    path = folder / LOG_NAME
    if not path.is_file():
        if (folder / "config.yaml").is_file():
            raise ValueError(f"{folder} has logged nothing so far; wait for the run's first step")
        wrong = (
            f"no run in {folder}: {path} is missing" if folder.is_dir() else f"no folder {folder}"
        )
        inner = sorted(str(found.parent) for found in folder.glob(f"*/{LOG_NAME}"))
        wanted = " or ".join(inner[:3]) or "one that `mask2former train` writes to"
        raise FileNotFoundError(f"{wrong}; give a run's folder: {wanted}")
    curves = read_curves(path)
    if not curves:
        raise ValueError(f"{path} is empty so far; wait for the run's first logged step")
    task, preset = _task_and_preset(folder / "config.yaml")
    return LoggedRun(name, folder, task, preset, curves)


def _task_and_preset(path: Path) -> tuple[str | None, str | None]:
    """Of a configuration of any version, so that old runs can be looked at."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, yaml.YAMLError):
        return None, None
    known = found if isinstance(found, dict) else {}
    task, preset = known.get("task"), known.get("preset")
    return task if isinstance(task, str) else None, preset if isinstance(preset, str) else None


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that differ from each other."""
    length = 1
    while True:
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
        length += 1


def make_charts(runs: Sequence[LoggedRun], *, layers: bool = False) -> list[Chart]:
    """Everything that the runs logged.

    Args:
        runs: At least one.
        layers: Also the losses of every prediction layer, of runs that logged them.

    Returns:
        Charts with at least one panel.
    """
    metrics, others = _metrics_and_others(runs)
    charts = [
        Chart(
            "losses",
            "Losses in training",
            "weighted, summed over prediction layers; dots: lowest of the smoothed curves",
            _panels(
                runs, {n: (t, "loss") for n, t in LOSS_TITLES.items()}, "lowest", smoothed=True
            ),
        ),
        Chart(
            "metrics",
            "Scores on the validation images",
            "in percent; dots: highest",
            _panels(runs, {n: (METRIC_TITLES.get(n, n), "%") for n in metrics}, "highest"),
        ),
        Chart(
            "learning_rate",
            "Learning rate",
            "the highest of the parameter groups",
            _panels(runs, {"lr": ("Learning rate", "learning rate")}, None),
        ),
        Chart(
            "speed",
            "Speed and memory",
            "steps alone: scoring and saving are left out",
            _panels(runs, SPEED_TITLES, None, smoothed=True),
        ),
        Chart(
            "others",
            "Other values",
            "by the names they are logged under",
            _panels(runs, {name: (name, "") for name in others}, None, smoothed=True),
        ),
    ]
    if layers:
        charts.append(
            Chart(
                "layers",
                "Losses of each prediction layer",
                "weighted; layer 0 predicts from the initial queries",
                list(_layer_panels(runs)),
                is_of_layers=True,
            )
        )
    return [chart for chart in charts if chart.panels]


def _panels(
    runs: Sequence[LoggedRun],
    quantities: Mapping[str, tuple[str, str]],
    best: Best | None,
    *,
    smoothed: bool = False,
) -> list[Panel]:
    panels = []
    for name, (title, unit) in quantities.items():
        series = [
            _series(run.name, color, run.curves[name], best, smoothed=smoothed and unit != "GiB")
            for color, run in enumerate(runs)
            if name in run.curves
        ]
        if series:
            panels.append(Panel(title, unit, series))
    return panels


def _series(
    label: str, color: int, curve: Curve, best: Best | None, *, smoothed: bool = False
) -> Series:
    shown = smooth(curve[1]) if smoothed else None
    extreme = None
    if best == "lowest":
        extreme = lowest((curve[0], shown or curve[1]))
    elif best == "highest" and any(curve[1]):
        extreme = highest(curve)
    return Series(label, color, curve, shown, extreme)


def _layer_panels(runs: Sequence[LoggedRun]) -> Iterator[Panel]:
    found = [(run, m) for run in runs for name in run.curves if (m := LAYER.fullmatch(name))]
    last = max((int(match[2]) for _, match in found), default=0)
    for run in runs:
        for loss in ("loss_class", "loss_mask", "loss_dice"):
            layers = sorted(int(match[2]) for of, match in found if of is run and match[1] == loss)
            series = [
                _series(
                    f"layer {layer}",
                    LAST_SHADE * layer // max(last, 1),
                    run.curves[f"{loss}_layer{layer}"],
                    None,
                    smoothed=True,
                )
                for layer in layers
            ]
            if series:
                of_run = f", {run.name}" if len(runs) > 1 else ""
                yield Panel(f"{LOSS_TITLES[loss]}{of_run}", "loss", series)


def _metrics_and_others(runs: Sequence[LoggedRun]) -> tuple[list[str], list[str]]:
    """Names that belong to no other chart; the metrics by their importance."""
    placed = {*LOSS_TITLES, *SPEED_TITLES, "lr"}
    free = {n for run in runs for n in run.curves if n not in placed and not LAYER.fullmatch(n)}
    metrics = {name for name in free if METRIC.search(name)}
    known = [name for name in METRIC_TITLES if name in metrics]
    return known + sorted(metrics - set(known)), sorted(free - metrics)
