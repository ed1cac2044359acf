"""Several data sets as one: classes of one name are one class."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from mask2former.data.annotations import Annotations, Instances
from mask2former.data.class_tables import plain_name
from mask2former.data.dataset import Record, TaskDataset
from mask2former.data.derive import BACKGROUND
from mask2former.data.records import LazyRecords
from mask2former.types import Classes

Key: TypeAlias = tuple[str, int]
"""Plain name of a class, and how many of its data set have that name before it."""
FIRST_FEW = 10


def merge_datasets(datasets: Sequence[TaskDataset]) -> TaskDataset:
    """All images of several data sets, which are made for one task.

    Classes keep the order in which they are first met and, where it is free, their category id.
    Image ids and groups begin with the name of their data set.

    Args:
        datasets: One or more; one alone is given back as it is.

    Raises:
        ValueError: For panoptic segmentation, a class is a thing in one data set and stuff in
            another.
    """
    if len(datasets) == 1:
        return datasets[0]
    classes = merge_classes(datasets)
    labels = _labels([dataset.folder for dataset in datasets])
    positions = {key: i for i, key in enumerate(_keys(classes))}
    tables = [tuple(positions[key] for key in _keys(d.classes)) for d in datasets]
    return TaskDataset(
        format=" + ".join(dict.fromkeys(dataset.format for dataset in datasets)),
        folder=Path(os.path.commonpath([dataset.folder.resolve() for dataset in datasets])),
        split=" + ".join(dict.fromkeys(dataset.split for dataset in datasets)),
        classes=classes,
        tasks=datasets[0].tasks,
        records=MergedRecords([dataset.records for dataset in datasets], labels),
        decode=MergedDecoder(tuple(d.decode for d in datasets), tuple(tables)),
        notes=join_notes([d.folder for d in datasets], [d.notes for d in datasets]),
    )


def merge_classes(datasets: Sequence[TaskDataset]) -> Classes:
    """The classes of all, by their plain names; see `merge_datasets`.

    A name that a data set has twice is two classes. Where it does not matter whether a class is a
    thing, the first data set says.
    """
    met: dict[Key, tuple[str, int, bool]] = {}
    owners: dict[Key, Path] = {}
    taken: set[int] = set()
    for dataset in datasets:
        classes = dataset.classes
        own = zip(
            _keys(classes), classes.names, classes.category_ids, classes.is_thing, strict=True
        )
        for key, name, category_id, is_thing in own:
            if key not in met:
                free = category_id
                if category_id in taken:
                    free = next(i for i in count(1) if i not in taken)
                taken.add(free)
                met[key], owners[key] = (name, free, is_thing), dataset.folder
            elif met[key][2] != is_thing and dataset.tasks[0] == "panoptic":
                first, second = ("stuff", "a thing") if is_thing else ("a thing", "stuff")
                raise ValueError(
                    f"class {name!r} is {first} in {owners[key]} and {second} in "
                    f"{dataset.folder}; make it the same in both, or give one of them another name"
                )
    names, category_ids, is_thing = zip(*met.values(), strict=True)
    return Classes(names=names, category_ids=category_ids, is_thing=is_thing)


def tell_unshared(datasets: Sequence[TaskDataset]) -> str | None:
    """What it means that some data sets lack classes that others have; none if they do not.

    Nobody lacks the background: what is annotated nowhere is no object.
    """
    keys = [set(_keys(dataset.classes)) for dataset in datasets]
    shared = set.intersection(*keys)
    names = {
        key: name
        for dataset in datasets
        for key, name in zip(_keys(dataset.classes), dataset.classes.names, strict=True)
        if key not in shared and key[0] != BACKGROUND
    }
    if not names:
        return None
    few = ", ".join(list(names.values())[:FIRST_FEW]) + (", ..." if len(names) > FIRST_FEW else "")
    counted = "1 class is" if len(names) == 1 else f"{len(names)} classes are"
    where = "one folder" if len(datasets) == 2 else "some folders"
    return (
        f"{counted} annotated in {where} only; their objects in the others are taken as "
        f"background: {few}"
    )


def join_notes(folders: Sequence[Path], notes: Sequence[Iterable[str]]) -> tuple[str, ...]:
    """Notes that all folders have, once; those of some behind the names of these.

    Args:
        folders: Of data sets.
        notes: Of each.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for label, own in zip(_labels(folders), notes, strict=True):
        for note in dict.fromkeys(own):
            owners[note].append(label)
    return tuple(
        note if len(labels) == len(folders) else f"{', '.join(labels)}: {note}"
        for note, labels in owners.items()
    )


class Member(NamedTuple):
    """What a merged record keeps of its own data set."""

    dataset: int
    """Position among the merged ones."""
    record: Record
    """As it was."""


class MergedRecords(LazyRecords):
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

    def make(self, index: int) -> Record:
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


def _keys(classes: Classes) -> list[Key]:
    """What each class is known by."""
    met: Counter[str] = Counter()
    keys = []
    for name in map(plain_name, classes.names):
        keys.append((name, met[name]))
        met[name] += 1
    return keys


def _labels(folders: Sequence[Path]) -> list[str]:
    """The name of each folder, behind a number where several have the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return [f"{i}-{name}" for i, name in enumerate(names, start=1)]
