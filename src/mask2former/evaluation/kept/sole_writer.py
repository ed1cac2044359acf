"""One writer at a time for a file, whatever process it is in."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

UNLOCKABLE = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What disks answer that cannot lock, such as some that several machines share."""


@contextmanager
def sole_writer(file: BinaryIO, path: Path) -> Iterator[None]:
    """Hold a file against all others that ask for it in this way.

    Where the system locks open files, it lets go when the process ends, however it does.
    Elsewhere a file beside it says that it is held, which a killed process leaves behind.

    Args:
        file: It, open.
        path: Where it lies.

    Raises:
        ValueError: Another holds it.
    """
    try:
        is_locked = _lock(file)
    except BlockingIOError as error:
        raise ValueError(_refusal(path)) from error
    with nullcontext() if is_locked else _marked(path):
        yield


def _lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; False where the system or the disk cannot.

    Raises:
        BlockingIOError: Another has locked it.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in UNLOCKABLE:
            raise
        return False
    return True


@contextmanager
def _marked(path: Path) -> Iterator[None]:
    mark = path.with_name(f"{path.name}.lock")
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError as error:
        raise ValueError(f"{_refusal(path)}; if none is, delete {mark}") from error
    try:
        yield
    finally:
        mark.unlink()


def _refusal(path: Path) -> str:
    return (
        f"another evaluation is writing to {path}; wait until it has ended, or give another folder"
    )
