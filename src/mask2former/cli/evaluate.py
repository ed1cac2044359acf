"""`mask2former evaluate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.call import WORDS
from mask2former.cli.options import (
    WEIGHTS_HELP,
    DataFolders,
    Device,
    Devices,
    FormatName,
    Json,
    PublishedAs,
    TaskName,
    Tta,
)
from mask2former.cli.report import Report, percent
from mask2former.launch import launched, run_processes
from mask2former.tasks import Task

if TYPE_CHECKING:
    from mask2former.evaluation.evaluate import Evaluation
    from mask2former.evaluation.truth import ScoredImages


def evaluate(
    weights: Annotated[str | None, typer.Option(metavar="W", help=WEIGHTS_HELP)] = None,
    data: DataFolders = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Default: val, or all images of what is not split."),
    ] = None,
    task: TaskName = None,
    data_format: FormatName = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Score these results instead of a model: COCO results or panoptic JSON, a folder "
            "of PNGs with a class per pixel, or what --output kept. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep predictions, tables and pictures here; an evaluation that was interrupted "
            "goes on from there.",
        ),
    ] = None,
    tta: Tta = False,
    preset: PublishedAs = None,
    device: Device = "auto",
    devices: Devices = 1,
    as_json: Json = False,
) -> None:
    """Score a trained model, or results from elsewhere, in total and for each class."""
    _check_choice(weights, predictions, data)
    if devices > 1 and not launched():
        raise typer.Exit(run_processes(devices, WORDS.get()))
    report = Report(as_json)
    with report.working():
        from mask2former.distributed import joined
        from mask2former.evaluation.evaluate import evaluate as score
        from mask2former.evaluation.evaluate import score_results
        from mask2former.evaluation.given_results import open_results, tasks_of
        from mask2former.evaluation.scored_data import open_scored_data
        from mask2former.inference.segmenter import Segmenter, TrainedOn

        with joined():
            if weights is not None:
                segmenter = Segmenter.load(weights, device=device, preset=preset, tta=tta)
                if tta:
                    report.text(segmenter.describe_passes())
                images = open_scored_data(
                    data or [], split, segmenter.trained_on, task or segmenter.task, data_format
                )
                result = score(segmenter, images, progress=True, keep_in=output)
            else:
                asked = task or main_task([t for path in predictions or [] for t in tasks_of(path)])
                images = open_scored_data(data or [], split, TrainedOn(), asked, data_format)
                given = [open_results(path, images.main.classes) for path in predictions or []]
                for note in (note for results in given for note in results.notes):
                    report.text(f"note: {note}")
                result = score_results(given, images, progress=True)
    show_evaluation(report, result)
    for note in images.main.notes:
        report.text(f"note: {note}")
    _write(report, output, result)
    report.finish(result.as_json(), _next(images, weights))


def show_evaluation(report: Report, result: "Evaluation") -> None:
    """Metrics in total, then of each class, in percent, and where the time went."""
    report.text(f"{result.task}, {result.images} image{'s' if result.images != 1 else ''}")
    report.table(["metric", "%"], [[name, percent(v)] for name, v in result.metrics.items()])
    _show_rows(report, "class", result.per_class)
    if result.per_category:
        _show_rows(report, "category", result.per_category)
    if result.speed:
        report.text("")
        report.text(describe_speed(result.speed))


def _show_rows(report: Report, kind: str, values: Mapping[str, Mapping[str, float]]) -> None:
    names = list(dict.fromkeys(name for row in values.values() for name in row))
    rows = [[of, *(percent(row.get(name)) for name in names)] for of, row in values.items()]
    report.text("")
    report.table([kind, *names], rows)


def describe_speed(speed: Mapping[str, float]) -> str:
    """In words: how fast, and what the time went to."""
    rate, *shares = speed.items()
    parts = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
    return f"{rate[1]:.3g} images/s: {parts}"


def main_task(tasks: Sequence[Task]) -> Task:
    """The task that the others are part of, of those that there are results for."""
    return next(task for task in ("panoptic", "instance", "semantic") if task in tasks)


def _check_choice(
    weights: str | None, predictions: Sequence[Path] | None, data: Sequence[Path] | None
) -> None:
    if weights is None and not predictions:
        raise ValueError(
            "neither --weights nor --predictions was given; give a model to score, or results "
            "that were made elsewhere"
        )
    if weights is not None and predictions:
        raise ValueError(
            "both --weights and --predictions were given; give a model to score or results that "
            "were made elsewhere, not both"
        )
    if weights is None and not data:
        raise ValueError("results are scored on a data set; give its folder with --data DIR")


def _write(report: Report, output: Path | None, result: "Evaluation") -> None:
    from mask2former.distributed import is_main
    from mask2former.evaluation.report_files import write_report

    if output is None or not is_main():
        return
    files = write_report(output, result)
    report.text(f"written to {output}: {', '.join(path.name for path in files.paths)}")
    for note in files.notes:
        report.text(f"note: {note}")


def _next(images: "ScoredImages", weights: str | None) -> list[str]:
    first = images.main.records[0].image
    source = str(first.parent) if isinstance(first, Path) else "IMAGES"
    if weights is None:
        return ["mask2former", "data", "check", str(images.main.folder)]
    return ["mask2former", "predict", source, "--weights", weights, "--output", "predictions"]
