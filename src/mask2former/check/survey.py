"""One pass over all images of a data set, in several processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mask2former.check.facts import ImageFacts, look_at
from mask2former.check.objects import NO_OBJECTS, ObjectTable
from mask2former.data.dataset import Dataset, TaskDataset
from mask2former.data.derive import for_task
from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.splits import SYNONYMS
from mask2former.processes import in_order, num_workers
from mask2former.tasks import Task

IMAGES_A_MESSAGE = 8
TRAINVAL = "trainval"
"""A split that holds what the training and the validation split do."""
TO_TRAIN_ON = (*SYNONYMS[0], TRAINVAL, WHOLE)
"""Names of splits that are trained on, the likeliest first."""
T = TypeVar("T")
Progress: TypeAlias = Callable[[Iterable[T], int], Iterable[T]]
"""Passes items on, given how many there will be, and shows how far it is."""
Pair: TypeAlias = tuple[Dataset, TaskDataset]
"""A split as it was opened, and for the task."""


@dataclass(frozen=True)
class Split:
    """What is known about a split after every image was looked at."""

    raw: Dataset
    """As it was opened."""
    dataset: TaskDataset
    """For the task."""
    images: tuple[ImageFacts, ...]

    @property
    def name(self) -> str:
        return self.dataset.split

    @cached_property
    def objects(self) -> ObjectTable:
        """Those of all images, one after another."""
        return np.concatenate([NO_OBJECTS.table, *(image.objects for image in self.images)])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Objects of each image that are no crowds."""
        return np.array([image.num_objects for image in self.images], np.int64)

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """Objects of each class that are no crowds."""
        class_ids = self.objects["class_id"][~self.objects["is_crowd"]]
        return np.bincount(class_ids, minlength=len(self.dataset.classes)).astype(np.int64)


def trained_on(splits: Mapping[str, Split]) -> Split:
    """The split that training would take, or the first where none is named so."""
    names = [name for name in TO_TRAIN_ON if name in splits]
    return splits[names[0]] if names else next(iter(splits.values()))


def survey(
    datasets: Mapping[str, Dataset],
    task: Task,
    *,
    workers: int | None = None,
    progress: Progress[ImageFacts] | None = None,
) -> dict[str, Split]:
    """Look at every image of every split.

    Args:
        datasets: Splits by name, as they were opened.
        task: Its annotations are looked at.
        workers: Processes; 0 works in this one, none takes one for every core.
        progress: Shows how far it is.

    Raises:
        ValueError: The annotations cannot serve the task.
    """
    pairs = [(dataset, for_task(dataset, task)) for dataset in datasets.values()]
    count = sum(len(derived) for _, derived in pairs)
    seen: Iterable[ImageFacts] = _look_at_all(pairs, num_workers(workers, count))
    images = list(progress(seen, count) if progress and count else seen)
    splits = {}
    for name, (raw, derived) in zip(datasets, pairs, strict=True):
        here, images = images[: len(derived)], images[len(derived) :]
        splits[name] = Split(raw, derived, tuple(here))
    return splits


def _look_at_all(pairs: Sequence[Pair], workers: int) -> Iterator[ImageFacts]:
    spans = [
        (number, range(start, min(start + IMAGES_A_MESSAGE, len(derived))))
        for number, (_, derived) in enumerate(pairs)
        for start in range(0, len(derived), IMAGES_A_MESSAGE)
    ]
    if workers == 0:
        return (look_at(*pairs[number], index) for number, span in spans for index in span)
    looks = in_order(_look_at_some, spans, workers, initializer=_start_worker, initargs=(pairs,))
    return chain.from_iterable(looks)


_pairs_of_worker: Sequence[Pair] = ()


def _start_worker(pairs: Sequence[Pair]) -> None:
    global _pairs_of_worker
    _pairs_of_worker = pairs


def _look_at_some(span: tuple[int, range]) -> list[ImageFacts]:
    number, indices = span
    return [look_at(*_pairs_of_worker[number], index) for index in indices]
