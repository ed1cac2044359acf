"""The part of a check that takes seconds whatever the size of the data: for every training run."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from mask2former.check.facts import look_at
from mask2former.check.findings import Finding, Group, group_findings
from mask2former.check.judge import image_findings
from mask2former.data.dataset import Dataset, TaskDataset
from mask2former.data.formats.format import WHOLE
from mask2former.data.problems import Problem

LOOKED_AT = 16
"""Images of a split that are read."""


def fast_check(
    dataset: TaskDataset, *, num_queries: int, validation: TaskDataset | None = None
) -> list[Problem]:
    """What can be found in seconds: in the lists of files, and in a few images of each split.

    Reads `LOOKED_AT` images at equal distances with their annotations; whether files exist, the
    readers have found out. `check_folder` reads everything.

    Args:
        dataset: To train on.
        num_queries: Of the model.
        validation: To score on; none skips what compares the two.

    Returns:
        Errors, then warnings, the images' faults one of each kind with the number of the others;
        empty images and what is information only are left out.
    """
    splits = [dataset] if validation is None else [dataset, validation]
    chosen = [_at_equal_distances(split) for split in splits]
    found = [
        finding
        for split, indices in zip(splits, chosen, strict=True)
        for index in indices
        for finding in _look(split, index, num_queries)
    ]
    num_images = sum(map(len, chosen))
    problems = [_sum_up(group, num_images, dataset) for group in group_findings(found)]
    problems += _crowded(dataset, num_queries)
    if validation is not None and WHOLE not in (dataset.split, validation.split):
        problems += _in_both(dataset, validation)
    return problems


def _at_equal_distances(dataset: Dataset) -> list[int]:
    count = min(LOOKED_AT, len(dataset))
    return np.linspace(0, len(dataset) - 1, count).astype(int).tolist()


def _look(dataset: TaskDataset, index: int, num_queries: int) -> Iterator[Finding]:
    facts = look_at(dataset, dataset, index)
    is_counted = dataset.records[index].num_objects is not None
    for found in image_findings(facts, dataset.tasks[0], num_queries):
        is_told = is_counted and found.problem.kind == "more objects than queries"
        if found.severity != "information" and found.problem.kind != "empty image" and not is_told:
            yield found


def _sum_up(group: Group, num_images: int, dataset: Dataset) -> Problem:
    """The worst problem of a kind, which tells of the others."""
    worst = group.findings[0].problem
    if group.count == 1:
        return worst
    images = {(found.places, found.problem.image_id) for found in group.findings}
    where = "all" if len(images) == num_images else f"{len(images)} of the"
    among = (
        f"{group.count} of this kind in {where} {num_images} images that were looked at; see "
        f"`mask2former data check {dataset.folder}`"
    )
    return replace(worst, message=f"{worst.message} ({among})")


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
