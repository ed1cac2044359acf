"""`mask2former evaluate`."""

from collections.abc import Sequence
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
from mask2former.tasks import Task

if TYPE_CHECKING:
    from mask2former.data.dataset import TaskDataset
    from mask2former.evaluation.evaluate import Evaluation
    from mask2former.inference.segmenter import TrainedOn


def evaluate(
    weights: Weights,
    data: DataFolders = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Of the data set.")] = "val",
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
        from mask2former.inference.segmenter import Segmenter

        segmenter = Segmenter.load(weights, device=device, preset=preset)
        scored = task or segmenter.task
        folders = data or list(segmenter.trained_on.folders)
        dataset = _open(folders, split, segmenter.trained_on, scored, data_format)
        result = score(segmenter, dataset, scored, progress=True)
    show_evaluation(report, result)
    for note in dataset.notes:
        report.text(f"note: {note}")
    first = dataset.records[0].image
    images = first.parent if isinstance(first, Path) else folders[0]
    report.finish(
        result.as_json(),
        ["mask2former", "predict", str(images), "--weights", weights, "--output", "predictions"],
    )


def _open(
    folders: Sequence[Path],
    split: str,
    trained_on: "TrainedOn",
    task: Task,
    data_format: str | None,
) -> "TaskDataset":
    """The split of each folder, read as the model's own data were where they are the same."""
    from mask2former.config import NO_DATA
    from mask2former.data.derive import for_task
    from mask2former.data.locate import find_format
    from mask2former.data.merging import merge_datasets
    from mask2former.data.open import open_dataset

    if not folders:
        raise ValueError(NO_DATA)
    own = {folder.resolve() for folder in trained_on.folders}
    parts = []
    for folder in folders:
        is_own = folder.resolve() in own
        chosen = data_format or (trained_on.format if is_own else None)
        located = find_format(folder, task=task, format=chosen)
        is_divided = located.is_unsplit or (is_own and located.is_dividable)
        part = open_dataset(
            folder,
            split,
            task=task,
            format=chosen,
            ignore_index=trained_on.ignore_index,
            fractions=trained_on.split_fractions if is_divided else None,
        )
        parts.append(for_task(part, task))
    return merge_datasets(parts)


def show_evaluation(report: Report, result: "Evaluation") -> None:
    """Metrics in total, then of each class, in percent."""
    report.text(f"{result.task}, {result.images} images")
    report.table(["metric", "%"], [[name, percent(v)] for name, v in result.metrics.items()])
    names = list(dict.fromkeys(name for row in result.per_class.values() for name in row))
    rows = [[c, *(percent(row.get(n)) for n in names)] for c, row in result.per_class.items()]
    report.text("")
    report.table(["class", *names], rows)
