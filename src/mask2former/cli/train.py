"""`mask2former train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mask2former.cli.options import Device, Json, TaskName
from mask2former.cli.report import Report, percent
from mask2former.tasks import Task


def train(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data set, in any common format.")
    ] = None,
    task: TaskName = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="See `mask2former presets`; default: by the task."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="resnet50, swin_tiny, ... or a timm model.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="W", help="A trained model to start from; none: from random weights."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Default: runs/<data folder>-<n>.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N")] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Images per step, over all devices.")
    ] = None,
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML: a preset and what differs, or a run's config."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="For example data.workers=2. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on a folder: format, task and classes come from the data."""
    from mask2former.config_io import (
        compose_run,
        merge,
        parse_overrides,
        read_changes,
        without_none,
    )
    from mask2former.presets import RANDOM_WEIGHTS, published_backbone

    if resume:
        output, config = _interrupted(output, config)
    changes = {} if config is None else read_changes(config)
    named = {
        "preset": preset,
        "task": task,
        "data": {"path": data},
        "model": {"backbone": published_backbone(backbone).model_dump() if backbone else None},
        "training": {"epochs": epochs, "steps": steps, "batch_size": batch},
    }
    changes = merge(changes, without_none(named))
    if weights == "none":
        changes = merge(changes, RANDOM_WEIGHTS)
    changes = merge(changes, parse_overrides(overrides or ()))
    run = compose_run(changes, lambda: _tasks_in_data(changes))
    if run.data.path is None:
        raise ValueError("no data; give --data DIR, or data.path in the configuration")

    report = Report(as_json)
    output = free_folder(Path("runs") / run.data.path.resolve().name) if output is None else output
    report.text(f"{run.task}: preset {run.preset}, {run.model.backbone.name}, into {output}")
    with report.working():
        from mask2former.training.train import train as train_run

        result = train_run(
            run,
            output,
            weights=None if weights == "none" else weights,
            device=device,
            resume=resume,
        )
    report.text(f"{result.steps} steps in {result.seconds:.0f} s: {result.best_weights}")
    report.table(["metric", "%"], [[name, percent(v)] for name, v in result.metrics.items()])
    report.finish(
        {
            "task": run.task,
            "preset": run.preset,
            "output": result.output,
            "steps": result.steps,
            "seconds": result.seconds,
            "metrics": result.metrics,
            "best_weights": result.best_weights,
        },
        ["mask2former", "evaluate", "--weights", str(output), "--data", str(run.data.path)],
    )


def free_folder(stem: Path) -> Path:
    """`<stem>-<n>` with the first n from 1 that does not exist."""
    n = 1
    while (folder := stem.with_name(f"{stem.name}-{n}")).exists():
        n += 1
    return folder


def _interrupted(output: Path | None, config: Path | None) -> tuple[Path, Path]:
    """The run to go on with, and its configuration."""
    if output is None:
        raise ValueError("--resume needs the run to go on with; give --output RUN")
    config = output / "config.yaml" if config is None else config
    if not config.is_file():
        raise FileNotFoundError(f"no run to resume in {output}: {config} is missing")
    return output, config


def _tasks_in_data(changes: dict) -> Sequence[Task]:
    from mask2former.data.open import open_dataset

    part = changes.get("data") or {}
    if not part.get("path"):
        raise ValueError("no data; give --data DIR, or data.path in the configuration")
    return open_dataset(Path(part["path"]), part.get("train_split", "train")).tasks
