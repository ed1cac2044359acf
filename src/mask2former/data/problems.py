"""What is wrong with a data set: stops at the first fault, or collects them all."""

import logging
from dataclasses import dataclass
from typing import Literal, TypeAlias

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal[
    "missing image",
    "missing annotation",
    "unreadable image",
    "unreadable annotation",
    "annotation without image",
    "image without annotation",
    "unknown class",
    "duplicate id",
    "size mismatch",
    "no mask",
    "bad polygon",
    "bad run lengths",
    "bad segment",
    "empty image",
    "mask outside image",
    "degenerate polygon",
    "overlapping objects",
    "duplicate object",
    "duplicate image",
    "similar image",
    "leaked image",
    "unused class",
    "class in one split",
    "class imbalance",
    "vanishing objects",
    "more objects than queries",
    "no objects",
    "changed shard",
]
"""A phrase for each kind of fault, for programs; messages are for people."""


class FaultError(ValueError):
    """What is wrong with one item, with the kind of it, for what decodes items one by one."""

    def __init__(self, message: str, kind: Kind = "unreadable annotation") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Problem:
    """One fault."""

    kind: Kind
    message: str
    """What is wrong, where (the file), and what to do."""
    is_error: bool
    """True: training or scoring would fail or be wrong; False: it may be meant."""
    file: str | None = None
    """The file to mend, where one alone is at fault."""
    image_id: int | str | None = None


class Problems:
    """What readers tell faults to. A reader that is not stopped goes on without the faulty item."""

    def error(
        self, kind: Kind, message: str, *, file: object = None, image_id: int | str | None = None
    ) -> None:
        """Training or scoring would fail or be wrong.

        Args:
            kind: Of the fault.
            message: What is wrong, where, and what to do.
            file: The one to mend; anything whose `str` names it.
            image_id: Of the image concerned.
        """
        name = None if file is None else str(file)
        self.take(Problem(kind, message, is_error=True, file=name, image_id=image_id))

    def warn(
        self, kind: Kind, message: str, *, file: object = None, image_id: int | str | None = None
    ) -> None:
        """It may be meant; arguments as of `error`."""
        name = None if file is None else str(file)
        self.take(Problem(kind, message, is_error=False, file=name, image_id=image_id))

    def take(self, problem: Problem) -> None:
        """Decide what becomes of a fault."""
        raise NotImplementedError


class Strict(Problems):
    """Raises errors as they are met and logs warnings: for training and scoring."""

    def take(self, problem: Problem) -> None:
        """Raise or log.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Any other error.
        """
        if not problem.is_error:
            logger.warning("%s", problem.message)
            return
        missing = problem.kind in ("missing image", "missing annotation")
        raise (FileNotFoundError if missing else ValueError)(problem.message)


class Collected(Problems):
    """Keeps every fault: for checking."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def take(self, problem: Problem) -> None:
        """Keep it."""
        self.found.append(problem)
