"""`mask2former presets`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mask2former.cli.options import Json
from mask2former.cli.report import Report

if TYPE_CHECKING:
    from mask2former.config import Run
    from mask2former.presets import Preset


def presets(
    name: Annotated[str | None, typer.Argument(help="Show this one's whole configuration.")] = None,
    as_json: Json = False,
) -> None:
    """List what can be trained, or show one configuration."""
    from mask2former.config_io import format_run
    from mask2former.presets import all_presets, find_preset

    report = Report(as_json)
    if name is not None:
        run = find_preset(name).run()
        report.text(format_run(run).rstrip())
        report.finish(run.model_dump(mode="json"), _train(run.preset))
        return
    listed = list(all_presets().values())
    report.text("for your data:")
    report.table(
        ["preset", "task", "backbone", "steps", "batch"],
        [_row(preset, preset.run()) for preset in listed if preset.classes is None],
    )
    report.text("\nas the authors trained, with their results:")
    report.table(
        ["preset", "steps", "batch", "published"],
        [_published_row(preset, preset.run()) for preset in listed if preset.classes is not None],
    )
    report.finish({"presets": [_describe(preset) for preset in listed]}, _train("tiny"))


def _row(preset: "Preset", run: "Run") -> list[str]:
    return [
        preset.name,
        "any" if len(preset.tasks) > 1 else preset.tasks[0],
        run.model.backbone.name,
        str(run.training.steps),
        str(run.training.batch_size),
    ]


def _published_row(preset: "Preset", run: "Run") -> list[str]:
    return [
        preset.name,
        str(run.training.steps),
        str(run.training.batch_size),
        " ".join(f"{metric} {value}" for metric, value in preset.published.items()),
    ]


def _describe(preset: "Preset") -> dict[str, Any]:
    run = preset.run()
    return {
        "name": preset.name,
        "tasks": preset.tasks,
        "data": preset.data,
        "backbone": run.model.backbone.name,
        "steps": run.training.steps,
        "batch_size": run.training.batch_size,
        "schedule": run.schedule.kind,
        "published": preset.published,
    }


def _train(preset: str) -> list[str]:
    return ["mask2former", "train", "--preset", preset, "--data", "DIR"]
