"""Where the tables of a Hugging Face data set lie."""

from dataclasses import dataclass
from pathlib import Path

from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.listing import files_in, is_file
from mask2former.data.formats.splits import SPLIT_NAMES
from mask2former.data.formats.text_files import read_json_object

METADATA = ("metadata.jsonl", "metadata.csv")
PARQUET = frozenset({".parquet"})


@dataclass(frozen=True)
class Table:
    """The files of one split, in order."""

    files: tuple[Path, ...]


def find_tables(folder: Path) -> dict[str, Table]:
    """The tables of each split; empty where there are none.

    Raises:
        ValueError: A file that lists them is damaged.
    """
    return _saved(folder) or _parquet(folder) or _image_folders(folder)


def _saved(folder: Path) -> dict[str, Table]:
    """What `save_to_disk` writes: one folder a split, or one data set."""
    listing = folder / "dataset_dict.json"
    places = {WHOLE: folder}
    if is_file(listing):
        places = {name: folder / name for name in _texts(listing, "splits")}
    tables = {}
    for name, place in places.items():
        state = place / "state.json"
        if is_file(state) and is_file(place / "dataset_info.json"):
            files = tuple(place / name for name in _texts(state, "_data_files", "filename"))
            if files:
                tables[name] = Table(files)
    return tables


def _texts(path: Path, key: str, inner: str | None = None) -> list[str]:
    """A list of names in a JSON file, or of entries that have one under the inner key."""
    listed = read_json_object(path).get(key, [])
    entries: list = listed if isinstance(listed, list) else [None]
    if inner is not None:
        entries = [entry.get(inner) if isinstance(entry, dict) else None for entry in entries]
    if not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{path} has no list of names under {key!r}; it is damaged: restore it")
    return entries


def _parquet(folder: Path) -> dict[str, Table]:
    """Files named `{split}-*.parquet` or `{split}/*.parquet`, in the folder or one below it."""
    for place in (folder, folder / "data", folder / "default"):
        by_split: dict[str, list[Path]] = {}
        for path in files_in(place, PARQUET):
            by_split.setdefault(path.stem.partition("-")[0], []).append(path)
        for name in SPLIT_NAMES:
            files = files_in(place / name, PARQUET)
            if files:
                by_split.setdefault(name, []).extend(files)
        if by_split:
            known = {name: files for name, files in by_split.items() if name in SPLIT_NAMES}
            whole = {WHOLE: [path for files in by_split.values() for path in files]}
            return {name: Table(tuple(files)) for name, files in (known or whole).items()}
    return {}


def _image_folders(folder: Path) -> dict[str, Table]:
    """Folders of images with `metadata.jsonl` or `metadata.csv`."""
    for place in (folder, folder / "data"):
        tables = {
            split: Table((path,))
            for split in SPLIT_NAMES
            for name in reversed(METADATA)
            if is_file(path := place / split / name)
        }
        whole = [place / name for name in METADATA if is_file(place / name)]
        if tables or whole:
            return tables or {WHOLE: Table((whole[0],))}
    return {}
