"""Several data sets as one: classes of one name are one class."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from mask2former.data.annotations import Annotations, Instances
from mask2former.data.dataset import Record, TaskDataset
from mask2former.types import Classes


def merge_datasets(datasets: Sequence[TaskDataset]) -> TaskDataset:
    """All images of several data sets, which are made for one task.

    Classes keep the order in which they are first met and, where it is free, their category id.
    Image ids and groups begin with the name of their data set.

    Args:
        datasets: One or more; one alone is given back as it is.

    Raises:
        ValueError: A class is a thing in one data set and stuff in another.
    """
    if len(datasets) == 1:
        return datasets[0]
    classes = merge_classes(datasets)
    labels = _labels([dataset.folder for dataset in datasets])
    positions = {key: i for i, key in enumerate(_keys(classes))}
    tables = [tuple(positions[key] for key in _keys(d.classes)) for d in datasets]
    notes = [
        f"{label}: {note}"
        for label, dataset in zip(labels, datasets, strict=True)
        for note in (*dataset.notes, *_missing_note(dataset.classes, classes))
    ]
    return TaskDataset(
        format=" + ".join(dict.fromkeys(dataset.format for dataset in datasets)),
        folder=Path(os.path.commonpath([dataset.folder.resolve() for dataset in datasets])),
        split=" + ".join(dict.fromkeys(dataset.split for dataset in datasets)),
        classes=classes,
        tasks=datasets[0].tasks,
        records=MergedRecords([dataset.records for dataset in datasets], labels),
        decode=MergedDecoder(tuple(d.decode for d in datasets), tuple(tables)),
        notes=tuple(notes),
    )


def merge_classes(datasets: Sequence[TaskDataset]) -> Classes:
    """The classes of all, by name; see `merge_datasets`.

    A name that a data set has twice is two classes.
    """
    met: dict[tuple[str, int], tuple[int, bool]] = {}
    owners: dict[tuple[str, int], Path] = {}
    taken: set[int] = set()
    for dataset in datasets:
        own = zip(
            _keys(dataset.classes),
            dataset.classes.category_ids,
            dataset.classes.is_thing,
            strict=True,
        )
        for key, category_id, is_thing in own:
            if key not in met:
                free = category_id
                if category_id in taken:
                    free = next(i for i in count(1) if i not in taken)
                taken.add(free)
                met[key], owners[key] = (free, is_thing), dataset.folder
            elif met[key][1] != is_thing:
                first, second = ("a thing", "stuff") if met[key][1] else ("stuff", "a thing")
                raise ValueError(
                    f"class {key[0]!r} is {first} in {owners[key]} and {second} in "
                    f"{dataset.folder}; make it the same in both, or give one of them another name"
                )
    return Classes(
        names=tuple(name for name, _ in met),
        category_ids=tuple(category_id for category_id, _ in met.values()),
        is_thing=tuple(is_thing for _, is_thing in met.values()),
    )


class Member(NamedTuple):
    """What a merged record keeps of its own data set."""

    dataset: int
    """Position among the merged ones."""
    record: Record
    """As it was."""


class MergedRecords(Sequence[Record]):
    """The records of several data sets, one set behind the other."""

    def __init__(self, parts: Sequence[Sequence[Record]], labels: Sequence[str]) -> None:
        """Put them together.

        Args:
            parts: The records of each data set.
            labels: What the image ids of each begin with; distinct.
        """
        self._parts = tuple(parts)
        self._labels = tuple(labels)
        self._ends = np.array([*accumulate(len(part) for part in parts)], np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        index %= len(self)
        part = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[part]) - len(self._parts[part])
        record, label = self._parts[part][index - before], self._labels[part]
        return replace(
            record,
            image_id=f"{label}/{record.image_id}",
            annotation=Member(part, record),
            group=None if record.group is None else f"{label}/{record.group}",
        )


@dataclass(frozen=True)
class MergedDecoder:
    """Reads a merged record as its own data set does, with the class ids of all."""

    decoders: tuple[Callable[[Record], Annotations], ...]
    tables: tuple[tuple[int, ...], ...]
    """New class id by the data set's own, for each."""

    def __call__(self, record: Record) -> Annotations:
        member: Member = record.annotation
        annotations = self.decoders[member.dataset](member.record)
        new_ids = self.tables[member.dataset]
        if isinstance(annotations, Instances):
            items = (replace(item, class_id=new_ids[item.class_id]) for item in annotations.items)
            return replace(annotations, items=tuple(items))
        segments = (replace(s, class_id=new_ids[s.class_id]) for s in annotations.segments)
        return replace(annotations, segments=tuple(segments))


def _keys(classes: Classes) -> list[tuple[str, int]]:
    """Name, and how many classes of that name come before, of each class."""
    met: Counter[str] = Counter()
    keys = []
    for name in classes.names:
        keys.append((name, met[name]))
        met[name] += 1
    return keys


def _labels(folders: Sequence[Path]) -> list[str]:
    """The name of each folder, behind a number where several have the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return [f"{i}-{name}" for i, name in enumerate(names, start=1)]


def _missing_note(own: Classes, merged: Classes) -> list[str]:
    missing = sorted(set(merged.names) - set(own.names))
    if not missing:
        return []
    return [f"not annotated here, and wrong where visible: {', '.join(missing)}"]
