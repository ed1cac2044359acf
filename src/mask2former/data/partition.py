"""A data set without splits, divided: by lists of names, or by shares that are drawn from names."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from mask2former.data.dataset import Dataset, Record
from mask2former.data.problems import Problems
from mask2former.data.records import SelectedRecords
from mask2former.fractions import Fractions, format_fractions

logger = logging.getLogger(__name__)

AUTOMATIC: Fractions = (0.9, 0.1)
PARTS = ("train", "val", "test")
FIRST_FEW = 3


def divide(dataset: Dataset, part: str, fractions: Fractions) -> Dataset:
    """One part of a data set that has no splits.

    Images of one group (video, scene) stay together. The groups are put in the order of a hash of
    their names, so the parts depend on nothing else: not on the machine, not on the order of files,
    and another fraction moves one border only. Every part gets a group if there are enough.

    Args:
        dataset: All images.
        part: One of `PARTS`, as many as there are fractions.
        fractions: See `fractions.check_fractions`.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(dataset.records):
        groups[_group_of(record)].append(index)
    if len(groups) < 2:
        if part != PARTS[0]:
            logger.warning(
                "nothing of %s can be held out, because its images (%d) belong together: split %r "
                "is all of them, and scores are of the images that were trained on",
                dataset.folder, len(dataset), part,
            )  # fmt: skip
        note = f"split {part!r} is all {len(dataset)} images: they belong together"
        return replace(dataset, split=part, notes=(*dataset.notes, note))
    ordered = sorted(groups, key=lambda name: (sha256(name.encode()).digest(), name))
    borders = _borders([len(groups[name]) for name in ordered], fractions)
    place = PARTS.index(part)
    names = ordered[borders[place] : borders[place + 1]]
    kept = sorted(index for name in names for index in groups[name])
    grouped = f" in {len(names)} groups" if len(groups) < len(dataset) else ""
    note = (
        f"split {part!r} is {len(kept)} of {len(dataset)} images{grouped}, drawn by the fractions "
        f"{format_fractions(fractions)}; choose others with --split"
    )
    return _select(dataset, part, kept, note)


def take_listed(dataset: Dataset, part: str, path: Path, problems: Problems) -> Dataset:
    """The images of a data set that a list names.

    A line is an image's path from the folder or a trailing part of it, with or without suffix, or
    an image id, or the name of a video or scene. Of a line of several words that is none of these,
    the first word counts. Empty lines do not.

    Args:
        dataset: All images.
        part: What the list is for.
        path: Of the list.
        problems: Is told which names are no image.
    """
    places = _places_by_name(dataset)
    kept: set[int] = set()
    unknown: list[str] = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        names = [_plain(name) for name in (line, *line.split()[:1])]
        found = next((places[name] for name in names if name in places), None)
        if found is not None:
            kept.update(found)
        elif line.strip():
            unknown.append(line.strip())
    if unknown:
        more = f" and {len(unknown) - FIRST_FEW} more" if len(unknown) > FIRST_FEW else ""
        problems.error(
            "missing image",
            f"{path} names {', '.join(map(repr, unknown[:FIRST_FEW]))}{more}, but {dataset.folder} "
            f"has no image of that name, or several; write file names, paths from the folder or "
            f"image ids, one a line",
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


def _places_by_name(dataset: Dataset) -> Mapping[str, Iterable[int]]:
    """Images by each of their names; where two have the same, a more exact one wins."""
    by_group: dict[str, list[int]] = defaultdict(list)
    by_name: dict[str, list[int]] = defaultdict(list)
    exact: dict[str, list[int]] = {}
    for index, record in enumerate(dataset.records):
        if record.group is not None:
            by_group[record.group].append(index)
        path = _relative_path(record, dataset.folder)
        exact[str(record.image_id)] = [index]
        whole, *trailing = _trailing_parts(path)
        exact[whole] = exact[whole.rpartition(".")[0]] = [index]
        for name in trailing:
            by_name[name].append(index)
            by_name[name.rpartition(".")[0] or name].append(index)
    unique = {name: places for name, places in by_name.items() if len(places) == 1}
    return {**unique, **by_group, **exact}


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
