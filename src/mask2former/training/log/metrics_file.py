"""`metrics.jsonl`: a line each time that a run has values to tell, whatever happens to it."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from mask2former.files import append_whole, replacing

logger = logging.getLogger(__name__)
Entry: TypeAlias = dict[str, Any]
"""`step`, and values by name; none where one is undefined."""


class MetricsFile:
    """Lines are appended whole; a resumed run takes back those that it will write again."""

    def __init__(self, path: Path) -> None:
        """Say where.

        Args:
            path: It need not be there yet.
        """
        self.path = path
        self.num_entries = 0
        """Lines that this run has written, those before it was resumed included."""
        self._failed = False

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one line. Where the disk is full, it is left out and a warning says so once."""
        line = (json.dumps(entry) + "\n").encode()
        try:
            append_whole(self.path, line)
        except OSError as error:
            self._tell(error)
            return
        self.num_entries += 1
        self._failed = False

    def rewind(self, step: int, num_entries: int | None = None) -> None:
        """Drop what was written after the state that a run resumes from was saved.

        Damaged lines, such as one that was being written when the run was killed, go as well.

        Args:
            step: Of the state.
            num_entries: Lines at that time; none: all up to the step.
        """
        kept = [entry for entry in read_entries(self.path) if entry["step"] <= step]
        kept = kept[:num_entries]
        text = "".join(json.dumps(entry) + "\n" for entry in kept)
        try:
            self._become(text.encode())
        except OSError as error:
            self._tell(error)
        self.num_entries = len(kept)

    def _become(self, wanted: bytes) -> None:
        """What goes at the end needs no room on the disk, which may be full."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        if content == wanted:
            return
        if content.startswith(wanted):
            os.truncate(self.path, len(wanted))
            return
        with replacing(self.path) as unfinished:
            unfinished.write_bytes(wanted)

    def flush(self) -> None:
        """Until the lines are on the disk, as a state that counts them will be."""
        with suppress(FileNotFoundError), self.path.open("rb+") as file:
            os.fsync(file.fileno())

    def _tell(self, error: OSError) -> None:
        if not self._failed:
            logger.warning(
                "%s cannot be written to: %s; the run goes on, its values are lost until it can",
                self.path, error.strerror or error,
            )  # fmt: skip
        self._failed = True


def read_entries(path: Path) -> Iterator[Entry]:
    """The lines of a run in their order, without those that are damaged.

    Args:
        path: Nothing is read where no file is.
    """
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError):  # neither text nor JSON
            entry = json.loads(line)
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                yield entry
