"""Surveys that nobody made, for tests of what is proposed for them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mask2former.check.facts import ImageFacts
from mask2former.check.needs import Needs, Proposal
from mask2former.check.objects import OBJECT
from mask2former.check.survey import Split
from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.data.dataset import Record, TaskDataset
from mask2former.tasks import Task
from mask2former.types import Classes


def run_of(task: Task = "instance", preset: str | None = None, **parts: object) -> Run:
    named = {"task": task, **({} if preset is None else {"preset": preset}), **parts}
    return compose_run(named, lambda: (task,))


def needs_of(
    *,
    num_images: int = 5000,
    short_sides: Sequence[int] = (640,) * 100,
    objects: Sequence[float] = (100.0,),
    counts: Sequence[int] = (10,) * 100,
    num_things: int = 50_000,
    shares: Sequence[float] = (0.5, 0.5),
) -> Needs:
    """Of images of one short side, with objects of these sides in pixels."""
    return Needs(
        num_images=num_images,
        short_sides=np.array(short_sides, np.int64),
        relative_sides=np.array(objects, float) / short_sides[0],
        counts=np.array(counts, np.int64),
        num_things=num_things,
        class_shares=np.array(shares, float),
    )


def image(
    index: int, *sides: float, size: tuple[int, int] | None = (480, 640), class_id: int = 0
) -> ImageFacts:
    """With a square object of each side in pixels."""
    return facts_of([(class_id, side**2) for side in sides], index=index, size=size)


def facts_of(
    objects: Sequence[tuple[int, float]],
    *,
    split: str = "train",
    index: int = 0,
    size: tuple[int, int] | None = (480, 640),
) -> ImageFacts:
    """Of an image with an object of each (class id, area)."""
    table = np.zeros(len(objects), OBJECT)
    table["class_id"] = [class_id for class_id, _ in objects]
    table["area"] = [area for _, area in objects]
    return ImageFacts(
        split=split,
        index=index,
        image_id=index,
        file=f"{split}/{index}.jpg",
        group=None,
        size=size,
        digest=None,
        thumbnail=None,
        is_annotated=True,
        objects=table,
        overlap=0,
        unlabelled=0,
        findings=(),
    )


def unread(record: Record) -> None:
    raise AssertionError(record)


def splits_of(
    *images: ImageFacts, name: str = "train", task: Task = "instance", num_classes: int = 1
) -> dict[str, Split]:
    names = tuple(f"class {i}" for i in range(num_classes))
    classes = Classes(names, tuple(range(num_classes)), (True,) * num_classes)
    dataset = TaskDataset("coco-instance", Path("d"), name, classes, (task,), (), unread)
    return {name: Split(dataset, dataset, images)}


def values(proposals: Sequence[Proposal]) -> dict[str, object]:
    return {proposal.key: proposal.value for proposal in proposals}
