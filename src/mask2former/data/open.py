"""Open a data set: the format is found by looking at the folder."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE, Reading
from mask2former.data.formats.splits import in_order, means, resolve_split
from mask2former.data.locate import find_format
from mask2former.data.partition import AUTOMATIC, PARTS, divide, take_listed
from mask2former.data.problems import Problems, Strict
from mask2former.fractions import Fractions, check_fractions
from mask2former.tasks import Task


class DataFolder:
    """A data set that was found; each of its files is read once, whatever parts are asked for."""

    def __init__(
        self,
        folder: Path,
        *,
        task: Task | None = None,
        format: str | None = None,  # noqa: A002 as the option is called
        ignore_index: int = 255,
        problems: Problems | None = None,
    ) -> None:
        """Find it; nothing is read. Arguments as of `open_dataset`.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: The folder is of no known format.
        """
        self.folder = folder
        self.located = find_format(folder, task=task, format=format)
        self.reading = Reading(problems=problems or Strict(), ignore_index=ignore_index)
        self._read = cache(self._read_split)

    def splits(self, fractions: Fractions | None = None) -> list[str]:
        """Training, validation, test, then others by name; "all" where nothing divides it.

        Args:
            fractions: As of `open`.

        Raises:
            ValueError: It cannot be divided by the fractions.
        """
        if fractions is None:
            return in_order(self.located.lists or self.located.found.splits)
        self._check_dividable()
        return list(PARTS[: len(check_fractions(fractions))])

    def open(self, split: str, fractions: Fractions | None = None) -> Dataset:
        """Read one split.

        Args:
            split: Its name or a synonym; "all" is all of what has no splits of its own.
            fractions: Divide it by these; none: as lists in the folder do, or `AUTOMATIC` where it
                has neither splits nor lists.

        Raises:
            FileNotFoundError: Files that it should hold are missing.
            ValueError: It lacks the split, cannot be divided, or is damaged.
        """
        located = self.located
        if fractions is not None:
            self._check_dividable()
        if split == WHOLE and WHOLE in located.found.splits:
            return self._read(WHOLE)
        if fractions is not None or located.is_unsplit:
            shares = check_fractions(fractions or AUTOMATIC)
            part = self._resolve(split, PARTS[: len(shares)])
            return divide(self._read(next(iter(located.found.splits))), part, shares)
        if located.lists:
            part = self._resolve(split, list(located.lists))
            return take_listed(self._read(WHOLE), part, located.lists[part], self.reading.problems)
        return self._read(self._resolve(split, list(located.found.splits)))

    def fractions_to_train(self, train_split: str, wanted: Fractions | None) -> Fractions | None:
        """By what a run divides it, so that some images are held out from training.

        Args:
            train_split: What is trained on.
            wanted: By what data are divided that have one split or none.

        Returns:
            None: it keeps the splits that it has.
        """
        if train_split == WHOLE:
            return None
        if wanted is not None:
            return wanted if self.located.is_dividable else None
        if not means(train_split, "train") or not self.located.is_dividable:
            return None
        [only] = self.located.found.splits
        return None if means(only, "train") else AUTOMATIC

    def _read_split(self, name: str) -> Dataset:
        located = self.located
        dataset = located.format.read(located.folder, name, located.found, self.reading)
        if located.folder == self.folder:
            return dataset
        note = f"read from {located.folder}, the only data set in {self.folder}"
        return replace(dataset, notes=(*dataset.notes, note))

    def _resolve(self, wanted: str, available: list[str] | tuple[str, ...]) -> str:
        try:
            return resolve_split(wanted, available)
        except ValueError as error:
            raise ValueError(f"{self.located.folder}: {error}") from None

    def _check_dividable(self) -> None:
        located = self.located
        if not located.is_dividable:
            names = ", ".join(map(repr, self.splits()))
            by = f" by {', '.join(map(str, located.lists.values()))}" if located.lists else ""
            raise ValueError(
                f"{located.folder} has the splits {names}{by}, which fractions would mix; leave "
                f"--split (data.split_fractions) out, or name splits by data.train_split and "
                f"data.val_split"
            )


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
    folder, in `splits/` or in `ImageSets/`; without lists, by fractions.

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
    opened = DataFolder(
        folder, task=task, format=format, ignore_index=ignore_index, problems=problems
    )
    return opened.open(split, fractions)


def open_every_split(
    folder: Path,
    *,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option is called
    fractions: Fractions | None = None,
) -> dict[str, Dataset]:
    """Open all splits by their names; what nothing divides stays whole, as "all".

    Arguments as of `open_dataset`.

    Raises:
        FileNotFoundError: There is no such folder, or files that it should hold are missing.
        ValueError: As of `open_dataset`.
    """
    opened = DataFolder(folder, task=task, format=format)
    return {name: opened.open(name, fractions) for name in opened.splits(fractions)}


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
    """The splits that can be opened: those of `DataFolder.splits`, or the automatic ones.

    Arguments as of `open_dataset`.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is of no known format, or cannot be divided by the fractions.
    """
    opened = DataFolder(folder, task=task, format=format)
    is_automatic = fractions is None and opened.located.is_unsplit
    return opened.splits(AUTOMATIC if is_automatic else fractions)
