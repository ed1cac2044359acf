"""One pass over all images of a data set, in several processes."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mask2former.check.facts import ImageFacts, look_at
from mask2former.check.objects import NO_OBJECTS, ObjectTable
from mask2former.data.dataset import Dataset, TaskDataset
from mask2former.data.derive import for_task
from mask2former.tasks import Task

IMAGES_A_MESSAGE = 8
FEWEST_FOR_PROCESSES = 32
"""Images; fewer are read sooner than processes start."""
Progress: TypeAlias = Callable[[Iterable[ImageFacts], int], Iterable[ImageFacts]]
"""Passes items on, given how many there will be, and shows how far it is."""


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

    @property
    def objects(self) -> ObjectTable:
        """Those of all images, one after another."""
        return np.concatenate([NO_OBJECTS.table, *(image.objects for image in self.images)])

    @property
    def counts(self) -> NDArray[np.int64]:
        """Objects of each image that are no crowds."""
        counts = [int((~image.objects["is_crowd"]).sum()) for image in self.images]
        return np.array(counts, np.int64)


def survey(
    datasets: Mapping[str, Dataset],
    task: Task,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
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
    looks = Looks([(dataset, for_task(dataset, task)) for dataset in datasets.values()])
    count = len(looks)
    if workers is None:
        workers = num_cores() if count >= FEWEST_FOR_PROCESSES else 0
    loader: Iterable[list[ImageFacts]] = DataLoader(
        looks, batch_size=IMAGES_A_MESSAGE, num_workers=workers, collate_fn=list
    )
    seen: Iterable[ImageFacts] = chain.from_iterable(loader)
    seen = iter(progress(seen, count) if progress and count else seen)
    images = list(seen)
    splits = {}
    for name, (raw, derived) in zip(datasets, looks.pairs, strict=True):
        here, images = images[: len(derived)], images[len(derived) :]
        splits[name] = Split(raw, derived, tuple(here))
    return splits


class Looks(torch.utils.data.Dataset[ImageFacts]):
    """The images of all splits, each looked at when asked for."""

    def __init__(self, pairs: list[tuple[Dataset, TaskDataset]]) -> None:
        """Keep the splits, as they were opened and for the task."""
        self.pairs = pairs
        self._ends = np.cumsum([len(derived) for _, derived in pairs], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> ImageFacts:
        split = int(np.searchsorted(self._ends, index, side="right"))
        raw, derived = self.pairs[split]
        start = int(self._ends[split]) - len(derived)
        return look_at(raw, derived, index - start)


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
