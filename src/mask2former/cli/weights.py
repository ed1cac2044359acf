"""`mask2former weights`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.options import Json, PublishedAs
from mask2former.cli.report import Report
from mask2former.suggestions import did_you_mean

if TYPE_CHECKING:
    from mask2former.weights.inspection import Inspection

SHOWN = 10
"""Names of a list that people see; programs get all of them."""

app = typer.Typer(
    help="Look into checkpoints of any kind, and hand them to other implementations.",
    no_args_is_help=True,
)
Checkpoint = Annotated[
    str,
    typer.Argument(metavar="W", help="A run, a checkpoint of any kind, a hub id, or a preset."),
]


@app.command()
def inspect(weights: Checkpoint, preset: PublishedAs = None, as_json: Json = False) -> None:
    """Say what a checkpoint is and whether it loads."""
    report = Report(as_json)
    with report.working():
        from mask2former.weights.inspection import BackboneInspection
        from mask2former.weights.inspection import inspect as look

        found = look(weights, preset)
    if isinstance(found, BackboneInspection):
        report.text(f"{found.path}: {found.kind} alone, {found.tensors} tensors")
        report.finish(
            {"dialect": "backbone", **dataclasses.asdict(found)},
            ["mask2former", "train", "--data", "DIR", "--weights", weights],
        )
        return
    _show(report, found)
    report.finish(
        {**dataclasses.asdict(found), "loads": found.loads},
        ["mask2former", "predict", "photo.jpg", "--weights", weights, "--output", "predictions"]
        if found.loads
        else ["mask2former", "presets"],
    )


@app.command()
def convert(
    weights: Checkpoint,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new file or folder.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="mask2former (.safetensors), huggingface (a folder) or official (.pkl).",
        ),
    ] = "mask2former",
    preset: PublishedAs = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as another implementation reads it, or as ours does."""
    report = Report(as_json)
    with report.working():
        from mask2former.weights.convert import SUFFIXES
        from mask2former.weights.convert import convert as write
        from mask2former.weights.open import read

        target = next((target for target in SUFFIXES if target == to), None)
        if target is None:
            raise ValueError(f"no format {to}; {did_you_mean(to, SUFFIXES)}")
        checkpoint = read(weights, preset)
        write(checkpoint, output, target)
    report.text(f"{output}: {len(checkpoint.weights)} tensors, {len(checkpoint.classes)} classes")
    report.finish(
        {
            "output": output,
            "format": target,
            "tensors": len(checkpoint.weights),
            "classes": checkpoint.classes.names,
        },
        ["mask2former", "weights", "inspect", str(output)],
    )


def _show(report: Report, found: "Inspection") -> None:
    names = found.classes.names
    report.text(f"{found.path}")
    report.table(
        ["", "found"],
        [
            ["dialect", found.dialect],
            ["task", found.task],
            ["preset", found.preset],
            ["backbone", found.backbone],
            ["parameters", f"{found.parameters:,}"],
            ["queries", str(found.queries)],
            ["layers", f"{found.encoder_layers} pixel decoder, {found.decoder_layers} transformer"],
            ["channels", str(found.hidden_dim)],
            ["classes", f"{len(names)}: {_shortened(names)}"],
        ],
    )
    for what, tensors in (
        ("missing", found.missing),
        ("left over", found.left_over),
        ("of another shape", found.reshaped),
    ):
        if tensors:
            report.text(f"{len(tensors)} tensors {what}: {_shortened(tensors)}")
    report.text("loads" if found.loads else "does not load")


def _shortened(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
