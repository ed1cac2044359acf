"""Where the bytes of an image or label file come from: a file of its own, or a part of a shard."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

MOST_OPEN_FILES = 256
"""Descriptors that a process keeps; systems allow from 1,024 on."""


@runtime_checkable
class Source(Protocol):
    """A `pathlib.Path` is one. Its `str` names it in messages; it is picklable."""

    @property
    def name(self) -> str:
        """File name with its suffix."""
        ...

    def read_bytes(self) -> bytes:
        """The whole encoded file."""
        ...


@dataclass(frozen=True)
class FileSlice:
    """A file that lies inside another one, uncompressed."""

    path: Path
    """Of the file around it, such as a tar archive."""
    offset: int
    """In bytes."""
    length: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def read_bytes(self) -> bytes:
        """Read the slice alone.

        Raises:
            FileNotFoundError: The file around it is gone.
            ValueError: The file around it ends before the slice does.
        """
        content = _read_at(self.path, self.offset, self.length)
        if len(content) != self.length:
            raise ValueError(
                f"{self.path} ends inside {self.name} ({len(content)} of {self.length} bytes); "
                f"it is cut off: restore it or write it again"
            )
        return content


@dataclass(frozen=True)
class InMemory:
    """A file that was read already."""

    name: str
    where: str
    """Names it in messages."""
    content: bytes

    def __str__(self) -> str:
        return self.where

    def read_bytes(self) -> bytes:
        return self.content


def forget_open_files() -> None:
    """Open anew whatever is read next: files of the same names may have been replaced."""
    _descriptor.cache_clear()


class _Descriptor:
    """An open file, closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if "number" in vars(self):
            close(self.number)


_descriptor = lru_cache(MOST_OPEN_FILES)(_Descriptor)


def _read_at(path: Path, offset: int, length: int) -> bytes:
    """Up to `length` bytes.

    `pread` leaves no position behind, so threads and forked processes may share a descriptor, and
    a shard is opened once instead of once an image.
    """
    if sys.platform != "win32":
        return os.pread(_descriptor(path).number, length, offset)
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
