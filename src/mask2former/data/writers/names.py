"""What images are called in a converted data set: as before, unless two would be one."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from mask2former.data.dataset import Dataset, Record
from mask2former.data.sources import Source
from mask2former.data.writers.losses import Losses

UNLISTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line breaks of all kinds, and bytes that were no UTF-8."""
Style: TypeAlias = Literal["flat", "nested", "by video"]
"""Without folders; with the folders that tell the images of a split apart; with one per video."""


def file_names(datasets: Mapping[str, Dataset], style: Style) -> dict[str, list[str]]:
    """A name for every image, unique within its split even without its suffix.

    Capital and small letters do not tell names apart: some file systems do not either.

    Args:
        datasets: By split.
        style: How folders enter names.
    """
    return {split: _unique(_wanted(dataset, style)) for split, dataset in datasets.items()}


def names_across_splits(datasets: Mapping[str, Dataset]) -> dict[str, list[str]]:
    """As `file_names` without folders, but unique within the whole data set."""
    wanted = [name for names in file_names(datasets, "flat").values() for name in names]
    if len(set(map(_stem, wanted))) < len(wanted):
        splits = [split for split, dataset in datasets.items() for _ in range(len(dataset))]
        wanted = [f"{split}-{name}" for split, name in zip(splits, wanted, strict=True)]
    names = iter(_unique(wanted))
    return {split: [next(names) for _ in range(len(data))] for split, data in datasets.items()}


def listable(name: str) -> str:
    """A file name that can be a line of a list: without control characters, or blanks around it.

    Bytes of a name that are no UTF-8, which no list can hold, are replaced too.
    """
    path = PurePosixPath(UNLISTABLE.sub("_", name))
    return path.with_name((path.stem.strip() or "_") + path.suffix.rstrip()).as_posix()


def class_labels(names: Sequence[str], special: Collection[str], losses: Losses) -> list[str]:
    """A name for each class, which can be a line of a list and is no other's.

    Args:
        names: Of the classes.
        special: Names with a meaning of their own in the format.
        losses: Is told of the names that changed.
    """
    labels: list[str] = []
    for name in names:
        parts = (part.strip() for part in UNLISTABLE.split(name))
        plain = " ".join(filter(None, parts)) or "class"
        plain = plain.strip("_") if plain in special else plain
        label, number = plain, 1
        while label in labels:
            number += 1
            label = f"{plain} ({number})"
        labels.append(label)
    renamed = sum(a != b for a, b in zip(labels, names, strict=True))
    losses.add(
        "class names", "classes are renamed: they are told apart by lines of a list", renamed
    )
    return labels


def base_name(source: Source) -> str:
    """The last part of the name; files in shards may have folders in theirs."""
    return PurePosixPath(source.name).name


def _wanted(dataset: Dataset, style: Style) -> list[str]:
    if style == "by video":
        return [
            listable(f"{_within(r.group or '') or 'video'}/{base_name(r.image)}")
            for r in dataset.records
        ]
    flat = [listable(base_name(record.image)) for record in dataset.records]
    if style == "flat" and len(set(map(_stem, flat))) == len(flat):
        return flat
    nested = list(map(listable, _nested(dataset.records)))
    return nested if style == "nested" else [name.replace("/", "-") for name in nested]


def _nested(records: Sequence[Record]) -> list[str]:
    """Names relative to the folder that all images of the split share."""
    parents = {source.parent for record in records if isinstance(source := record.image, Path)}
    shared = _shared(parents)
    return [
        source.relative_to(shared).as_posix()
        if isinstance(source := record.image, Path)
        else _within(source.name)
        for record in records
    ]


def _shared(folders: Iterable[Path]) -> Path:
    folders = list(folders)
    candidates = [folders[0], *folders[0].parents] if folders else [Path()]
    return next(c for c in candidates if all(folder.is_relative_to(c) for folder in folders))


def _unique(names: Sequence[str]) -> list[str]:
    """Number the names that occur twice."""
    counts = Counter(map(_stem, names))
    taken, unique = set(counts), []
    numbers: Counter[str] = Counter()
    for name in names:
        stem = _stem(name)
        if counts[stem] > 1:
            path = PurePosixPath(name)
            while True:
                numbers[stem] += 1
                new = path.with_name(f"{path.stem}-{numbers[stem]}{path.suffix}").as_posix()
                if _stem(new) not in taken:
                    break
            taken.add(_stem(new))
            name = new
        unique.append(name)
    return unique


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix().casefold()


def _within(name: str) -> str:
    """Without what would lead out of the folder; names in archives are anybody's."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("..", "/"))
