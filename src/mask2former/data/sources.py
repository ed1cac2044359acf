"""Where the bytes of an image or label file come from: a file of its own, or a part of a shard."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


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
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.length)
        if len(content) != self.length:
            raise ValueError(
                f"{self.path} ends inside {self.name} ({len(content)} of {self.length} bytes); "
                f"it is cut off: restore it or write it again"
            )
        return content
