"""Open a data set: the format is found by looking at the folder."""

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE, Reading
from mask2former.data.formats.splits import in_order, means, resolve_split
from mask2former.data.locate import Located, find_format
from mask2former.data.partition import (
    AUTOMATIC,
    PARTS,
    divide,
    take_listed,
)
from mask2former.data.problems import Problems, Strict
from mask2former.fractions import Fractions, check_fractions
from mask2former.tasks import Task

logger = logging.getLogger(__name__)


def open_dataset(
    folder: Path,
    split: str,
    *,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option is called
    ignore_index: int = 255,
    fractions: Fractions | None = None,
    problems: Problems | None = None,
) -> Dataset:
    """Open one split of a data set.

    Of several formats in a folder, one of `locate.UNMISTAKABLE` that serves `task` is taken, else
    the first made for it, else the first that serves it, in the order of `locate.FORMATS`. A folder
    that is no data set but holds exactly one is opened as that one.

    A data set without splits is divided by the lists `train.txt`, `val.txt`, `test.txt` in the
    folder, in `splits/` or in `ImageSets/`; without lists, by fractions. So is one whose only split
    is not for training, when a split that it lacks is asked for.

    Args:
        folder: Of the data set.
        split: Its name or a synonym: train, training; val, valid, validation; test, testing.
            "all" is the whole of a data set without splits.
        task: What it is wanted for; none prefers by format alone.
        format: Name of the format; none finds it.
        ignore_index: Pixel value of PNG masks that is no class and not scored.
        fractions: Shares of train, val and, if three, test, where the data set has one split or
            none; none: 0.9 and 0.1 where it has none.
        problems: Is told every fault; none raises the first.

    Raises:
        FileNotFoundError: There is no such folder, or files that it should hold are missing.
        ValueError: The folder is of no known format, lacks the split, or is damaged; the message
            names the file and the mend.
    """
    located = find_format(folder, task=task, format=format)
    reading = Reading(problems=problems or Strict(), ignore_index=ignore_index)
    return _OpenFolder(folder, located, reading).open(split, fractions)


def open_every_split(
    folder: Path,
    *,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option is called
    ignore_index: int = 255,
    fractions: Fractions | None = None,
    problems: Problems | None = None,
) -> dict[str, Dataset]:
    """All splits of `list_splits`; what is divided is read once. Arguments as of `open_dataset`.

    Raises:
        FileNotFoundError: There is no such folder, or files that it should hold are missing.
        ValueError: As of `open_dataset`.
    """
    located = find_format(folder, task=task, format=format)
    reading = Reading(problems=problems or Strict(), ignore_index=ignore_index)
    opened = _OpenFolder(folder, located, reading)
    return {name: opened.open(name, fractions) for name in _split_names(located, fractions)}


def natural_tasks(
    folder: Path,
    format: str | None = None,  # noqa: A002 as the option is called
) -> tuple[Task, ...]:
    """What the annotations of a folder serve, the natural task first; nothing is read for it.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is of no known format.
    """
    return find_format(folder, format=format).found.tasks


def list_splits(
    folder: Path,
    task: Task | None = None,
    *,
    format: str | None = None,  # noqa: A002 as the option is called
    fractions: Fractions | None = None,
) -> list[str]:
    """The splits of a data set: training, validation, test, then others by name.

    Arguments as of `open_dataset`.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is of no known format, or cannot be divided by the fractions.
    """
    return _split_names(find_format(folder, task=task, format=format), fractions)


def training_fractions(
    folder: Path,
    split: str,
    *,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option is called
) -> Fractions | None:
    """By what a data set must be divided so that some images are held out from training.

    Args:
        folder: Of the data set.
        split: Wanted for training.
        task: As of `open_dataset`.
        format: As of `open_dataset`.

    Returns:
        None: it has a split to train on.
    """
    located = find_format(folder, task=task, format=format)
    other = _only_other_split(located)
    if not means(split, "train") or not (located.is_unsplit or other):
        return None
    held_out = f"{AUTOMATIC[1]:.0%} of the images are held out to validate"
    if other is None:
        logger.warning("%s has no splits: %s; see --split", located.folder, held_out)
    else:
        logger.warning(
            "%s has only the split %r, which is trained on: %s; see --split",
            located.folder, other, held_out,
        )  # fmt: skip
    return AUTOMATIC


class _OpenFolder:
    """Reads every split of a format once, however many parts of it are asked for."""

    def __init__(self, folder: Path, located: Located, reading: Reading) -> None:
        self.folder, self.located, self.reading = folder, located, reading
        self.read = cache(self._read)

    def open(self, split: str, fractions: Fractions | None) -> Dataset:
        located = self.located
        divided = _divided_split(located, split, fractions)
        if divided is None:
            return self.read(resolve_split(split, located.found.splits))
        if located.lists:
            part = resolve_split(split, located.lists)
            return take_listed(self.read(divided), part, located.lists[part], self.reading.problems)
        shares = check_fractions(fractions or AUTOMATIC)
        part = resolve_split(split, PARTS[: len(shares)])
        return divide(self.read(divided), part, shares)

    def _read(self, name: str) -> Dataset:
        located = self.located
        dataset = located.format.read(located.folder, name, located.found, self.reading)
        if located.folder == self.folder:
            return dataset
        note = f"read from {located.folder}, the only data set in {self.folder}"
        return replace(dataset, notes=(*dataset.notes, note))


def _split_names(located: Located, fractions: Fractions | None) -> list[str]:
    if fractions is not None:
        _check_dividable(located)
        return list(PARTS[: len(check_fractions(fractions))])
    if located.is_unsplit:
        return list(PARTS[: len(AUTOMATIC)])
    return in_order(located.lists or located.found.splits)


def _divided_split(located: Located, wanted: str, fractions: Fractions | None) -> str | None:
    """Of what the wanted split is a part; none: it is one of the format's own."""
    splits = located.found.splits
    if fractions is not None:
        _check_dividable(located)
        return None if wanted == WHOLE and wanted in splits else next(iter(splits))
    if set(splits) == {WHOLE}:
        return None if wanted == WHOLE else WHOLE
    other = _only_other_split(located)
    if other is None or means(wanted, other):
        return None
    return other if any(means(wanted, part) for part in PARTS[: len(AUTOMATIC)]) else None


def _only_other_split(located: Located) -> str | None:
    """The split of a data set that has one alone, where that is not for training."""
    only, *more = located.found.splits
    return None if more or only == WHOLE or means(only, "train") else only


def _check_dividable(located: Located) -> None:
    if not located.is_dividable:
        lists = located.lists
        names = ", ".join(map(repr, in_order(lists or located.found.splits)))
        by = f" by {', '.join(map(str, lists.values()))}" if lists else ""
        raise ValueError(
            f"{located.folder} has the splits {names}{by}, which fractions would mix; leave "
            f"--split (data.split_fractions) out, or name splits by data.train_split and "
            f"data.val_split"
        )
