"""`mask2former presets`."""

import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mask2former.cli.options import Json
from mask2former.cli.report import Report

if TYPE_CHECKING:
    from mask2former.presets import Preset

MULTI_SCALE = " ms"
"""What the zoo puts behind results over several scales."""


def presets(
    name: Annotated[str | None, typer.Argument(help="Show this one's whole configuration.")] = None,
    as_json: Json = False,
) -> None:
    """List what can be trained, or show one configuration."""
    from mask2former.config_io import format_run
    from mask2former.presets import all_presets, all_published, find_preset

    report = Report(as_json)
    if name is not None:
        run = find_preset(name).run()
        for line in _head(find_preset(name)):
            report.text(f"# {line}")
        report.text(format_run(run).rstrip())
        report.finish(run.model_dump(mode="json"), _train(run.preset))
        return
    listed = list(all_presets().values())
    for line in _lines(listed):
        report.text(line)
    videos = ", ".join(name for name in all_published() if name not in all_presets())
    report.text("")
    for line in wrap(f"video models, for --weights alone: {videos}", 100, break_on_hyphens=False):
        report.text(line)
    report.finish({"presets": [_describe(preset) for preset in listed]}, _train("tiny"))


def _head(preset: "Preset") -> Iterator[str]:
    """What the preset is of, and what to do with it."""
    published = ", ".join(f"{name} {value:.1f}" for name, value in _results(preset).items())
    weights = "DIR_OF_RUN" if preset.checkpoint is None else preset.name
    if published:
        yield f"published: {published} (percent, on the validation set)"
    elif preset.classes is None:
        yield "published: nothing; it is for your data"
    else:
        yield "published: nothing"
    if preset.checkpoint is not None:
        yield f"weights: {preset.zoo_id}, {preset.checkpoint}"
    yield f"evaluate: mask2former evaluate --weights {weights} --data DIR"
    yield f"train: {shlex.join(_train(preset.name))}"


def _lines(listed: Sequence["Preset"]) -> Iterator[str]:
    """A block for your data, then one for each task of each benchmark."""
    yours = [preset for preset in listed if preset.classes is None]
    yield "for your data:"
    yield from _aligned(
        ["preset", "task", "backbone", "length", "batch"],
        [
            [
                preset.name,
                preset.tasks[0] if len(preset.tasks) == 1 else "any",
                preset.backbone.name,
                f"{preset.length}, {preset.decay}",
                str(preset.run().training.batch_size),
            ]
            for preset in yours
        ],
    )
    yield ""
    yield "by the authors' recipes, with their results in percent (ms: several scales, flipped):"
    theirs = [preset for preset in listed if preset.classes is not None]
    for (data, task), group in groupby(theirs, lambda preset: (preset.data, preset.tasks[0])):
        block = list(group)
        yield ""
        yield f"{data}, {task}: {_shared(block[0])}"
        yield from _aligned(*_block(block))


def _shared(preset: "Preset") -> str:
    """What all presets for one task of a benchmark have in common."""
    from mask2former.data.class_tables import class_table

    assert preset.classes is not None, "of your data the classes are not known"
    num_classes = len(class_table(preset.classes))
    return f"{num_classes} classes, batch {preset.run().training.batch_size}, {preset.decay}"


def _block(block: Sequence["Preset"]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of presets for one task of a benchmark."""
    metrics = list(dict.fromkeys(name for preset in block for name in _results(preset)))
    rows = [
        [
            preset.name,
            preset.length,
            *(f"{_results(preset)[name]:.1f}" for name in metrics),
            f"{preset.zoo_id} {preset.file_suffix}" if preset.checkpoint else "none published",
        ]
        for preset in block
    ]
    return ["preset", "length", *metrics, "weights"], rows


def _results(preset: "Preset") -> dict[str, float]:
    over_scales = {name + MULTI_SCALE: value for name, value in preset.multi_scale.items()}
    return {**preset.published, **over_scales}


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table that are as wide as they are: names must stay whole to be copied."""
    table = [columns, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  " + "  ".join(cells).rstrip()


def _describe(preset: "Preset") -> dict[str, Any]:
    from mask2former.data.class_tables import class_table

    run = preset.run()
    return {
        "name": preset.name,
        "tasks": preset.tasks,
        "data": preset.data,
        "classes": preset.classes,
        "num_classes": None if preset.classes is None else len(class_table(preset.classes)),
        "backbone": run.model.backbone.name,
        "norm": run.model.backbone.norm,
        "queries": run.model.num_queries,
        "steps": run.training.steps,
        "epochs": None if preset.epochs is None else round(preset.epochs, 1),
        "batch_size": run.training.batch_size,
        "schedule": f"{preset.decay}, {preset.length}",
        "learning_rate": run.optimizer.learning_rate,
        "published": preset.published,
        "published_multi_scale": preset.multi_scale,
        "zoo_id": preset.zoo_id,
        "file_suffix": preset.file_suffix,
        "checkpoint": preset.checkpoint,
    }


def _train(preset: str) -> list[str]:
    return ["mask2former", "train", "--preset", preset, "--data", "DIR"]
