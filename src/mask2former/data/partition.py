"""A data set without splits, divided: by lists of names, or by shares that are drawn from names."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.text_files import read_lines
from mask2former.data.problems import Problems
from mask2former.data.records import SelectedRecords
from mask2former.fractions import Fractions, format_fractions

AUTOMATIC: Fractions = (0.9, 0.1)
"""How runs divide data when nothing says how; another value would mix what they held out."""
PARTS = ("train", "val", "test")
FIRST_FEW = 3
Names: TypeAlias = Mapping[str, Sequence[int]]
"""Images by their names."""


def divide(dataset: Dataset, part: str, fractions: Fractions) -> Dataset:
    """One part of a data set that has no splits.

    Images of one group (video, scene) stay together. The groups are put in the order of a hash of
    their names, so the parts depend on nothing else: not on the machine, not on the order of files,
    and another fraction moves one border only. Every part gets a group if there are enough.

    Args:
        dataset: All images.
        part: One of `PARTS`, as many as there are fractions.
        fractions: See `fractions.check_fractions`.

    Returns:
        Of one group alone, every part is all of it, and called so: nothing can be held out.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(dataset.records):
        groups[_group_of(record)].append(index)
    if len(groups) < 2:
        what = "one image" if len(dataset) < 2 else f"{len(dataset)} images of one group"
        note = f"split {part!r} is all of the data set: {what}, of which nothing can be held out"
        return replace(dataset, split=WHOLE, notes=(*dataset.notes, note))
    ordered = sorted(groups, key=lambda name: (sha256(name.encode()).digest(), name))
    borders = _borders([len(groups[name]) for name in ordered], fractions)
    place = PARTS.index(part)
    names = ordered[borders[place] : borders[place + 1]]
    kept = sorted(index for name in names for index in groups[name])
    grouped = f" in {len(names)} groups" if len(groups) < len(dataset) else ""
    note = (
        f"split {part!r} is {len(kept)} of {len(dataset)} images{grouped}, drawn by the fractions "
        f"{format_fractions(fractions)}"
    )
    return _select(dataset, part, kept, note)


def take_listed(dataset: Dataset, part: str, path: Path, problems: Problems) -> Dataset:
    """The images of a data set that a list names.

    A line is an image's path from the folder, with or without suffix, else an image id, else the
    name of a video or scene, else a trailing part of a path. Of a line of several words that is
    none of these, the first word counts. Empty lines do not.

    Args:
        dataset: All images.
        part: What the list is for.
        path: Of the list.
        problems: Is told which names are no image or several, and of a list that names none.

    Raises:
        ValueError: The list is no text.
    """
    tiers = _names_of_images(dataset)
    kept: set[int] = set()
    unknown: list[str] = []
    for line in read_lines(path):
        found = _find(_plain(line), tiers) or _find(_plain(line.split()[0]), tiers)
        kept.update(found)
        if not found:
            unknown.append(line)
    if unknown or not kept:
        more = f" and {len(unknown) - FIRST_FEW} more" if len(unknown) > FIRST_FEW else ""
        wrong = (
            f"names {', '.join(map(repr, unknown[:FIRST_FEW]))}{more}, but {dataset.folder} has "
            f"no image of that name, or several"
            if unknown
            else f"names no image of {dataset.folder}"
        )
        problems.error(
            "missing image",
            f"{path} {wrong}; write file names, paths from the folder or image ids, one a line",
            file=path,
        )
    note = f"split {part!r} is {len(kept)} of {len(dataset)} images, as {path} says"
    return _select(dataset, part, sorted(kept), note)


def _select(dataset: Dataset, part: str, indices: Sequence[int], note: str) -> Dataset:
    records = SelectedRecords(dataset.records, np.asarray(indices, np.int64))
    return replace(dataset, split=part, records=records, notes=(*dataset.notes, note))


def _group_of(record: Record) -> str:
    return str(record.image_id) if record.group is None else record.group


def _borders(sizes: Sequence[int], fractions: Fractions) -> list[int]:
    """Where each part begins and the last ends, counted in groups."""
    images_before = np.concatenate([[0], np.cumsum(sizes)])
    borders = [0]
    for place in range(1, len(fractions)):
        wanted = sum(fractions[:place]) * images_before[-1]
        nearest = int(np.abs(images_before - wanted).argmin())
        parts_left = len(fractions) - place
        highest = max(len(sizes) - parts_left, min(borders[-1] + 1, len(sizes)))
        borders.append(min(max(nearest, borders[-1] + 1), highest))
    return [*borders, len(sizes)]


def _names_of_images(dataset: Dataset) -> list[Names]:
    """The kinds of names, those that count most first; a name that two images have is none."""
    paths: dict[str, list[int]] = defaultdict(list)
    ids: dict[str, list[int]] = defaultdict(list)
    groups: dict[str, list[int]] = defaultdict(list)
    trailing: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(dataset.records):
        whole, *ends = _trailing_parts(_relative_path(record, dataset.folder))
        for name in _with_and_without_suffix(whole):
            paths[name].append(index)
        ids[str(record.image_id)].append(index)
        if record.group is not None:
            groups[record.group].append(index)
        for end in ends:
            for name in _with_and_without_suffix(end):
                trailing[name].append(index)
    return [_of_one(paths), _of_one(ids), groups, _of_one(trailing)]


def _of_one(names: Names) -> Names:
    return {name: () if len(indices) > 1 else indices for name, indices in names.items()}


def _find(name: str, tiers: Iterable[Names]) -> Sequence[int]:
    """The images of that name; nothing if there is none, or the name is that of several."""
    return next((names[name] for names in tiers if name in names), ())


def _with_and_without_suffix(path: str) -> set[str]:
    return {path, path.rpartition(".")[0] or path}


def _relative_path(record: Record, folder: Path) -> str:
    image = record.image
    if isinstance(image, Path) and image.is_relative_to(folder):
        return image.relative_to(folder).as_posix()
    return image.name


def _trailing_parts(path: str) -> list[str]:
    """The path itself, then without its first folder, without its first two, ..."""
    names = path.split("/")
    return ["/".join(names[i:]) for i in range(len(names))]


def _plain(line: str) -> str:
    return line.strip().replace("\\", "/").removeprefix("./").lstrip("/")
