"""The report of a check: a page for people, JSON for programs."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.check.charts import histogram
from mask2former.check.check_folder import Check
from mask2former.check.findings import Severity, of_severity
from mask2former.check.page import Page, render
from mask2former.check.pictures import augmented_samples, offenders, random_samples
from mask2former.check.proposals import train_command
from mask2former.check.sizes import MASK_STRIDE
from mask2former.check.statistics import (
    ClassStatistics,
    SplitStatistics,
    class_statistics,
    split_statistics,
)
from mask2former.check.survey import trained_on
from mask2former.files import replacing

SAMPLE_SEED = 0


def write_report(check: Check, output: Path) -> Path:
    """Write `report.html` and `report.json`.

    Args:
        check: What was found.
        output: Folder to write to, that is there. Earlier reports in it are replaced.

    Returns:
        Path of the page.
    """
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
        "proposals": [proposal.as_json() for proposal in check.proposals],
        "proposed_command": proposed_command(check),
    }


def proposed_command(check: Check) -> str | None:
    """The line that trains with all proposals; none where there are none."""
    proposals = check.proposals
    return shlex.join(train_command(check.run, proposals)) if proposals else None


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
        proposals=check.proposals,
        proposed_command=proposed_command(check),
        splits=statistics,
        per_class=per_class,
        charts=_draw_charts(check),
        offenders=pictures,
        samples={
            name: random_samples(split, task, SAMPLE_SEED) for name, split in check.splits.items()
        },
        augmented=augmented_samples(trained_on(check.splits), task, check.run.data, SAMPLE_SEED),
    )


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
        title = "Objects in each image"
        charts.append(histogram(counts, title=title, axis="objects", limit=limit))
    if len(sides):
        limit = (float(MASK_STRIDE), "one mask pixel at full size")
        axis = "root of the area, pixels of the original image"
        title = "Sizes of the objects"
        charts.append(histogram(sides, title=title, axis=axis, logarithmic=True, limit=limit))
    if sizes:
        for side, values in zip(("Heights", "Widths"), np.array(sizes).T, strict=True):
            charts.append(histogram(values, title=f"{side} of the images", axis="pixels"))
    return charts
