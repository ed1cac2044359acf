"""A file that is written once from front to end, and its hash."""

import hashlib
import os
from pathlib import Path
from types import TracebackType


class HashedFile:
    """Counts and hashes what is written; use it with `with`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self.size = 0
        """Bytes so far."""

    def __enter__(self) -> "HashedFile":
        return self

    def __exit__(
        self,
        error: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if error is None:  # on the disk before it gets its name
                self._file.flush()
                os.fsync(self._file.fileno())

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        self.size += len(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self.size

    @property
    def sha256(self) -> str:
        """Of everything written, in hexadecimal digits."""
        return self._hash.hexdigest()


def hash_of(path: Path) -> str:
    """SHA-256 of a file that is there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
