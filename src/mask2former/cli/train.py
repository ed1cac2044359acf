"""`mask2former train`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mask2former.cli.call import run_again_in_processes
from mask2former.cli.options import DataFolders, Device, Devices, FormatName, Json, TaskName
from mask2former.cli.report import Report, percent
from mask2former.fractions import parse_fractions
from mask2former.tasks import Task

if TYPE_CHECKING:
    from mask2former.config import Run


def train(
    data: DataFolders = None,
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
        typer.Option(
            metavar="W",
            help="A run, a checkpoint of any kind, a hub id, a published preset's name or a "
            "backbone's file, to start from; none: random.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Default: runs/<data folder>-<n>.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N")] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Images per step, over all devices; auto: the preset's, in passes that fit into "
            "memory.",
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Of a device, such as 6GiB: steps are made to fit."),
    ] = None,
    on_oom: Annotated[
        str | None,
        typer.Option(metavar="DO", help="When memory runs out: stop (default) or shrink."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTIONS",
            help="Hold images out to validate, where the data have no splits. Default: 0.9/0.1.",
        ),
    ] = None,
    data_format: FormatName = None,
    device: Device = "auto",
    devices: Devices = 1,
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
    run_again_in_processes(devices)
    from mask2former.config_io import parse_batch
    from mask2former.presets import RANDOM_WEIGHTS, published_backbone

    if resume:
        output, config = _interrupted(output, config)
    named = {
        "preset": preset,
        "task": task,
        "weights": None if weights == "none" else weights,
        "data": {
            "paths": data or None,
            "format": data_format,
            "split_fractions": parse_fractions(split) if split else None,
        },
        "model": {"backbone": published_backbone(backbone).model_dump() if backbone else None},
        "training": {
            "epochs": epochs,
            "steps": steps,
            "on_oom": on_oom,
            **parse_batch(batch, memory_limit),
        },
    }
    if resume and weights is not None:
        raise ValueError("--resume goes on with the weights of the run; leave --weights out")
    from_scratch = RANDOM_WEIGHTS if weights == "none" else {}
    resumed = output if resume else None
    run, notes = _compose(config, named, from_scratch, overrides=overrides or [], resumed=resumed)
    if weights == "none":
        run = run.model_copy(update={"weights": None})
    report = Report(as_json)
    with report.working():
        from mask2former.distributed import broadcast, joined
        from mask2former.inference.device import find_device
        from mask2former.training.states.signals import Stopped
        from mask2former.training.states.slurm import was_requeued
        from mask2former.training.train import train as train_run

        with joined(find_device(device).type):
            if output is None:
                names = [path.resolve().name for path in run.data.paths]
                output = broadcast(free_folder(Path("runs") / "+".join(names)))
            if run.training.requeue and was_requeued():
                resume = resume or (output / "config.yaml").is_file()
            backbone_name = run.model.backbone.name
            report.text(f"{run.task}: preset {run.preset}, {backbone_name}, into {output}")
            for note in notes:
                report.text(note)
            try:
                result = train_run(run, output, device=device, resume=resume)
            except Stopped as stopped:
                again = f"mask2former train --output {output} --resume"
                report.text(f"{stopped}, the state is saved; go on with: {again}")
                raise typer.Exit(stopped.exit_code) from None
            except KeyboardInterrupt:
                report.text(_stopped_in(output))
                raise
    early = result.ended_early and f"the run ended early: {result.ended_early}; "
    report.text(f"{early}{result.steps} steps in {result.seconds:.0f} s: {result.best_weights}")
    if result.metrics:
        report.table(["metric", "%"], [[name, percent(v)] for name, v in result.metrics.items()])
    report.finish(
        {"task": run.task, "preset": run.preset, **dataclasses.asdict(result)},
        _next_command(run, output, was_scored=bool(result.metrics)),
    )


def _stopped_in(output: Path) -> str:
    """How a run that was stopped at once goes on."""
    from mask2former.training.states.state import StateFiles

    if not StateFiles(output / "checkpoints").is_empty:
        again = f"mask2former train --output {output} --resume"
        return f"stopped; from the last saved state on, go on with: {again}"
    if (output / "config.yaml").is_file():
        again = f"mask2former train --output {output} --resume"
        return f"stopped before a state was saved; from the beginning, go on with: {again}"
    return "stopped before the run began; give the same command again"


def _compose(
    config: Path | None,
    *changes: Mapping[str, Any],
    overrides: Sequence[str],
    resumed: Path | None,
) -> tuple["Run", list[str]]:
    """The run that a file, then options, then overrides describe; the last one wins.

    The sizes of a trained model to start from come before them all. A run to go on with, which is
    in the folder `resumed`, keeps its plan for memory unless another one is asked for.

    Returns:
        The run, and what follows from its batch.
    """
    from mask2former.batch_rule import follow_batch
    from mask2former.config import NO_DATA
    from mask2former.config_io import (
        compose_run,
        merge,
        parse_overrides,
        read_changes,
        without_none,
        without_plan,
    )

    merged = {} if config is None else read_changes(config)
    later = [*map(without_none, changes), parse_overrides(overrides)]
    if resumed is not None and config == resumed / "config.yaml":
        merged = without_plan(merged, later)
    for change in later:
        merged = merge(merged, change)
    if merged.get("weights") and resumed is None:
        merged = merge(_sizes_of(merged["weights"]), merged)
    run = compose_run(merged, lambda: _tasks_in_data(merged))
    if not run.data.paths:
        raise ValueError(NO_DATA)
    return follow_batch(run, merged) if resumed is None else (run, [])


def _sizes_of(weights: str) -> Mapping[str, Any]:
    """The part `model` of a run that starts from a trained model, as far as the weights fix it."""
    from mask2former.weights.start import model_to_start_from

    model = model_to_start_from(weights)
    if model is None:
        return {}
    sizes = model.model_dump()
    # of how to train, not of what was trained
    del sizes["backbone"]["drop_path"], sizes["backbone"]["pretrained"]
    return {"model": sizes}


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


def _next_command(run: "Run", output: Path, *, was_scored: bool) -> list[str]:
    """Score again what was scored, or predict where nothing was."""
    weights = ["--weights", str(output)]
    if not was_scored:
        return ["mask2former", "predict", "IMAGES", *weights, "--output", "predictions"]
    folders = [word for folder in run.data.paths for word in ("--data", str(folder))]
    split = ["--split", run.data.val_split] if run.data.val_split else []
    return ["mask2former", "evaluate", *weights, *folders, *split]


def _tasks_in_data(changes: Mapping[str, Any]) -> Sequence[Task]:
    """What all data can be trained for, the natural task of the first before the others."""
    from mask2former.config import NO_DATA, as_several
    from mask2former.data.open import natural_tasks

    part = changes.get("data") or {}
    folders = as_several(part.get("paths") or part.get("path"))
    if not folders:
        raise ValueError(NO_DATA)
    tasks = [natural_tasks(Path(folder), part.get("format")) for folder in folders]
    shared = [task for task in tasks[0] if all(task in others for others in tasks)]
    if not shared:
        of_each = "; ".join(
            f"{folder} {', '.join(own)}" for folder, own in zip(folders, tasks, strict=True)
        )
        raise ValueError(f"the data have no task in common: {of_each}; train them one by one")
    return shared
