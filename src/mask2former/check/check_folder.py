"""Check a folder: read everything once, find what is wrong, write it down."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.check.charts import histogram
from mask2former.check.findings import (
    Finding,
    Group,
    Severity,
    finding,
    group_findings,
    of_severity,
)
from mask2former.check.judge import judge
from mask2former.check.page import Page, render
from mask2former.check.pictures import augmented_samples, offenders, random_samples
from mask2former.check.sizes import MASK_STRIDE
from mask2former.check.statistics import (
    ClassStatistics,
    SplitStatistics,
    class_statistics,
    split_statistics,
)
from mask2former.check.survey import Progress, Split, survey
from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.splits import SYNONYMS
from mask2former.data.open import find_format, list_splits, natural_tasks, open_dataset
from mask2former.data.problems import Collected
from mask2former.files import replacing
from mask2former.fractions import Fractions
from mask2former.tasks import Task

SAMPLE_SEED = 0


@dataclass(frozen=True)
class Check:
    """What is known about a data set after all of it was read."""

    folder: Path
    run: Run
    """What would be trained on it."""
    splits: Mapping[str, Split]
    findings: tuple[Finding, ...]

    @property
    def first(self) -> Split:
        return next(iter(self.splits.values()))

    @property
    def groups(self) -> list[Group]:
        """Findings by kind, errors first."""
        return group_findings(self.findings)

    @property
    def notes(self) -> list[str]:
        """How the files were understood; what all splits have in common is said once."""
        notes = [note for split in self.splits.values() for note in split.dataset.notes]
        return list(dict.fromkeys(notes))


def check_folder(
    folder: Path,
    *,
    preset: str | None = None,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option
    fractions: Fractions | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Check:
    """Read every image and every annotation of a data set.

    Args:
        folder: Of the data set.
        preset: Whose sizes and number of queries count; none: the general one of the task.
        task: What would be trained; none: what the data or the preset are made for.
        format: Name of the format; none finds it.
        fractions: How to split a folder that is not split, in order: training, validation, test.
        workers: Processes; 0 works in this one, none takes one for every core.
        progress: Shows how far it is.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is no data set of a known format, cannot serve the task, or no split of it
            can be opened.
    """
    chosen = {"preset": preset, "task": task}
    named = {key: value for key, value in chosen.items() if value is not None}
    run = compose_run(named, lambda: natural_tasks(folder, format))
    datasets, findings = open_splits(folder, run, format, fractions)
    splits = survey(datasets, run.task, workers=workers, progress=progress)
    findings += judge(splits, run)
    return Check(folder, run, splits, tuple(findings))


def open_splits(
    folder: Path,
    run: Run,
    format: str | None,  # noqa: A002 as the option
    fractions: Fractions | None,
) -> tuple[dict[str, Dataset], list[Finding]]:
    """Every split that can be opened, and what is wrong with their annotation files.

    A data set without splits is one, unless fractions say how to divide it.

    Raises:
        ValueError: None can be opened.
        FileNotFoundError: Of the only one, the files are missing.
    """
    problems = Collected()
    datasets: dict[str, Dataset] = {}
    failures: list[ValueError | FileNotFoundError] = []
    is_whole = fractions is None and find_format(folder, task=run.task, format=format).is_unsplit
    names = (
        [WHOLE] if is_whole else list_splits(folder, run.task, format=format, fractions=fractions)
    )
    for name in names:
        try:
            dataset = open_dataset(
                folder,
                name,
                task=run.task,
                format=format,
                fractions=fractions,
                ignore_index=run.data.ignore_index,
                problems=problems,
            )
        except (ValueError, FileNotFoundError) as error:
            failures.append(error)
        else:
            datasets[dataset.split] = dataset
    if not datasets:
        raise failures[0]
    findings = [Finding(p, "error" if p.is_error else "warning") for p in problems.found]
    findings += [
        finding("unreadable annotation", str(error), is_error=True, file=str(folder))
        for error in failures
    ]
    return datasets, findings


def write_report(check: Check, output: Path) -> Path:
    """Write `report.html` and `report.json`.

    Args:
        check: What was found.
        output: Folder to write to; made when missing. Earlier reports in it are replaced.

    Returns:
        Path of the page.
    """
    output.mkdir(parents=True, exist_ok=True)
    statistics = {
        name: split_statistics(split, check.run.data) for name, split in check.splits.items()
    }
    per_class = class_statistics(check.splits)
    page = output / "report.html"
    content = as_json(check) | _details(check, statistics, per_class)
    with replacing(output / "report.json") as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with replacing(page) as unfinished:
        html = render(_make_page(check, statistics, per_class))
        unfinished.write_text(html, encoding="utf-8")
    return page


def as_json(check: Check) -> dict[str, Any]:
    """What programs want to know; problems of a kind are one entry."""
    groups = check.groups
    return {
        "format": check.first.dataset.format,
        "task": check.run.task,
        "splits": {
            name: {"images": len(split.images), "objects": int(split.counts.sum())}
            for name, split in check.splits.items()
        },
        "classes": list(check.first.dataset.classes.names),
        "errors": [group.as_json() for group in of_severity(groups, "error")],
        "warnings": [group.as_json() for group in of_severity(groups, "warning")],
        "information": [group.as_json() for group in of_severity(groups, "information")],
    }


def _details(
    check: Check,
    statistics: Mapping[str, SplitStatistics],
    per_class: Mapping[str, Sequence[ClassStatistics]],
) -> dict[str, Any]:
    """What `report.json` has beyond: every problem alone, and all tables."""
    classes = check.first.dataset.classes
    return {
        "preset": check.run.preset,
        "notes": check.notes,
        "statistics": {name: split.as_json() for name, split in statistics.items()},
        "per_class": {
            name: [
                {"name": class_name, **asdict(row)}
                for class_name, row in zip(classes.names, rows, strict=True)
            ]
            for name, rows in per_class.items()
        },
        "problems": [
            {"severity": group.severity, **asdict(found.problem)}
            for group in check.groups
            for found in group.findings
        ],
    }


def _make_page(
    check: Check,
    statistics: Mapping[str, SplitStatistics],
    per_class: Mapping[str, Sequence[ClassStatistics]],
) -> Page:
    task, dataset = check.run.task, check.first.dataset
    pictures: dict[tuple[Severity, str], Any] = {
        (group.severity, group.kind): offenders(group.findings, check.splits, task)
        for group in check.groups
    }
    return Page(
        folder=str(check.folder),
        format=dataset.format,
        task=task,
        preset=check.run.preset,
        num_queries=check.run.model.num_queries,
        classes=dataset.classes,
        notes=check.notes,
        groups=check.groups,
        splits=statistics,
        per_class=per_class,
        charts=_draw_charts(check),
        offenders=pictures,
        samples={
            name: random_samples(split, task, SAMPLE_SEED) for name, split in check.splits.items()
        },
        augmented=augmented_samples(_trained_on(check), task, check.run.data, SAMPLE_SEED),
    )


def _trained_on(check: Check) -> Split:
    """The training split, or the first of others."""
    names = [name for name in SYNONYMS[0] if name in check.splits]
    return check.splits[names[0]] if names else check.first


def _draw_charts(check: Check) -> list[str]:
    splits = check.splits.values()
    counts = np.concatenate([split.counts for split in splits])
    objects = np.concatenate([split.objects for split in splits])
    sides = np.sqrt(objects["area"][~objects["is_crowd"]])
    sizes = [image.size for split in splits for image in split.images if image.size is not None]
    queries = check.run.model.num_queries
    charts = []
    if len(counts):
        limit = (float(queries), "queries") if counts.max() > queries / 4 else None
        charts.append(histogram(counts, title="Images", axis="objects an image", limit=limit))
    if len(sides):
        limit = (float(MASK_STRIDE), "one mask pixel at full size")
        axis = "root of the area, pixels of the original image"
        charts.append(histogram(sides, title="Objects", axis=axis, logarithmic=True, limit=limit))
    if sizes:
        for axis, values in zip(("height", "width"), np.array(sizes).T, strict=True):
            charts.append(histogram(values, title="Images", axis=f"{axis}, pixels"))
    return charts
