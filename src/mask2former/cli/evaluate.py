"""`mask2former evaluate`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.call import run_again_in_processes
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
from mask2former.tasks import Task

if TYPE_CHECKING:
    from mask2former.evaluation.evaluate import Evaluation
    from mask2former.evaluation.truth import ScoredImages


def evaluate(
    weights: Annotated[str | None, typer.Option(metavar="W", help=WEIGHTS_HELP)] = None,
    data: DataFolders = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Default: val, or all images of what is not split. `all`: every image of a "
            "folder without splits, also where the run held some out.",
        ),
    ] = None,
    task: TaskName = None,
    data_format: FormatName = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Score these results instead of a model: a file of COCO results or panoptic "
            "JSON, or a folder: of PNGs with a class per pixel, from `predict --save`, or of an "
            "earlier --output. Repeatable, once a task.",
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
    of_models = {
        "--tta": tta,
        "--preset": preset is not None,
        "--device": device != "auto",
        "--devices": devices > 1,
    }
    _check_choice(weights, predictions, data, [name for name, given in of_models.items() if given])
    run_again_in_processes(devices)
    report = Report(as_json)
    notes: list[str] = []
    with report.working():
        from mask2former.distributed import joined
        from mask2former.evaluation.evaluate import evaluate as score
        from mask2former.evaluation.evaluate import score_results
        from mask2former.evaluation.given.results import open_results, tasks_of
        from mask2former.evaluation.scored_data import open_scored_data
        from mask2former.evaluation.scores import SCORED_WITH
        from mask2former.inference.segmenter import Segmenter, TrainedOn

        with joined():
            if weights is not None:
                segmenter = Segmenter.load(weights, device=device, preset=preset, tta=tta)
                if tta:
                    report.text(segmenter.describe_passes())
                images = open_scored_data(
                    data or [], split, segmenter.trained_on, task or segmenter.task, data_format
                )
                with _telling_what_is_kept(report, images, output):
                    result = score(
                        segmenter,
                        images,
                        progress=True,
                        keep_in=output,
                        on_resume=lambda count: report.text(
                            f"{count} of {len(images)} predictions were there"
                        ),
                    )
            else:
                asked = task or main_task([t for path in predictions or [] for t in tasks_of(path)])
                images = open_scored_data(data or [], split, TrainedOn(), asked, data_format)
                scored = SCORED_WITH[asked]
                given = [open_results(p, images.main.classes, scored) for p in predictions or []]
                result = score_results(given, images, progress=True)
                notes = [note for results in given for note in results.notes]
    if not as_json:  # which has all of it
        show_evaluation(report, result)
    for note in (*notes, *images.main.notes):
        report.text(f"note: {note}")
    _write(report, output, result)
    report.finish(result.as_json(), _next(images, weights))


def show_evaluation(report: Report, result: "Evaluation") -> None:
    """Metrics in total, then of each class, in percent, and where the time went."""
    report.text(f"{result.task}, {result.images} image{'s' if result.images != 1 else ''}")
    report.table(["metric", "%"], [[name, percent(v)] for name, v in result.metrics.items()])
    _show_rows(report, "class", "classes", result.per_class)
    if result.per_category:
        _show_rows(report, "category", "categories", result.per_category)
    if result.speed:
        report.text("")
        report.text(describe_speed(result.speed))


def _show_rows(
    report: Report, kind: str, plural: str, values: Mapping[str, Mapping[str, float]]
) -> None:
    """A row for each that has a value, and how many have none."""
    names = list(dict.fromkeys(name for row in values.values() for name in row))
    has_value = {of: any(map(math.isfinite, row.values())) for of, row in values.items()}
    rows = [
        [of, *(percent(row.get(name)) for name in names)]
        for of, row in values.items()
        if has_value[of]
    ]
    report.text("")
    if rows:
        report.table([kind, *names], rows)
    left_out = len(values) - len(rows)
    if left_out:
        report.text(
            f"{left_out} {kind if left_out == 1 else plural} without a value: neither true nor "
            f"predicted anywhere"
        )


@contextmanager
def _telling_what_is_kept(
    report: Report, images: "ScoredImages", output: Path | None
) -> Iterator[None]:
    """When it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if output is not None:
            from mask2former.evaluation.given.predictions import count_kept

            report.text(
                f"{count_kept(output)} of {len(images)} predictions are kept in {output}; the same "
                f"command goes on"
            )
        raise


def describe_speed(speed: Mapping[str, float]) -> str:
    """In words: how fast, and what the time went to."""
    rate, *shares = speed.items()
    parts = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
    return f"{rate[1]:.3g} images/s: {parts}"


def main_task(tasks: Sequence[Task]) -> Task:
    """The task that the others are part of, of those that there are results for."""
    return next(task for task in ("panoptic", "instance", "semantic") if task in tasks)


def _check_choice(
    weights: str | None,
    predictions: Sequence[Path] | None,
    data: Sequence[Path] | None,
    of_models: Sequence[str],
) -> None:
    """Refuse what does not go together.

    Args:
        weights: As given.
        predictions: As given.
        data: As given.
        of_models: Options that were given and mean nothing for results.
    """
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
    if predictions and of_models:
        raise ValueError(
            f"{' and '.join(of_models)} given with --predictions; results are scored without a "
            f"model, by one process: leave {'it' if len(of_models) == 1 else 'them'} out"
        )
    if predictions and not data:
        raise ValueError("results are scored on a data set; give its folder with --data DIR")


def _write(report: Report, output: Path | None, result: "Evaluation") -> None:
    from mask2former.distributed import is_main
    from mask2former.evaluation.report.files import write_report

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
