"""Files that are never seen half written, and folders that can be written to."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when all went well.

    An earlier file stays whole until then; after a failure nothing is left beside it.
    """
    unfinished = unfinished_path(path)
    try:
        with naming(path):
            yield unfinished
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_path(path: Path) -> Path:
    """Where a file lies until it is complete."""
    return path.with_name(f".{path.name}.unfinished")


def append_whole(path: Path, data: bytes) -> None:
    """Add to the end of a file all or nothing, also where the disk becomes full meanwhile.

    Args:
        path: It need not be there yet.
        data: Such as a line with its end.

    Raises:
        OSError: It cannot be written; the file is as long as it was.
    """
    start = path.stat().st_size if path.exists() else 0
    try:
        with naming(path), path.open("ab", buffering=0) as file:
            written = file.write(data)
            if written < len(data):
                file.write(data[written:])  # which fails, and says why
    except OSError:
        with suppress(OSError):
            os.truncate(path, start)
        raise


def reason_of(error: OSError) -> str:
    """Why a file cannot be written, in a few words."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "the disk is full" if is_full else error.strerror or str(error)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """The system does not say which file it could not write to, such as one on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def usable_folder(path: Path) -> Path:
    """Make a folder to write to, with the folders around it, and try to write.

    Args:
        path: May be there already, or be a link to a folder that is yet to be made.

    Returns:
        The folder itself, without links.

    Raises:
        ValueError: There is a file, or nothing can be written there.
    """
    try:
        folder = path.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            f"{path} cannot be a folder, because {error.filename} is a file; give another folder"
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ValueError(
            f"cannot write to {path} ({reason}); give a folder that can be written to"
        ) from error
    return folder


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Work that fills a folder: one that is still empty when it failed goes away."""
    try:
        yield
    finally:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
