"""The part of a check that takes seconds whatever the size of the data: for every training run."""

from collections.abc import Iterable, Iterator

import numpy as np

from mask2former.check.facts import look_at
from mask2former.check.judge import image_findings
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task
from mask2former.data.formats.format import WHOLE
from mask2former.data.problems import Problem
from mask2former.tasks import Task

LOOKED_AT = 16
"""Images of a split that are read."""


def fast_check(
    dataset: Dataset, task: Task, *, num_queries: int, validation: Dataset | None = None
) -> list[Problem]:
    """What can be found in seconds: in the lists of files, and in a few images of each split.

    Reads `LOOKED_AT` images at equal distances with their annotations; whether files exist, the
    readers have found out. `check_folder` reads everything.

    Args:
        dataset: To train on.
        task: What is trained.
        num_queries: Of the model.
        validation: To score on; none skips what compares the two.

    Returns:
        Errors and warnings; empty images and what is information only are left out.
    """
    problems = list(_crowded(dataset, num_queries))
    if validation is not None and WHOLE not in (dataset.split, validation.split):
        problems += _in_both(dataset, validation)
    for split in (dataset, validation):
        if split is not None:
            problems += _few_images(split, task, num_queries)
    return list({problem.message: problem for problem in problems}.values())


def _few_images(dataset: Dataset, task: Task, num_queries: int) -> Iterator[Problem]:
    derived = for_task(dataset, task)
    chosen = np.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).astype(int).tolist()
    for index in chosen:
        for found in image_findings(look_at(dataset, derived, index), task, num_queries):
            if found.severity != "information" and found.problem.kind != "empty image":
                yield found.problem


def _crowded(dataset: Dataset, num_queries: int) -> Iterator[Problem]:
    """The fullest image, when it shows more objects than can be found."""
    counts = np.array([record.num_objects or 0 for record in dataset.records], np.int64)
    above = int((counts > num_queries).sum())
    if not above:
        return
    worst = int(counts.argmax())
    record = dataset.records[worst]
    yield Problem(
        "more objects than queries",
        f"{above} images of split {dataset.split} show more objects than the model has queries, "
        f"most of them {record.image} with {counts[worst]} for {num_queries}; raise "
        f"model.num_queries or cut such images into tiles",
        is_error=False,
        file=str(record.image),
        image_id=record.image_id,
    )


def _in_both(dataset: Dataset, validation: Dataset) -> Iterator[Problem]:
    scored = set(_files(validation))
    shared = [file for file in _files(dataset) if file in scored]
    if shared:
        yield Problem(
            "leaked image",
            f"{len(shared)} of the {len(scored)} images of split {validation.split} are also in "
            f"{dataset.split}, such as {shared[0]}; scores on images that were trained on say "
            f"nothing, so take them out of one",
            is_error=False,
            file=shared[0],
        )


def _files(dataset: Dataset) -> Iterable[str]:
    return (str(record.image) for record in dataset.records)
