"""One conversion under way: what the writers of all formats share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, tee
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from mask2former.data.annotations import Annotations, AsRead, annotation_size
from mask2former.data.dataset import Dataset, Record, TaskDataset
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.names import base_name, listable
from mask2former.data.writers.placing import ImageMode, place_image
from mask2former.data.writers.telling import tell_flattening, tell_unlabelled
from mask2former.processes import in_order
from mask2former.tasks import Task
from mask2former.types import Classes

T = TypeVar("T")
AT_ONCE = 16
"""Images that a process is given at a time."""


@dataclass(frozen=True)
class Item:
    """One image on its way."""

    record: Record
    split: str
    file_name: str
    """In the target, relative to the folder for the images of the split; `/` separates folders."""
    image_id: int
    """In the target."""

    @property
    def stem(self) -> str:
        """The file name without its suffix, with its folders."""
        folder, slash, name = self.file_name.rpartition("/")
        return folder + slash + (name.rpartition(".")[0] or name)


@dataclass(frozen=True)
class Layout:
    """Where images go, and what they are called."""

    names: Mapping[str, list[str]]
    """By split, for each of its records."""
    image_folders: Mapping[str, str]
    """By split, relative to the target."""
    image_ids: Mapping[str, list[int]] | None = None
    """By split; none for formats that know files by name alone."""
    holds_unlabelled: bool = False
    """Pixels without label differ from background that was looked at."""


@dataclass(frozen=True)
class Conversion:
    """What is converted, where to, and what is told about it."""

    folder: Path
    """To write to: new, and taken away if the conversion fails."""
    task: Task
    sources: Mapping[str, Dataset]
    """Splits as they were read."""
    splits: Mapping[str, TaskDataset]
    """The same, annotated for the task."""
    images: ImageMode
    workers: int = 0
    """Processes beside this one; 0 works in this one."""
    losses: Losses = field(default_factory=Losses)
    notes: list[str] = field(default_factory=list)
    """How the data set was understood; a writer may say it as its files do."""
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, _: items
    """Shows items as they pass, given their number."""

    @property
    def classes(self) -> Classes:
        """The same for all splits."""
        return next(iter(self.splits.values())).classes

    @property
    def natural_task(self) -> Task:
        """What the data set was annotated for."""
        return next(iter(self.sources.values())).tasks[0]

    def each(
        self, layout: Layout, describe: Callable[[Item, Annotations, Losses], T]
    ) -> Iterator[tuple[Item, T]]:
        """Place every image and describe what is annotated on it, split by split.

        Args:
            layout: Of the target.
            describe: Writes what belongs to one image alone; returns what is written for all
                together. Picklable.

        Raises:
            ValueError: Something is wrong with an image or its annotations.
            OSError: A file cannot be read or written.
        """
        self._tell_renaming(layout)
        total = sum(map(len, self.splits.values()))
        yield from self.progress(self._described(layout, describe), total)

    def _tell_renaming(self, layout: Layout) -> None:
        bases = [
            (base_name(record.image), PurePosixPath(name).name)
            for split, dataset in self.splits.items()
            for name, record in zip(layout.names[split], dataset.records, strict=True)
        ]
        unlistable = sum(listable(before) != before for before, _ in bases)
        self.losses.add(
            "file names",
            "images are renamed: line breaks and blanks around names break lists of names",
            unlistable,
        )
        shared = sum(listable(before) != after for before, after in bases)
        self.losses.add("file names", "images are renamed: two would share a name", shared)

    def _described(
        self, layout: Layout, describe: Callable[[Item, Annotations, Losses], T]
    ) -> Iterator[tuple[Item, T]]:
        calls, again = tee(self._calls(layout, describe))
        found = in_order(_work_on, calls, self.workers)
        for (_, items), (results, losses) in zip(again, found, strict=True):
            self.losses.merge(losses)
            yield from zip(items, results, strict=True)

    def _calls(
        self, layout: Layout, describe: Callable[[Item, Annotations, Losses], T]
    ) -> Iterator[tuple["_Work[T]", list[Item]]]:
        ids = layout.image_ids or {}
        for split, dataset in self.splits.items():
            work = _Work(
                # what the natural annotations lose on the way to another task is told
                None if self.task == self.natural_task else self.sources[split].decode,
                dataset.decode,
                self.task,
                self.folder / layout.image_folders[split],
                self.images,
                # where objects were annotated, the rest was looked at
                layout.holds_unlabelled or self.natural_task == "instance",
                describe,
            )
            items = (
                Item(record, split, layout.names[split][i], ids[split][i] if ids else i)
                for i, record in enumerate(dataset.records)
            )
            while chunk := list(islice(items, AT_ONCE)):
                yield work, chunk


def _work_on(call: tuple["_Work[T]", list[Item]]) -> tuple[list[T], Losses]:
    work, items = call
    return work(items)


@dataclass(frozen=True)
class _Work(Generic[T]):
    """What a process does with some images."""

    decode_source: Callable[[Record], AsRead] | None
    decode: Callable[[Record], Annotations]
    task: Task
    image_folder: Path
    images: ImageMode
    holds_unlabelled: bool
    describe: Callable[[Item, Annotations, Losses], T]

    def __call__(self, items: list[Item]) -> tuple[list[T], Losses]:
        losses = Losses()
        return [self._convert(item, losses) for item in items], losses

    def _convert(self, item: Item, losses: Losses) -> T:
        annotations = self.decode(item.record)
        if self.decode_source is not None:
            tell_flattening(self.decode_source(item.record), self.task, losses)
        if not self.holds_unlabelled:
            tell_unlabelled(annotations, losses)
        target = self.image_folder / item.file_name
        place_image(item.record, target, self.images, annotation_size(annotations), losses)
        return self.describe(item, annotations, losses)
