"""What a target format cannot hold, counted while it is written."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypeAlias

LossKind: TypeAlias = Literal[
    "annotation ids",
    "areas",
    "bits",
    "category ids",
    "class names",
    "crowd flags",
    "empty masks",
    "file names",
    "hard links",
    "hidden objects",
    "hidden pixels",
    "ignored pixels",
    "ignored regions",
    "image ids",
    "image information",
    "images",
    "objects",
    "orientation tags",
    "parts",
    "splits",
    "stuff",
    "supercategories",
    "too many objects",
    "track ids",
    "unlabelled pixels",
    "vertices",
    "videos",
]
"""One word per loss, for programs; the sentence is for people."""


@dataclass(frozen=True)
class Loss:
    """One thing that is not in the files written."""

    kind: LossKind
    count: int
    """How many of what the sentence begins with."""
    sentence: str
    """Begins with what is counted, and says what became of it."""


class Losses:
    """Adds up losses of the same kind and sentence; picklable, for processes to tell theirs."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[LossKind, str]] = Counter()

    def add(self, kind: LossKind, sentence: str, count: int = 1) -> None:
        """Tell of a loss; a count of 0 is none.

        Args:
            kind: Of the loss.
            sentence: Goes on from the count: "objects are hidden by others".
            count: How many.
        """
        if count:
            self._counts[kind, sentence] += count

    def merge(self, other: "Losses") -> None:
        """Add what another collector was told."""
        self._counts.update(other._counts)

    def found(self) -> list[Loss]:
        """All losses, by kind."""
        return [
            Loss(kind, count, sentence) for (kind, sentence), count in sorted(self._counts.items())
        ]
