"""From facts to findings: what is wrong with images, with classes, with splits."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from mask2former.check.copies import find_copies
from mask2former.check.facts import ImageFacts
from mask2former.check.findings import Finding, finding
from mask2former.check.sizes import vanishing_findings
from mask2former.check.survey import Split, trained_on
from mask2former.config import Run
from mask2former.data.problems import Problem
from mask2former.tasks import Task

MAX_IMBALANCE = 100
"""Times that the most frequent class may be seen for each time of the rarest."""


def judge(
    splits: Mapping[str, Split], run: Run, known: Iterable[Problem] = ()
) -> Iterator[Finding]:
    """Everything worth telling about a data set.

    Args:
        splits: As `survey` made them.
        run: What would be trained: its task, sizes and number of queries matter.
        known: What the reader said; an image whose objects it left out is not called empty.
    """
    blamed = {p.image_id for p in known if p.is_error and p.image_id is not None}
    for split in splits.values():
        for image in split.images:
            for found in image_findings(image, run.task, run.model.num_queries):
                if found.kind != "empty image" or image.image_id not in blamed:
                    yield found
        yield from vanishing_findings(split, run.data)
    yield from find_copies([image for split in splits.values() for image in split.images])
    yield from class_findings(splits, run.task)


def image_findings(image: ImageFacts, task: Task, num_queries: int) -> Iterator[Finding]:
    """What one image is told for."""
    yield from image.findings
    if not image.is_annotated:
        return
    count = image.num_objects
    if count == 0:
        yield finding(
            "empty image",
            f"{image.file} {_emptiness(image, task)}; annotate it if something is there",
            is_error=False,
            file=image.file,
            image_id=image.image_id,
            places=(image.place,),
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
            places=(image.place,),
            weight=float(count),
        )
    if image.overlap:
        yield _overlap(image, task)


def _emptiness(image: ImageFacts, task: Task) -> str:
    """What an image without objects shows, and what becomes of it."""
    if task == "semantic":
        return "has no labelled pixel, so nothing is scored on it"
    what = "object" if task == "instance" else "segment"
    crowds = len(image.objects)
    shown = f"shows crowds only ({crowds})" if crowds else f"shows no {what}"
    return f"{shown}, so training learns from it at most that there is no {what}"


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
    return Finding(problem, severity, (image.place,), weight=float(image.overlap))


def class_findings(splits: Mapping[str, Split], task: Task) -> Iterator[Finding]:
    """Classes that are never used, only in one split, or far rarer than others."""
    train = trained_on(splits)
    if not train.class_counts.any():
        yield _nothing_to_learn(train, task)
    counts = {n: split.class_counts for n, split in splits.items() if split.class_counts.any()}
    if not counts:
        return
    folder = str(train.dataset.folder)
    for class_id, class_name in enumerate(train.dataset.classes.names):
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
            fate = "learnt but never scored" if used[0] == train.name else "never learnt"
            yield finding(
                "class in one split",
                f"class {class_name!r} is in split {used[0]} but not in {others}, so it is {fate}; "
                f"move some of its images over",
                is_error=False,
                file=folder,
                weight=float(counts[used[0]][class_id]),
            )
    yield from _imbalance(train)


def _nothing_to_learn(train: Split, task: Task) -> Finding:
    what = "object" if task == "instance" else "segment"
    apart = " apart from crowds" if len(train.objects) else ""
    return finding(
        "no objects",
        f"no image of split {train.name} shows an annotated {what}{apart}, so there is nothing to "
        f"train on; annotate some, or correct the annotations",
        is_error=True,
        file=str(train.dataset.folder),
    )


def _imbalance(train: Split) -> Iterator[Finding]:
    """In the split to train on."""
    count, names = train.class_counts, train.dataset.classes.names
    used = np.flatnonzero(count)
    if not len(used):
        return
    rarest, commonest = used[count[used].argmin()], used[count[used].argmax()]
    few, many = int(count[rarest]), int(count[commonest])
    ratio = many / few
    if ratio < MAX_IMBALANCE:
        return
    yield finding(
        "class imbalance",
        f"in split {train.name}, class {names[rarest]!r} has {few} object{'s' * (few > 1)} and "
        f"{names[commonest]!r} has {many}, {ratio:.0f} times as many; annotate more of the rare "
        f"classes, or draw their images more often (data.repeat_threshold)",
        is_error=False,
        file=str(train.dataset.folder),
        weight=ratio,
    )
