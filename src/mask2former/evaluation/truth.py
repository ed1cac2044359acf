"""What the images of a data set truly hold, for every task that is scored on them."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int32, Int64

from mask2former.data.annotations import (
    Annotations,
    AsRead,
    Layered,
    SegmentLabel,
    SegmentMap,
    annotation_size,
)
from mask2former.data.dataset import Dataset, Record, TaskDataset
from mask2former.data.derive import (
    TrueObject,
    for_task,
    instance_rles,
    panoptic_map,
    semantic_map,
)
from mask2former.data.merging import merge_datasets
from mask2former.data.sources import Source
from mask2former.tasks import Task
from mask2former.types import Classes

CITYSCAPES = "cityscapes"
"""The format whose benchmark has rules of its own, for which objects, groups of them and what is
not scored must be told apart."""

SEGMENTS_SERVE: tuple[Task, ...] = ("panoptic", "semantic", "instance")
"""What panoptic annotations can be scored for."""


@dataclass(frozen=True)
class Truth:
    """One image as it was annotated, for each task that is scored."""

    image_id: int | str
    annotations: Mapping[Task, Annotations]
    classes: Mapping[Task, Classes]
    """What the annotations of each task are numbered by."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return annotation_size(next(iter(self.annotations.values())))

    @cached_property
    def semantic_map(self) -> Int64[np.ndarray, "h w"]:
        """Class id per pixel, -1 where nothing is scored."""
        return semantic_map(self.annotations["semantic"], len(self.classes["semantic"]))

    @property
    def segments(self) -> SegmentMap:
        """As panoptically annotated, with the ids of the files."""
        annotations = self.annotations["panoptic"]
        assert isinstance(annotations, SegmentMap)
        return annotations

    @cached_property
    def panoptic_map(self) -> tuple[Int32[np.ndarray, "h w"], tuple[SegmentLabel, ...]]:
        """Segment id per pixel, 0 where nothing is labelled, and what the ids mean."""
        return panoptic_map(self.annotations["panoptic"])

    @cached_property
    def objects(self) -> list[TrueObject]:
        """Things, crowds among them."""
        return instance_rles(self.annotations["instance"])

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Make now what the metrics of these tasks will ask for."""
        if "semantic" in tasks:
            _ = self.semantic_map
        if "panoptic" in tasks:
            _ = self.panoptic_map
        if "instance" in tasks:
            _ = self.objects


@dataclass(frozen=True)
class ScoredImages:
    """The images of one split, annotated for each task that is scored."""

    task: Task
    """What is scored above all."""
    datasets: Mapping[Task, TaskDataset]
    """The same images in the same order; with the panoptic one of Cityscapes, whatever the task."""

    @property
    def main(self) -> TaskDataset:
        """The images as annotated for the task itself."""
        return self.datasets[self.task]

    @property
    def classes(self) -> dict[Task, Classes]:
        """Of each task."""
        return {task: dataset.classes for task, dataset in self.datasets.items()}

    @property
    def is_cityscapes(self) -> bool:
        """Whether the benchmark's own rules can be followed."""
        return self.main.format == CITYSCAPES and "panoptic" in self.datasets

    def __len__(self) -> int:
        return len(self.main)

    def truth(self, index: int) -> Truth:
        """Read the annotations of an image."""
        records = {task: dataset.records[index] for task, dataset in self.datasets.items()}
        annotations = {task: self.datasets[task].decode(r) for task, r in records.items()}
        return Truth(self.main.records[index].image_id, annotations, self.classes)


def scored_images(dataset: Dataset, task: Task) -> ScoredImages:
    """The images of a data set with all that scoring a task needs.

    Panoptic results are scored for all three tasks, as published: objects are compared with those
    that are annotated, overlaps and all, and classes with the map of classes, where the data set
    has such besides its segments (ADE20K); else both are derived from the segments.

    Args:
        dataset: As it was opened. Of one that `for_task` made, only its task can be scored.
        task: What is scored.

    Raises:
        ValueError: The annotations cannot serve the task, there is no image, or several images
            have one id.
    """
    if len(dataset) == 0:
        raise ValueError(
            f"split {dataset.split} of {dataset.folder} has no images; evaluate another split"
        )
    _check_distinct_ids(dataset)
    if isinstance(dataset, TaskDataset):
        dataset = _as_opened(dataset, dataset.tasks)
    base = replace(dataset, decode=ReadOnce(dataset.decode))
    main = for_task(base, task)
    datasets: dict[Task, TaskDataset] = {task: main}
    if task == "panoptic":
        segments = _as_opened(main, SEGMENTS_SERVE)
        whole = base if set(base.tasks) >= {"instance", "semantic"} else segments
        if any(main.classes.is_thing):
            datasets["instance"] = for_task(whole, "instance")
        in_layers = isinstance(base.annotations(0), Layered)
        datasets["semantic"] = for_task(whole if in_layers else segments, "semantic")
    elif dataset.format == CITYSCAPES and "panoptic" in dataset.tasks:
        datasets["panoptic"] = for_task(base, "panoptic")
    return ScoredImages(task, datasets)


def merge_scored(parts: Sequence[ScoredImages]) -> ScoredImages:
    """The images of several data sets; classes of one name are one class."""
    shared = [task for task in parts[0].datasets if all(task in p.datasets for p in parts)]
    merged = {task: merge_datasets([part.datasets[task] for part in parts]) for task in shared}
    return ScoredImages(parts[0].task, merged)


def _check_distinct_ids(dataset: Dataset) -> None:
    """Predictions are told apart by the ids of their images."""
    seen: dict[int | str, Source] = {}
    for record in dataset.records:
        if record.image_id in seen:
            raise ValueError(
                f"split {dataset.split} of {dataset.folder} has image id {record.image_id!r} "
                f"twice, as {seen[record.image_id]} and as {record.image}; give each image its own"
            )
        seen[record.image_id] = record.image


class ReadOnce:
    """Reads a record's annotations, and remembers those of the last record of each thread.

    All tasks of an image are made of them.
    """

    def __init__(self, decode: Callable[[Record], AsRead]) -> None:
        self._decode = decode
        self._last = threading.local()

    def __call__(self, record: Record) -> AsRead:
        key = (record.image_id, record.image)
        if getattr(self._last, "key", None) != key:
            self._last.annotations = self._decode(record)
            self._last.key = key
        return self._last.annotations


def _as_opened(dataset: TaskDataset, tasks: tuple[Task, ...]) -> Dataset:
    """What was made for one task, as a data set that others can be made of."""
    return Dataset(
        format=dataset.format,
        folder=dataset.folder,
        split=dataset.split,
        classes=dataset.classes,
        tasks=tasks,
        records=dataset.records,
        decode=dataset.decode,
        notes=dataset.notes,
    )
