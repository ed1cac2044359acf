"""An evaluation as files: tables for programs and spreadsheets, pictures for people."""

import csv
import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mask2former.evaluation.evaluate import Evaluation
from mask2former.evaluation.report.confused import OTHER
from mask2former.evaluation.summary import IOU_THRESHOLDS, Confusion, Curves
from mask2former.files import replacing, usable_folder

Rows: TypeAlias = Iterator[Sequence[Any]]

METRICS, METRICS_TABLE = "metrics.json", "metrics.csv"
PER_CLASS, PER_CATEGORY = "per_class.csv", "per_category.csv"
CONFUSION, CONFUSION_PICTURE = "confusion.csv", "confusion.png"
PRECISION_RECALL, PRECISION_RECALL_PICTURE = "precision_recall.csv", "precision_recall.png"
ALL_FILES = (
    METRICS,
    METRICS_TABLE,
    PER_CLASS,
    PER_CATEGORY,
    CONFUSION,
    CONFUSION_PICTURE,
    PRECISION_RECALL,
    PRECISION_RECALL_PICTURE,
)
DRAWN_WITH = "matplotlib"
"""Comes with the extras `eval` and `train`, and is imported when a picture is drawn."""
DECIMALS = 4
"""Of precision in percent."""


class ReportFiles(NamedTuple):
    """What was written."""

    paths: list[Path]
    notes: tuple[str, ...]
    """What could not be drawn, and what to do about it."""


def write_report(folder: Path, evaluation: Evaluation) -> ReportFiles:
    """Write the files of an evaluation.

    All values are percent, but for the pixels of `confusion.csv` and the speed in `metrics.json`;
    a cell is empty where nothing defines a value. Each file is whole, or as it was before; those
    of an earlier evaluation that this one does not have are removed.

    - `metrics.json`: what `Evaluation.as_json` gives.
    - `metrics.csv`: metric, percent.
    - `per_class.csv`: a row a class, a column a metric. `per_category.csv`: a row a category.
    - `confusion.csv`: pixels by true class (rows) and predicted class (columns; if there are such
      pixels, the last is any class that the data set does not have). `confusion.png`: its picture.
    - `precision_recall.csv`: the precision of each class and IoU threshold (rows) at recall
      0, 1, ..., 100 % (columns). `precision_recall.png`: its picture.

    Args:
        folder: Is made when it is not there.
        evaluation: Without categories, confusion or curves the files of these are left out, and
            so is the picture of what is all empty.

    Returns:
        The paths in the order above. Without matplotlib, which draws, a note stands for the
        pictures.

    Raises:
        ValueError: Nothing can be written to the folder.
    """
    folder = usable_folder(folder)
    files = _files(evaluation)
    pictures = [name for name in files if name in (CONFUSION_PICTURE, PRECISION_RECALL_PICTURE)]
    notes = ()
    if pictures and importlib.util.find_spec(DRAWN_WITH) is None:
        notes = (
            f"{' and '.join(pictures)} not drawn, because {DRAWN_WITH} is not installed; run "
            f"pip install 'mask2former[eval]', then the same command again",
        )
        files = {name: write for name, write in files.items() if name not in pictures}
    for name in sorted(files, key=pictures.__contains__):  # tables first
        with replacing(folder / name) as unfinished:
            files[name](unfinished)
    for name in ALL_FILES:
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    return ReportFiles([folder / name for name in files], notes)


def _files(evaluation: Evaluation) -> dict[str, Callable[[Path], None]]:
    """What writes each file, in the order of `ALL_FILES`."""
    files: dict[str, Callable[[Path], None]] = {
        METRICS: partial(_write_json, evaluation),
        METRICS_TABLE: partial(_write_table, _metric_rows(evaluation.metrics)),
        PER_CLASS: partial(_write_table, _value_rows("class", evaluation.per_class)),
    }
    if evaluation.per_category:
        rows = _value_rows("category", evaluation.per_category)
        files[PER_CATEGORY] = partial(_write_table, rows)
    confusion, curves = evaluation.confusion, evaluation.curves
    if confusion is not None:
        files[CONFUSION] = partial(_write_table, _confusion_rows(confusion))
        if confusion.pixels.any():
            files[CONFUSION_PICTURE] = partial(_draw_confusion, confusion, evaluation.images)
    if curves:
        files[PRECISION_RECALL] = partial(_write_table, _curve_rows(curves))
        if any(not np.isnan(curve).any() for curve in curves.values()):
            files[PRECISION_RECALL_PICTURE] = partial(_draw_curves, curves, evaluation.images)
    return files


def _write_json(evaluation: Evaluation, path: Path) -> None:
    text = json.dumps(evaluation.as_json(), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_table(rows: Rows, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def _draw_confusion(confusion: Confusion, images: int, path: Path) -> None:
    from mask2former.evaluation.report.charts import draw_confusion

    draw_confusion(confusion, images, path)


def _draw_curves(curves: Curves, images: int, path: Path) -> None:
    from mask2former.evaluation.report.charts import draw_precision_recall

    draw_precision_recall(curves, images, path)


def _metric_rows(metrics: dict[str, float]) -> Rows:
    yield "metric", "percent"
    for name, value in metrics.items():
        yield name, _cell(value)


def _value_rows(kind: str, values: dict[str, dict[str, float]]) -> Rows:
    metrics = list(dict.fromkeys(metric for of_one in values.values() for metric in of_one))
    yield kind, *metrics
    for name, of_one in values.items():
        yield name, *(_cell(of_one.get(metric, math.nan)) for metric in metrics)


def _confusion_rows(confusion: Confusion) -> Rows:
    has_other = bool(confusion.pixels[-1].any())
    predicted = (*confusion.names, OTHER) if has_other else confusion.names
    yield "pixels: true class / predicted class", *predicted
    for name, counts in zip(confusion.names, confusion.pixels.T, strict=True):
        yield name, *counts[: len(predicted)].tolist()


def _curve_rows(curves: Curves) -> Rows:
    yield "class", "IoU", *(f"precision at recall {recall} %" for recall in range(101))
    for name, curve in curves.items():
        for threshold, precision in zip(IOU_THRESHOLDS, 100 * curve, strict=True):
            cells = (_cell(value) for value in np.round(precision, DECIMALS).tolist())
            yield name, f"{threshold:.2f}", *cells


def _cell(value: float) -> float | str:
    return "" if math.isnan(value) else value
