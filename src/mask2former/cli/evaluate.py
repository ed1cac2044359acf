"""`mask2former evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.options import (
    DataFolders,
    Device,
    FormatName,
    Json,
    PublishedAs,
    TaskName,
    Weights,
)
from mask2former.cli.report import Report, percent

if TYPE_CHECKING:
    from mask2former.evaluation.evaluate import Evaluation


def evaluate(
    weights: Weights,
    data: DataFolders = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Default: val, or all images of what is not split."),
    ] = None,
    task: TaskName = None,
    data_format: FormatName = None,
    preset: PublishedAs = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a trained model on a data set, in total and for each class."""
    report = Report(as_json)
    with report.working():
        from mask2former.evaluation.evaluate import evaluate as score
        from mask2former.evaluation.scored_data import open_scored_data
        from mask2former.inference.segmenter import Segmenter

        segmenter = Segmenter.load(weights, device=device, preset=preset)
        scored = task or segmenter.task
        dataset = open_scored_data(data or [], split, segmenter.trained_on, scored, data_format)
        result = score(segmenter, dataset, scored, progress=True)
    show_evaluation(report, result)
    for note in dataset.notes:
        report.text(f"note: {note}")
    first = dataset.records[0].image
    images = str(first.parent) if isinstance(first, Path) else "IMAGES"
    report.finish(
        result.as_json(),
        ["mask2former", "predict", images, "--weights", weights, "--output", "predictions"],
    )


def show_evaluation(report: Report, result: "Evaluation") -> None:
    """Metrics in total, then of each class, in percent."""
    report.text(f"{result.task}, {result.images} image{'s' if result.images != 1 else ''}")
    report.table(["metric", "%"], [[name, percent(v)] for name, v in result.metrics.items()])
    names = list(dict.fromkeys(name for row in result.per_class.values() for name in row))
    rows = [[c, *(percent(row.get(n)) for n in names)] for c, row in result.per_class.items()]
    report.text("")
    report.table(["class", *names], rows)
