"""Rows of Arrow, Parquet and metadata files, with images as sources that are read when wanted."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.data.sources import Source

TEXT_SUFFIXES = frozenset({".jsonl", ".csv"})
FILE_NAME = "file_name"
IMAGE = "image"
"""What the column `file_name` of a metadata file is called here."""
MOST_FILES_OPEN = 64
ROW_GROUPS_KEPT = 4
"""Of Parquet files, per process: one row group holds about a hundred images."""
ROWS_LOOKED_AT = 100


@dataclass(frozen=True)
class Header:
    """What columns a file has."""

    images: tuple[str, ...]
    fields: dict[str, tuple[str, ...]]
    """Names within each other column, if it is nested."""
    features: dict[str, Any] = field(default_factory=dict)
    """How the `datasets` library describes the columns; empty where it did not write the file."""


@dataclass(frozen=True)
class Cell:
    """An image file that is a value of a table."""

    path: Path
    """Of the table."""
    column: str
    row: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}: row {self.row}, column {self.column} ({self.name})"

    def read_bytes(self) -> bytes:
        """The encoded image.

        Raises:
            FileNotFoundError: The table, or the file that it names instead of an image, is gone.
            ValueError: The table is damaged, or the cell is empty.
        """
        value = _value(self.path, self.column, self.row)
        if isinstance(value, bytes):
            return value
        content = value.get("bytes") if isinstance(value, dict) else None
        if content is not None:
            return content
        beside = value.get("path") if isinstance(value, dict) else None
        if not beside:
            raise ValueError(f"{self} is empty; add the image or take the row out")
        if not Path(beside).is_file():
            raise FileNotFoundError(
                f"{self} names the file {beside}, which is not there; restore it, or write the "
                f"data set again with its images inside"
            )
        return Path(beside).read_bytes()


def read_header(path: Path) -> Header:
    """The columns of a file.

    Raises:
        ImportError: The file needs pyarrow, which is not installed.
        ValueError: The file is damaged.
    """
    if path.suffix in TEXT_SUFFIXES:
        return _text_header(path)
    schema = _table(path).schema if path.suffix == ".arrow" else _parquet(path).schema_arrow
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features") or {}
    images = tuple(f.name for f in schema if _is_image(f.type, features.get(f.name)))
    others = {f.name: _inner_names(f.type) for f in schema if f.name not in images}
    return Header(images, others, features)


def read_rows(path: Path, images: Sequence[str], others: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every row: the images as sources, the other columns as plain values.

    Raises:
        ImportError: The file needs pyarrow, which is not installed.
        ValueError: The file is damaged.
    """
    if path.suffix in TEXT_SUFFIXES:
        for row in _text_rows(path):
            yield {
                **{name: _beside(path, row.get(_text_column(name))) for name in images},
                **{name: row.get(name) for name in others},
            }
        return
    names = {column: _image_names(path, column) for column in images}
    row = 0
    for batch in _batches(path, others):
        for values in batch:
            yield {
                **{c: _cell(path, c, row, names[c][row]) for c in images},
                **values,
            }
            row += 1


def _text_rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".csv":
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from csv.DictReader(file, restkey="")
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {path} ({error}); correct its lines") from error
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"cannot read line {number} of {path} ({error}); every line is a JSON object: "
                    f"correct it"
                ) from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} of {path} is no JSON object; write one a line")
            yield row


def _text_header(path: Path) -> Header:
    images: dict[str, None] = {}
    fields: dict[str, tuple[str, ...]] = {}
    for row in islice(_text_rows(path), ROWS_LOOKED_AT):
        for key, value in row.items():
            if key == FILE_NAME or key.endswith(f"_{FILE_NAME}"):
                images[key.removesuffix(FILE_NAME).rstrip("_") or IMAGE] = None
            else:
                inner = value[0] if isinstance(value, list) and value else value
                fields[key] = tuple(inner) if isinstance(inner, dict) else fields.get(key, ())
    return Header(tuple(images), fields)


def _text_column(name: str) -> str:
    return FILE_NAME if name == IMAGE else f"{name}_{FILE_NAME}"


def _beside(path: Path, name: object) -> Source | None:
    return path.parent / name if isinstance(name, str) and name else None


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Arrow and Parquet files are read with pyarrow, which is not installed; "
            "pip install mask2former[hf]"
        ) from error
    return pyarrow


@lru_cache(MOST_FILES_OPEN)
def _table(path: Path) -> Any:
    """An Arrow file, mapped into memory: nothing is read but what is used."""
    pyarrow = _pyarrow()
    options = pyarrow.ipc.IpcReadOptions(use_threads=False)  # loader processes are forked
    try:
        try:
            return pyarrow.ipc.open_stream(
                pyarrow.memory_map(str(path)), options=options
            ).read_all()
        except pyarrow.ArrowInvalid:
            return pyarrow.ipc.open_file(pyarrow.memory_map(str(path)), options=options).read_all()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise _broken(path, error) from error


@lru_cache(MOST_FILES_OPEN)
def _parquet(path: Path) -> Any:
    pyarrow = _pyarrow()
    try:
        return pyarrow.parquet.ParquetFile(path, memory_map=True)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise _broken(path, error) from error


@lru_cache(MOST_FILES_OPEN)
def _group_ends(path: Path) -> Any:
    """Number of rows up to the end of each row group of a Parquet file."""
    metadata = _parquet(path).metadata
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    return np.cumsum(sizes, dtype=np.int64)


@lru_cache(ROW_GROUPS_KEPT)
def _group(path: Path, number: int, column: str) -> Any:
    pyarrow = _pyarrow()
    try:
        table = _parquet(path).read_row_group(number, columns=[column], use_threads=False)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise _broken(path, error) from error
    return table[column]


def _value(path: Path, column: str, row: int) -> Any:
    if path.suffix == ".arrow":
        return _table(path)[column][row].as_py()
    ends = _group_ends(path)
    group = int(np.searchsorted(ends, row, side="right"))
    start = int(ends[group - 1]) if group else 0
    return _group(path, group, column)[row - start].as_py()


def _cell(path: Path, column: str, row: int, name: str | None) -> Cell | None:
    return None if name is None else Cell(path, column, row, name or f"{column}-{row}")


def _image_names(path: Path, column: str) -> list[str | None]:
    """Names of the image files when the table was written, "" if unknown; none: no image."""
    pyarrow = _pyarrow()
    if path.suffix == ".arrow":
        values = _table(path)[column]
    else:
        kind = _parquet(path).schema_arrow.field(column).type
        if not pyarrow.types.is_struct(kind):
            return [""] * int(_parquet(path).metadata.num_rows)
        values = _parquet(path).read(columns=[f"{column}.path"], use_threads=False)[column]
    if not pyarrow.types.is_struct(values.type):
        return ["" if valid else None for valid in values.is_valid().to_pylist()]
    return [
        Path(name or "").name if valid else None
        for chunk in values.chunks
        for name, valid in zip(
            chunk.field("path").to_pylist(), chunk.is_valid().to_pylist(), strict=True
        )
    ]


def _batches(path: Path, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    if path.suffix == ".arrow":
        table = _table(path)
        batches, num_rows = table.select(list(columns)).to_batches(), table.num_rows
    else:
        file = _parquet(path)
        batches = file.iter_batches(columns=list(columns), use_threads=False)
        num_rows = file.metadata.num_rows
    if not columns:  # pyarrow forgets the number of rows of no columns
        yield [{} for _ in range(num_rows)]
        return
    for batch in batches:
        yield batch.to_pylist()


def _is_image(kind: Any, feature: object) -> bool:
    if isinstance(feature, dict):
        return feature.get("_type") == "Image"
    types = _pyarrow().types
    names = _inner_names(kind) if types.is_struct(kind) else ()
    return set(names) == {"bytes", "path"} or types.is_binary(kind) or types.is_large_binary(kind)


def _inner_names(kind: Any) -> tuple[str, ...]:
    types = _pyarrow().types
    while types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    return tuple(f.name for f in kind) if types.is_struct(kind) else ()


def _broken(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"cannot read {path} ({error}); it is damaged: restore it or download it again"
    )
