"""`mask2former predict`."""

from pathlib import Path
from typing import Annotated

import typer

from mask2former.cli.options import Device, Json, TaskName, Weights
from mask2former.cli.report import Report


def predict(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Images, folders, globs.")
    ],
    weights: Weights,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")],
    task: TaskName = None,
    save: Annotated[
        str,
        typer.Option(metavar="KINDS", help="Of overlay,masks,coco,panoptic; with commas."),
    ] = "overlay",
    threshold: Annotated[
        float | None,
        typer.Option(metavar="T", min=0, max=1, help="Least score of a segment. Default: 0.5"),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Segment images and save what is found."""
    report = Report(as_json)
    raise NotImplementedError(str(report))
