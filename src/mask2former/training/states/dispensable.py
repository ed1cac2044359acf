"""What a run writes to be looked at: where the disk is full, it goes on without."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mask2former.files import reason_of

logger = logging.getLogger(__name__)


class Dispensable:
    """Failures to write, of which the first of each kind costs a warning."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    @contextmanager
    def writing(self, kind: str) -> Iterator[None]:
        """Write files of a kind, or warn that they are missing.

        Args:
            kind: In the plural, as the warning begins, such as "pictures of training images".
        """
        try:
            yield
        except OSError as error:
            if kind not in self._told:
                where = "" if error.filename is None else f" ({error.filename})"
                logger.warning(
                    "%s cannot be written%s: %s; the run goes on without those that fail",
                    kind, where, reason_of(error),
                )  # fmt: skip
            self._told.add(kind)
