"""`mask2former evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.options import Device, Json, PublishedAs, TaskName, Weights
from mask2former.cli.report import Report, percent

if TYPE_CHECKING:
    from mask2former.evaluation.evaluate import Evaluation


def evaluate(
    weights: Weights,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Data set, in any common format.")],
    split: Annotated[str, typer.Option(metavar="NAME", help="Of the data set.")] = "val",
    task: TaskName = None,
    preset: PublishedAs = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a trained model on a data set, in total and for each class."""
    report = Report(as_json)
    with report.working():
        from mask2former.data.open import open_dataset
        from mask2former.evaluation.evaluate import evaluate as score
        from mask2former.inference.segmenter import Segmenter

        segmenter = Segmenter.load(weights, device=device, preset=preset)
        scored = task or segmenter.task
        dataset = open_dataset(data, split, task=scored, ignore_index=segmenter.ignore_index)
        result = score(segmenter, dataset, scored, progress=True)
    show_evaluation(report, result)
    first = dataset.records[0].image
    images = first.parent if isinstance(first, Path) else data
    report.finish(
        result.as_json(),
        ["mask2former", "predict", str(images), "--weights", weights, "--output", "predictions"],
    )


def show_evaluation(report: Report, result: "Evaluation") -> None:
    """Metrics in total, then of each class, in percent."""
    report.text(f"{result.task}, {result.images} images")
    report.table(["metric", "%"], [[name, percent(v)] for name, v in result.metrics.items()])
    names = list(dict.fromkeys(name for row in result.per_class.values() for name in row))
    rows = [[c, *(percent(row.get(n)) for n in names)] for c, row in result.per_class.items()]
    report.text("")
    report.table(["class", *names], rows)
