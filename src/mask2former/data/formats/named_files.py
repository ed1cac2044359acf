"""Finding the files that an annotation file names, wherever the names were written."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from mask2former.data.formats.listing import first_few, has_suffix
from mask2former.data.images import IMAGE_SUFFIXES
from mask2former.data.problems import Problems

Key: TypeAlias = int | str


@dataclass(frozen=True)
class NamedFiles:
    """Files found below one folder."""

    folder: Path
    names: dict[Key, str]
    """Relative to the folder, of those files that are there."""
    num_shortened: int = 0
    """How many were found only after leaving out leading folders of the name as written."""
    unnamed: tuple[str, ...] = field(default=(), repr=False)
    """Image files beside those found that no name stands for, relative to the folder."""

    def path(self, key: Key) -> Path:
        return self.folder / self.names[key]


def find_files(
    file_names: Mapping[Key, str],
    candidates: Iterable[Path],
    path: Path,
    problems: Problems,
    *,
    kind: Literal["missing image", "missing annotation"] = "missing image",
) -> NamedFiles:
    """The files, below the candidate folder that holds most of them; each one missing is told.

    Names are tried as they stand; then, where they were written on another machine or for
    another folder, without their leading folders.

    Args:
        file_names: As in the annotation file; not empty.
        candidates: Folders in order of preference.
        path: The annotation file, for messages.
        problems: Is told the missing files.
        kind: What is missing.

    Raises:
        FileNotFoundError: No candidate holds any of the files.
    """
    folders = list(dict.fromkeys(candidates))
    located = _locate(file_names, folders)
    if not located.names:
        raise FileNotFoundError(
            f"{next(iter(file_names.values()))}, the first file of {path}, is in none of "
            f"{', '.join(map(str, folders))}, and neither is any other; put the files into one of "
            f"these folders"
        )
    missing = [key for key in file_names if key not in located.names]
    for key in missing:
        problems.error(
            kind,
            f"{file_names[key]} is not in {located.folder}, but {path} names it ({len(missing)} of "
            f"its {len(file_names)} files are missing); add it or take it out of {path.name}",
            file=path,
            image_id=key,
        )
    return located


def warn_unnamed(located: NamedFiles, path: Path, problems: Problems) -> None:
    """Tell of images that an annotation file leaves out; for folders of its split alone."""
    unnamed = located.unnamed
    if unnamed:
        problems.warn(
            "image without annotation",
            f"{len(unnamed)} images of {located.folder} are not in {path} and are left out: "
            f"{first_few(unnamed)}; annotate them or take them out",
            file=path,
        )


def shortening_note(located: NamedFiles, path: Path) -> tuple[str, ...]:
    """What to tell about names that did not fit as they stand."""
    if not located.num_shortened:
        return ()
    return (
        f"{located.num_shortened} file names of {path.name} begin with folders that are not in "
        f"{located.folder}; the files were found there without them.",
    )


def _locate(file_names: Mapping[Key, str], folders: list[Path]) -> NamedFiles:
    """All files in the first folder that has them all, else most of them."""
    best = NamedFiles(folders[0], {})
    for may_shorten in (False, True):
        for folder in folders:
            located = _locate_below(folder, file_names, may_shorten=may_shorten)
            if len(located.names) > len(best.names):
                best = located
            if len(best.names) == len(file_names):
                return best
    return best


def _locate_below(folder: Path, file_names: Mapping[Key, str], *, may_shorten: bool) -> NamedFiles:
    listings: dict[str, frozenset[str]] = {}

    def is_there(name: str) -> bool:
        parent, _, base = name.rpartition("/")
        if parent not in listings:
            listings[parent] = _list(folder / parent)
        return base in listings[parent]

    names: dict[Key, str] = {}
    shortened: dict[Key, str] = {}
    for key, name in file_names.items():
        if is_there(name):
            names[key] = name
        elif may_shorten:
            tail = next(filter(is_there, _tails(name)), None)
            if tail is not None:
                shortened[key] = tail
    # two names that end alike may mean two files, only one of which is here
    uses = Counter([*names.values(), *shortened.values()])
    shortened = {key: tail for key, tail in shortened.items() if uses[tail] == 1}
    names = {key: names.get(key, shortened.get(key, "")) for key in file_names}
    names = {key: name for key, name in names.items() if name}
    unnamed = _unnamed(listings, set(names.values())) if names else ()
    return NamedFiles(folder, names, len(shortened), unnamed)


def _list(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def _tails(name: str) -> Iterator[str]:
    """The name without its first folder, its first two, ...; also of a path of Windows."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    return ("/".join(parts[i:]) for i in range(len(parts)))


def _unnamed(listings: Mapping[str, Iterable[str]], named: set[str]) -> tuple[str, ...]:
    """Image files of the folders that hold a named file."""
    parents = {name.rpartition("/")[0] for name in named}
    paths = (f"{parent}/{name}".lstrip("/") for parent in parents for name in listings[parent])
    return tuple(
        sorted(
            path for path in paths if path not in named and has_suffix(Path(path), IMAGE_SUFFIXES)
        )
    )
