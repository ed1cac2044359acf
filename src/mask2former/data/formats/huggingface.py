"""Hugging Face data sets on disk: `save_to_disk`, Parquet files, and image folders with metadata.

Arrow and Parquet files are read with pyarrow; the `datasets` library is not needed. Which column
is what is told by its type and by usual names.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.arrow_tables import Header, read_header, read_rows
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.huggingface_annotations import (
    decode,
    is_numbered,
    mask_values,
    object_values,
)
from mask2former.data.formats.huggingface_columns import (
    Columns,
    Kind,
    as_objects,
    category_of,
    find_columns,
    known_names,
    make_classes,
    panoptic_things,
)
from mask2former.data.formats.huggingface_layouts import Table, find_tables
from mask2former.data.formats.huggingface_objects import read_objects, read_segments
from mask2former.data.records import PackedRecords
from mask2former.data.sources import Source
from mask2former.tasks import Task
from mask2former.types import Classes

logger = logging.getLogger(__name__)

TASKS: dict[Kind, tuple[Task, ...]] = {
    "panoptic": ("panoptic", "semantic", "instance"),
    "instance": ("instance", "panoptic", "semantic"),
    "numbered": ("instance", "panoptic", "semantic"),
    "semantic": ("semantic",),
}
NO_OBJECT = ("background", "other", "unlabeled")
"""Names of value 0 of red where it is no class of objects."""


def find(folder: Path) -> Found | None:
    """The tables of each split, if they hold images with segmentations.

    A folder that is surely of this format is claimed with whatever is known of it: what is damaged,
    or has to be installed, is told by `read`.
    """
    try:
        splits = find_tables(folder)
    except (OSError, ValueError):
        return Found(TASKS["semantic"], {WHOLE: Table(())})
    if not splits:
        return None
    first = next(iter(splits.values())).files[0]
    try:
        columns = find_columns(read_header(first))
        if columns is None:
            return None
        row = next(read_rows(first, columns.images, columns.others), None)
        return Found(TASKS[_kind(columns, row)], splits)
    except (ImportError, OSError, ValueError):
        # anybody may have a metadata.csv
        return None if first.suffix == ".csv" else Found(TASKS["semantic"], splits)


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: Conventions, and what becomes of faults. Its ignore index is a value of class
            masks that is not scored.

    Raises:
        ImportError: pyarrow is needed and not installed.
        ValueError: A table is damaged, or an annotation in it is wrong.
    """
    table: Table = found.splits[split] if found.splits[split].files else find_tables(folder)[split]
    header = read_header(table.files[0])
    columns = find_columns(header)
    if columns is None:
        raise ValueError(
            f"{table.files[0]} has the columns "
            f"{', '.join((*header.images, *header.fields))}; a column image with a mask column, "
            f"or with objects that have a segmentation, is needed: rename what is called otherwise"
        )
    first = next(_rows(table, columns), None)
    if first is None:
        raise ValueError(f"split {split!r} of {folder} has no rows; choose another split")
    kind = _kind(columns, first)
    classes, notes = _find_classes(folder, found, header, columns, kind, reading, first)
    ignored = reading.ignore_index if kind == "semantic" else None
    return Dataset(
        FORMAT.name,
        folder,
        split,
        classes,
        TASKS[kind],
        PackedRecords(_records(table, columns, kind, classes, reading)),
        partial(decode, kind=kind, category_ids=classes.category_ids, ignored=ignored),
        notes,
    )


def _records(
    table: Table, columns: Columns, kind: Kind, classes: Classes, reading: Reading
) -> Iterator[Record]:
    seen: set[int | str] = set()
    for number, row in enumerate(_rows(table, columns)):
        image = row[columns.image]
        image_id = row.get(columns.image_id or "", number)
        image_id = number if not isinstance(image_id, int | str) else image_id
        if not _is_there(image):
            message = (
                f"row {number} of {table.files[0].parent} has no image{_at(image)}; add it or take "
                f"the row out"
            )
            reading.problems.error("missing image", message, file=image, image_id=image_id)
            continue
        if image_id in seen:
            reading.problems.error(
                "duplicate id",
                f"{image} has the id {image_id}, which an earlier row has, too; number the "
                f"{columns.image_id} anew or leave the column out",
                file=image,
                image_id=image_id,
            )
            continue
        seen.add(image_id)
        record = Record(
            image_id=image_id,
            image=image,
            annotation=None,
            height=_length(row.get("height")),
            width=_length(row.get("width")),
        )
        annotated = _annotate(record, row, columns, kind, classes, reading)
        if annotated is not None:
            yield annotated


def _annotate(
    record: Record, row: dict, columns: Columns, kind: Kind, classes: Classes, reading: Reading
) -> Record | None:
    """The record with its annotation; none if it has none."""
    values: dict[str, Any] = {"height": record.height, "width": record.width}
    if kind == "instance":
        assert columns.objects is not None
        objects = read_objects(row[columns.objects], record, classes, reading.problems)
        values["num_objects"] = sum(not entry.is_crowd for entry in objects)
        return Record(record.image_id, record.image, tuple(objects), **values)
    mask = row[columns.mask or ""]
    if not _is_there(mask):
        reading.problems.error(
            "image without annotation",
            f"{record.image} has no {columns.mask}{_at(mask)}; add it or take the row out",
            file=record.image,
            image_id=record.image_id,
        )
        return None
    segments = None
    if kind == "panoptic":
        assert columns.segments is not None
        segments = read_segments(row[columns.segments], record, classes, reading.problems)
    return Record(record.image_id, record.image, (mask, segments), **values)


def _is_there(source: Source | None) -> TypeGuard[Source]:
    return source is not None and (not isinstance(source, Path) or source.is_file())


def _at(source: Source | None) -> str:
    return "" if source is None else f" at {source}"


def _length(value: Any) -> int | None:
    """Of an image side; tables of text hold digits."""
    return int(value) if value else None


def _find_classes(
    folder: Path,
    found: Found,
    header: Header,
    columns: Columns,
    kind: Kind,
    reading: Reading,
    first: dict,
) -> tuple[Classes, tuple[str, ...]]:
    """The classes, from all splits where they have to be collected, and how they were found."""
    names = known_names(folder, header, columns, first)
    where = "The class names are the data set's own."
    if names is None:
        names = _collect(folder, found, columns, kind, reading)
        where = "No class names were found; the classes are those that occur in some split."
    notes = (f"Images are read from column {columns.image!r}.", where)
    if kind == "panoptic":
        images = _categories_by_image(found, columns, names)
        things, how = panoptic_things(folder, names, images)
        return make_classes(names, things), (*notes, how)
    if kind == "semantic":
        zero = "" if 0 in names else " Value 0 is no class and not scored either."
        ignored = f"Mask value {reading.ignore_index} is not scored.{zero}"
        return make_classes(names, things=False), (*notes, ignored)
    if kind == "numbered":
        names = {i: name for i, name in names.items() if not (i == 0 and name in NO_OBJECT)}
        coding = "Red is the class and green the number of an object; green 0 is no object."
        return make_classes(names, things=True), (*notes, coding)
    return make_classes(names, things=True), notes


def _categories_by_image(
    found: Found, columns: Columns, names: dict[int, str]
) -> Iterator[list[int]]:
    """Category ids of the segments of every image of all splits, crowds left out."""
    ids: dict[Any, int] = {name: i for i, name in names.items()} | {i: i for i in names}
    for table in found.splits.values():
        for row in _rows(table, columns):
            segments = as_objects(row[columns.segments or ""])
            categories = (category_of(s) for s in segments if not s.get("iscrowd"))
            yield [ids[category] for category in categories if category in ids]


def _collect(
    folder: Path, found: Found, columns: Columns, kind: Kind, reading: Reading
) -> dict[int, str]:
    """Classes that occur in any split, so that training and validation agree."""
    values: set[int | str] = set()
    logger.info("%s names no classes; reading all annotations to find them", folder)
    for table in found.splits.values():
        for row in _rows(table, columns):
            try:
                values.update(_values(row, columns, kind))
            except (ValueError, FileNotFoundError) as error:
                file = row[columns.image]
                reading.problems.error("unreadable annotation", str(error), file=file)
    if kind == "semantic":
        values.discard(reading.ignore_index)
    if not values:
        raise ValueError(f"{folder} has no annotated class; annotate something or correct the path")
    texts = sorted(value for value in values if isinstance(value, str))
    if texts:
        return dict(enumerate(texts))
    return {int(value): f"class {value}" for value in sorted(map(int, values))}


def _values(row: dict[str, Any], columns: Columns, kind: Kind) -> Iterable[int | str]:
    """The classes that occur in one image."""
    if kind in ("semantic", "numbered"):
        mask = row[columns.mask or ""]
        find_values = mask_values if kind == "semantic" else object_values
        return find_values(mask) if _is_there(mask) else ()
    entries = as_objects(row[(columns.segments if kind == "panoptic" else columns.objects) or ""])
    return [value for entry in entries if (value := category_of(entry)) is not None]


def _kind(columns: Columns, row: dict | None) -> Kind:
    if columns.segments is not None:
        return "panoptic"
    if columns.objects is not None:
        return "instance"
    mask = None if row is None else row[columns.mask or ""]
    return "numbered" if _is_there(mask) and is_numbered(mask) else "semantic"


def _rows(table: Table, columns: Columns) -> Iterator[dict[str, Any]]:
    for path in table.files:
        yield from read_rows(path, columns.images, columns.others)


FORMAT = Format(
    name="huggingface",
    layouts=(
        "dataset_dict.json or state.json of save_to_disk",
        "{split}-*.parquet, in data/ or not",
        "{split}/metadata.jsonl with file_name and label_file_name or objects",
    ),
    find=find,
    read=read,
)
