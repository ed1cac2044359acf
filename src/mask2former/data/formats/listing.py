"""What lies in a folder, as far as is cheap to know, and how messages list it.

A format is looked for in any folder, so nothing here raises: what is hidden or missing, cannot be
read, or is a link that leads nowhere is not there.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

PNG = frozenset({".png"})
JSON = frozenset({".json"})
MOST_LOOKED_AT = 1000
"""Entries of a folder until it is taken to hold nothing of what is looked for."""
MOST_LOOKED_AT_BELOW = 10_000
"""The same of a folder and those below it together."""
MOST_FOLDERS = 100
"""Folders that are looked into for one split each."""
DEEPEST = 5
"""Levels of folders that are looked into, the folder itself included."""
FIRST_FEW = 3


def is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 `Path.is_file` raises where a folder cannot be read


def is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 `Path.is_dir` raises where a folder cannot be read


def has_suffix(path: Path | os.DirEntry[str], suffixes: Collection[str]) -> bool:
    """Whether a file is of these kinds; hidden ones are of none.

    Args:
        path: Of the file.
        suffixes: In lower case, with the dot.
    """
    _, dot, suffix = path.name.rpartition(".")
    return (dot + suffix).lower() in suffixes and not path.name.startswith(".")


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder by name."""
    return sorted(Path(entry.path) for entry in _entries(folder) if _is_there(entry.is_dir))


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files directly in a folder by name.

    Args:
        folder: May be missing.
        suffixes: In lower case, with the dot.
    """
    entries = (entry for entry in _entries(folder) if has_suffix(entry, suffixes))
    return sorted(Path(entry.path) for entry in entries if _is_there(entry.is_file))


def files_by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """The same by their name without suffix."""
    return {path.stem: path for path in files_in(folder, suffixes)}


def files_named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The files directly in a folder whose whole name matches, by name.

    Args:
        folder: May be missing. Of a large one whose first entries do not match, there are none.
        pattern: Of the names.
    """
    first = _entries(folder, MOST_LOOKED_AT)
    if not any(pattern.fullmatch(entry.name) for entry in first):
        return []
    entries = first if len(first) < MOST_LOOKED_AT else _entries(folder)
    matching = (entry for entry in entries if pattern.fullmatch(entry.name))
    return sorted(Path(entry.path) for entry in matching if _is_there(entry.is_file))


def files_by_folder(folder: Path, pattern: re.Pattern[str]) -> dict[str, list[Path]]:
    """The same of the first folders directly in a folder, by their names."""
    entries = _entries(folder, MOST_LOOKED_AT)
    names = sorted(entry.name for entry in entries if _is_there(entry.is_dir))
    found = {name: files_named(folder / name, pattern) for name in names[:MOST_FOLDERS]}
    return {name: paths for name, paths in found.items() if paths}


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """All files in a folder and, after them, in the folders below, by name; links are followed.

    Args:
        folder: May be missing.
        suffixes: In lower case, with the dot.
    """
    return list(_walk(folder, suffixes, frozenset())) if is_folder(folder) else []


def first_file(
    folder: Path, suffixes: Collection[str], *, ending: str = "", depth: int = 1
) -> Path | None:
    """Some file in a folder or below, if there is one where `some_files` looks.

    Args:
        folder: May be missing.
        suffixes: In lower case, with the dot.
        ending: Of the name before the suffix.
        depth: As of `some_files`.
    """
    paths = some_files(folder, suffixes, depth=depth)
    return next((path for path in paths if path.stem.endswith(ending)), None)


def some_files(folder: Path, suffixes: Collection[str], *, depth: int = 1) -> Iterator[Path]:
    """Files in a folder and, after its own, in the folders below it, as far as is cheap to know.

    Args:
        folder: May be missing.
        suffixes: In lower case, with the dot.
        depth: How many levels of folders are looked into; 1 is the folder alone.
    """
    places, left = [(folder, depth)], MOST_LOOKED_AT_BELOW
    while places and left > 0:
        place, levels = places.pop()
        entries = _entries(place, MOST_LOOKED_AT)
        left -= len(entries)
        for entry in entries:
            if has_suffix(entry, suffixes) and _is_there(entry.is_file):
                yield Path(entry.path)
        if levels > 1:
            below = (Path(entry.path) for entry in entries if _is_there(entry.is_dir))
            places += [(path, levels - 1) for path in sorted(below, reverse=True)]


def first_few(names: Sequence[object], most: int = FIRST_FEW) -> str:
    """The first names, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def _entries(folder: Path, most: int | None = None) -> list[os.DirEntry[str]]:
    """The entries that are not hidden, or those among the first."""
    try:
        with os.scandir(folder) as entries:  # `Path.iterdir` would list and wrap all of them
            return [entry for entry in islice(entries, most) if not entry.name.startswith(".")]
    except OSError:
        return []


def _is_there(is_of_kind: Callable[[], bool]) -> bool:
    """What an entry, or what it is a link to, says of its kind."""
    try:
        return is_of_kind()
    except OSError:  # a link to itself
        return False


def _walk(
    folder: Path, suffixes: Collection[str], above: frozenset[tuple[int, int]]
) -> Iterator[Path]:
    status = folder.stat()
    identity = status.st_dev, status.st_ino
    if identity in above:  # a link back
        return
    entries = sorted(_entries(folder), key=lambda entry: entry.name)
    for entry in entries:
        if has_suffix(entry, suffixes) and _is_there(entry.is_file):
            yield Path(entry.path)
    for entry in entries:
        if _is_there(entry.is_dir):
            yield from _walk(Path(entry.path), suffixes, above | {identity})
