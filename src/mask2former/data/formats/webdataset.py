"""WebDataset: tar files of samples, ours with an index and those of other writers.

Ours (`mask2former data shard`) are read by `index.json`, or without it by looking through the
shards once. Other writers' hold `{key}.jpg` and `{key}.seg.png` (category id per pixel) or
`{key}.json` with COCO's `annotations`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import files_by_folder, files_named, is_folder
from mask2former.data.shards.folder import (
    check_unfinished,
    describe_shard,
    read_indexed,
    read_scanned,
)
from mask2former.data.shards.foreign_tar import foreign_tasks, read_foreign
from mask2former.data.shards.index import ROWS_FOLDER, known_index, read_description, read_index
from mask2former.data.shards.tar import scan_tar

NAMED = re.compile(r"(?:(?P<split>.+?)[-_])?\d{3,}\.tar")
"""`train-000012.tar`, or without split `00012.tar`."""


def find(folder: Path) -> Found | None:
    """The shards of each split, in the folder or in one folder a split."""
    splits = _shards(folder)
    index = known_index(folder) if splits or is_folder(folder / ROWS_FOLDER) else None
    if index is not None:
        if index.description.kind != FORMAT.name:
            return None
        return Found(index.description.tasks, {name: splits.get(name, []) for name in index.splits})
    for path in (path for paths in splits.values() for path in paths):
        try:
            known = describe_shard(path, scan_tar)
            tasks = foreign_tasks(path) if known is None else read_description(known, path).tasks
        except (ValueError, OSError):
            continue  # what is wrong with it is told when it is read
        return None if tasks is None else Found(tasks, splits)
    return None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: Conventions, and what becomes of faults.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A shard is cut off, damaged, or of another data set.
    """
    present = [path for paths in _shards(folder).values() for path in paths]
    index = read_index(folder)
    if index is not None:
        return read_indexed(folder, split, index, present)
    check_unfinished(folder)
    paths: Sequence[Path] = found.splits[split]
    if describe_shard(paths[0], scan_tar) is not None:
        return read_scanned(folder, split, paths, scan_tar)
    return read_foreign(folder, split, found.splits, reading)


def _shards(folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for path in files_named(folder, NAMED):
        match = NAMED.fullmatch(path.name)
        assert match is not None, "files_named looked"
        splits.setdefault(match["split"] or WHOLE, []).append(path)
    return splits or files_by_folder(folder, NAMED)


FORMAT = Format(
    name="webdataset",
    layouts=("{split}-000000.tar, ...", "{split}/00000.tar, ..."),
    find=find,
    read=read,
)
