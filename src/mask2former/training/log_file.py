"""The log of a run as a file; its warnings reach the terminal as well."""

import logging
from logging.handlers import MemoryHandler
from pathlib import Path


class LogFile:
    """Copies the package's log to a file; what is said before there is one is kept for it."""

    def __init__(self) -> None:
        self.logger = logging.getLogger("mask2former")
        self.level = self.logger.level
        self.memory = MemoryHandler(capacity=1000, flushLevel=logging.CRITICAL + 1)
        self.file: logging.Handler | None = None
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
        """Write to this file from now on."""
        self.file = logging.FileHandler(path, encoding="utf-8")
        self.file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.memory.setTarget(self.file)
        self.memory.flush()
        self.memory.flushLevel = logging.NOTSET

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)
        self.logger.removeHandler(self.memory)
        self.logger.removeHandler(self.terminal)
        self.memory.close()
        if self.file is not None:
            self.file.close()
