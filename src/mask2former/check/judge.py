"""From facts to findings: what is wrong with images, with classes, with splits."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mask2former.check.copies import find_copies, place_of
from mask2former.check.facts import ImageFacts
from mask2former.check.findings import Finding, finding
from mask2former.check.sizes import vanishing_findings
from mask2former.check.survey import Split
from mask2former.config import Run
from mask2former.data.formats.splits import means
from mask2former.data.problems import Problem
from mask2former.tasks import Task

MAX_IMBALANCE = 100
"""Times that the most frequent class may be seen for each time of the rarest."""


def judge(splits: Mapping[str, Split], run: Run) -> Iterator[Finding]:
    """Everything worth telling about a data set.

    Args:
        splits: As `survey` made them.
        run: What would be trained: its task, sizes and number of queries matter.
    """
    for split in splits.values():
        for image in split.images:
            yield from image_findings(image, run.task, run.model.num_queries)
        yield from vanishing_findings(split, run.data)
    yield from find_copies([image for split in splits.values() for image in split.images])
    yield from class_findings(splits)


def image_findings(image: ImageFacts, task: Task, num_queries: int) -> Iterator[Finding]:
    """What one image is told for."""
    places = (place_of(image),)
    for fault in image.faults:
        file = fault.file or image.file
        problem = Problem(fault.kind, fault.message, fault.is_error, file, image.image_id)
        shown = places if image.size is not None and image.is_annotated else ()
        severity = "error" if fault.is_error else "warning"
        yield Finding(problem, severity, shown, fault.weight, fault.box)
    if not image.is_annotated:
        return
    count = int((~image.objects["is_crowd"]).sum())
    if count == 0:
        yield finding(
            "empty image",
            f"{image.file} shows no object; instance segmentation is not trained on it, so "
            f"annotate it if something is there",
            is_error=False,
            file=image.file,
            image_id=image.image_id,
            places=places,
        )
    if count > num_queries:
        yield finding(
            "more objects than queries",
            f"{image.file} shows {count} objects but the model has {num_queries} queries, so "
            f"{count - num_queries} are never found; raise model.num_queries or cut the image "
            f"into tiles",
            is_error=False,
            file=image.file,
            image_id=image.image_id,
            places=places,
            weight=float(count),
        )
    if image.overlap:
        yield _overlap(image, task)


def _overlap(image: ImageFacts, task: Task) -> Finding:
    """Normal for instances; told for tasks that give a pixel to one segment."""
    is_resolved = task != "instance"
    mend = (
        f"for {task} segmentation each goes to one of them, so check the outlines"
        if is_resolved
        else "that is kept for instance segmentation; correct the outlines if it is not meant"
    )
    problem = Problem(
        "overlapping objects",
        f"{image.overlap} pixels of {image.file} belong to several objects; {mend}",
        is_error=False,
        file=image.file,
        image_id=image.image_id,
    )
    severity = "warning" if is_resolved else "information"
    return Finding(problem, severity, (place_of(image),), weight=float(image.overlap))


def class_findings(splits: Mapping[str, Split]) -> Iterator[Finding]:
    """Classes that are never used, only in one split, or far rarer than others."""
    counts = {name: class_counts(split) for name, split in splits.items()}
    counts = {name: count for name, count in counts.items() if count.sum()}
    if not counts:
        return
    names = next(iter(splits.values())).dataset.classes.names
    folder = str(next(iter(splits.values())).dataset.folder)
    for class_id, class_name in enumerate(names):
        used = [name for name, count in counts.items() if count[class_id]]
        if not used:
            yield finding(
                "unused class",
                f"no object of class {class_name!r} in {', '.join(counts)}; annotate some, or take "
                f"the class out of the list",
                is_error=False,
                file=folder,
            )
        elif len(used) == 1 and len(counts) > 1:
            others = ", ".join(name for name in counts if name not in used)
            fate = "learnt but never scored" if means(used[0], "train") else "never learnt"
            yield finding(
                "class in one split",
                f"class {class_name!r} is in split {used[0]} but not in {others}, so it is {fate}; "
                f"move some of its images over",
                is_error=False,
                file=folder,
                weight=float(counts[used[0]][class_id]),
            )
    yield from _imbalance(counts, names, folder)


def _imbalance(
    counts: Mapping[str, NDArray[np.int64]], names: tuple[str, ...], folder: str
) -> Iterator[Finding]:
    """In the split with most objects, which is the one to train on."""
    split, count = max(counts.items(), key=lambda pair: int(pair[1].sum()))
    used = np.flatnonzero(count)
    rarest, commonest = used[count[used].argmin()], used[count[used].argmax()]
    ratio = count[commonest] / count[rarest]
    if ratio < MAX_IMBALANCE:
        return
    yield finding(
        "class imbalance",
        f"in split {split}, class {names[rarest]!r} has {count[rarest]} objects and "
        f"{names[commonest]!r} has {count[commonest]}, {ratio:.0f} times as many; annotate more of "
        f"the rare classes, or draw their images more often (data.repeat_threshold)",
        is_error=False,
        file=folder,
        weight=float(ratio),
    )


def class_counts(split: Split) -> NDArray[np.int64]:
    """Objects of each class that are no crowds."""
    objects = split.objects
    class_ids = objects["class_id"][~objects["is_crowd"]]
    return np.bincount(class_ids, minlength=len(split.dataset.classes)).astype(np.int64)
