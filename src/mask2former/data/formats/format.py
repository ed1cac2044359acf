"""What a format is: how it is found in a folder, and how one split is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mask2former.data.dataset import Dataset
from mask2former.data.problems import Problems, Strict
from mask2former.tasks import Task

WHOLE = "all"
"""The split of a data set that is not split."""


@dataclass(frozen=True)
class Found:
    """A folder is of the format."""

    tasks: tuple[Task, ...]
    """What its annotations can train and score; the natural one first."""
    splits: dict[str, Any]
    """Where each split lies, in the format's own terms; not empty."""


@dataclass(frozen=True)
class Reading:
    """By which conventions to read, and what becomes of faults."""

    problems: Problems = field(default_factory=Strict)
    ignore_index: int = 255
    """Pixel value of label maps that is no class and not scored, where the format fixes none."""


@dataclass(frozen=True)
class Format:
    """One on-disk format."""

    name: str
    """As in `--format`."""
    layouts: tuple[str, ...]
    """What is looked for, in words and patterns; `{split}` stands for the name of a split."""
    find: Callable[[Path], Found | None]
    """Looks at names, not contents, as far as that tells; none: the folder is of another format."""
    read: Callable[[Path, str, Found, Reading], Dataset]
    """Reads a split: (folder, key of `found.splits`, what `find` gave, conventions)."""
    find_forced: Callable[[Path], Found | None] | None = None
    """What to ask instead of `find` when the user names the format: takes folders that other
    formats would claim. None: `find` itself."""
