"""`mask2former quickstart`."""

from pathlib import Path
from typing import Annotated

import typer

from mask2former.cli.evaluate import show_evaluation
from mask2former.cli.options import Device, Json
from mask2former.cli.report import Report
from mask2former.cli.train import free_folder


def quickstart(
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/quickstart-<n>.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the data and of the training.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Try the whole pipeline offline: draw data, train, evaluate, predict. Minutes on a CPU."""
    report = Report(as_json)
    output = free_folder(Path("runs/quickstart")) if output is None else output
    raise NotImplementedError(str(report))
