"""The log of a run as a file; its warnings reach the terminal as well."""

import logging
from logging.handlers import MemoryHandler
from pathlib import Path

from mask2former.files import append_whole, reason_of


class LogFile:
    """Copies the package's log to a file; what is said before there is one is kept for it."""

    def __init__(self) -> None:
        self.logger = logging.getLogger("mask2former")
        self.level = self.logger.level
        self.memory = MemoryHandler(capacity=1000, flushLevel=logging.CRITICAL + 1)
        # a logger with a handler of its own no longer says warnings by itself
        self.terminal = logging.StreamHandler()
        self.terminal.setLevel(logging.WARNING)
        self.terminal.setFormatter(logging.Formatter("warning: %(message)s"))

    def __enter__(self) -> "LogFile":
        self.logger.addHandler(self.memory)
        self.logger.addHandler(self.terminal)
        self.logger.setLevel(logging.INFO)
        return self

    def write_to(self, path: Path) -> None:
        """Write to this file from now on; what a full disk has no room for is lost."""
        file = LineFile(path, self.terminal)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.memory.setTarget(file)
        self.memory.flush()
        self.memory.flushLevel = logging.NOTSET

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)
        self.logger.removeHandler(self.memory)
        self.logger.removeHandler(self.terminal)
        self.memory.close()


class LineFile(logging.Handler):
    """Appends records whole; the first that cannot be written is told."""

    def __init__(self, path: Path, told: logging.Handler) -> None:
        """Say where.

        Args:
            path: Of the file; opened for each record, so that none waits to be written.
            told: Gets a warning when the file cannot be written.
        """
        super().__init__()
        self._path, self._told = path, told
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            append_whole(self._path, f"{self.format(record)}\n".encode())
        except OSError as error:
            if not self._failed:
                self._told.handle(self._warning(error))
            self._failed = True

    def _warning(self, error: OSError) -> logging.LogRecord:
        # through the logger it would come here again
        text = (
            f"{self._path} cannot be written to: {reason_of(error)}; the run goes on, its log is "
            "lost until it can"
        )
        fields = {"msg": text, "levelno": logging.WARNING, "levelname": "WARNING"}
        return logging.makeLogRecord(fields)
