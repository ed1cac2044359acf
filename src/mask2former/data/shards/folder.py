"""Read a folder of shards: by its index, or from the shards themselves where it has none."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mask2former.data.dataset import Dataset
from mask2former.data.records import PackedRecords
from mask2former.data.shards.index import (
    INDEX_NAME,
    Description,
    Index,
    Row,
    Shard,
    read_description,
    read_rows,
    records_of,
    row_of,
)
from mask2former.data.shards.plan import planned_shards
from mask2former.data.shards.samples import DATASET, JSON, Decoder, Part
from mask2former.data.sources import FileSlice, forget_open_files

logger = logging.getLogger(__name__)
FIRST_FEW = 3

ScanParts = Callable[[Path], Iterator[dict[str, Part]]]
"""Where the parts of each sample of a shard lie."""


class Content(NamedTuple):
    """What was read of a split."""

    description: Description
    rows: list[tuple[Path, list[Row]]]
    """By shard."""
    notes: tuple[str, ...]


def read_indexed(folder: Path, split: str, index: Index, present: Sequence[Path]) -> Dataset:
    """Open a split by the index.

    Args:
        folder: Of the shards.
        split: A key of `index.splits`.
        index: Of the folder.
        present: All shards in the folder.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A shard is cut off, or belongs to another packing.
    """
    listed = {shard.name for each in index.splits.values() for shard in each.shards}
    strange = [path for path in present if path.name not in listed]
    if strange:
        raise ValueError(
            f"{folder} holds {strange[0].name}, which {INDEX_NAME} does not list; keep the shards "
            f"of each packing in a folder of their own"
        )
    shards = index.splits[split].shards
    _check_files(folder, split, shards)
    rows = []
    for shard in shards:
        known, of_shard = read_rows(folder, shard.name)
        if known != shard:
            raise ValueError(
                f"{folder}: {INDEX_NAME} and index/{shard.name}.json are of two packings; take "
                f"{INDEX_NAME} away, and it is made anew from the shards"
            )
        rows.append((folder / shard.name, of_shard))
    content = Content(index.description, rows, index.splits[split].notes)
    return _dataset(folder, split, content)


def read_scanned(folder: Path, split: str, paths: Sequence[Path], scan: ScanParts) -> Dataset:
    """Open a split whose shards are ours, without an index.

    Args:
        folder: Of the shards.
        split: Its name.
        paths: Its shards.
        scan: Of the kind of the shards.

    Raises:
        ValueError: A shard is missing, damaged, or of another data set than the first.
    """
    logger.warning("%s has no %s; looking through %d shards", folder, INDEX_NAME, len(paths))
    forget_open_files()
    first = describe_shard(paths[0], scan)
    assert first is not None, "the caller looks whether the shards are ours"
    rows = []
    for path in paths:
        if describe_shard(path, scan) != first:
            raise ValueError(
                f"{path} is of another data set than {paths[0].name}; keep the shards of each in "
                f"a folder of their own"
            )
        rows.append((path, _rows_of(path, scan)))
    _check_complete(folder, split, rows, first["records"])
    content = Content(read_description(first, paths[0]), rows, tuple(first["notes"]))
    return _dataset(folder, split, content)


def check_unfinished(folder: Path) -> None:
    """See that a folder without index is not one whose packing was stopped.

    Raises:
        ValueError: It is.
    """
    names = planned_shards(folder) or []
    present = [name for name in names if (folder / name).is_file()]
    if len(present) < len(names):
        raise ValueError(
            f"{folder} holds {len(present)} of {len(names)} shards, the others are not written yet "
            f"or lost; run the same `mask2former data shard` again, which goes on from there"
        )


def describe_shard(path: Path, scan: ScanParts) -> dict[str, Any] | None:
    """What a shard says of its data set; none if it is not ours."""
    for parts in scan(path):
        if DATASET in parts:
            return json.loads(FileSlice(path, *parts[DATASET], DATASET).read_bytes())
        return None
    return None


def _rows_of(path: Path, scan: ScanParts) -> list[Row]:
    rows = []
    for parts in scan(path):
        parts.pop(DATASET, None)
        try:
            content = json.loads(FileSlice(path, *parts[JSON], "sample").read_bytes())
            rows.append(row_of(content, parts))
        except (KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path}: a sample has damaged or incomplete JSON ({error!r}); restore the shard "
                f"or write it again"
            ) from error
    return rows


def _check_files(folder: Path, split: str, shards: Sequence[Shard]) -> None:
    missing = [shard.name for shard in shards if not (folder / shard.name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(shards)} shards of split {split} in {folder} are missing, "
            f"first {', '.join(missing[:FIRST_FEW])}; restore them, or pack the data set again"
        )
    for shard in shards:
        size = (folder / shard.name).stat().st_size
        if size != shard.bytes:
            what = "is cut off" if size < shard.bytes else "is another file"
            raise ValueError(
                f"{folder / shard.name} has {size} bytes and the index says {shard.bytes}: it "
                f"{what}; restore it, or pack the data set again"
            )


def _check_complete(
    folder: Path, split: str, rows: list[tuple[Path, list[Row]]], count: int
) -> None:
    positions = sorted(row.position for _, of_shard in rows for row in of_shard)
    if positions != list(range(count)):
        raise ValueError(
            f"the shards of split {split} in {folder} hold {len(positions)} of its {count} images; "
            f"restore the shards that are missing, or pack the data set again"
        )


def _dataset(folder: Path, split: str, content: Content) -> Dataset:
    forget_open_files()
    description = content.description
    placed = [pair for path, rows in content.rows for pair in records_of(path, rows)]
    placed.sort(key=lambda pair: pair[0])
    return Dataset(
        description.kind,
        folder,
        split,
        description.classes,
        description.tasks,
        PackedRecords(record for _, record in placed),
        Decoder(description.classes.category_ids),
        content.notes,
    )
