"""What a folder of shards holds: `index.json`, and `index/{shard}.json` with where each part lies.

Reading goes by these files alone, so that opening does not touch the shards and any image can be
read at any time. What a shard itself holds is enough to make them anew.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from mask2former.data.dataset import Dataset, Record
from mask2former.data.shards.samples import IMAGE, JSON, SEG, SEM, Part
from mask2former.data.sources import FileSlice
from mask2former.files import replacing
from mask2former.tasks import TASKS, Task
from mask2former.types import Classes

Kind: TypeAlias = Literal["webdataset", "tfrecord"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VERSION = 1
MARK = "mask2former shards"
INDEX_NAME = "index.json"
ROWS_FOLDER = "index"
COLUMNS = ("position", "image_id", "name", "height", "width", "num_objects", "group", "frame")
PARTS = (IMAGE, JSON, SEG, SEM)


@dataclass(frozen=True)
class Description:
    """What all shards of a folder have in common; each of them holds it too."""

    kind: Kind
    classes: Classes
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Shard:
    """One file."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitShards:
    """The shards of one split."""

    shards: tuple[Shard, ...]
    notes: tuple[str, ...]
    """How the reader of the source understood it."""


@dataclass(frozen=True)
class Index:
    """All of `index.json`."""

    description: Description
    splits: dict[str, SplitShards]


@dataclass(frozen=True)
class Row:
    """One record, and where its parts lie in its shard."""

    position: int
    """In the split, from 0: shards may hold records in another order."""
    image_id: int | str
    name: str
    height: int | None
    width: int | None
    num_objects: int | None
    group: str | None
    frame: int | None
    parts: dict[str, Part]


def describe(dataset: Dataset, kind: Kind) -> Description:
    return Description(kind, dataset.classes, dataset.tasks)


def description_as_json(description: Description) -> dict[str, Any]:
    return {"format": MARK, "version": VERSION, **asdict(description)}


def read_description(content: dict[str, Any], where: object) -> Description:
    """The inverse of `description_as_json`.

    Args:
        content: As parsed.
        where: The file, for messages.

    Raises:
        ValueError: It is of another version, or incomplete.
    """
    if content.get("version") != VERSION:
        raise ValueError(
            f"{where} is of version {content.get('version')!r} of our shards and this program "
            f"reads version {VERSION}; pack the data set again, or use a newer mask2former"
        )
    try:
        kind = next(kind for kind in KINDS if kind == content["kind"])
        classes = Classes(
            names=tuple(content["classes"]["names"]),
            category_ids=tuple(content["classes"]["category_ids"]),
            is_thing=tuple(content["classes"]["is_thing"]),
        )
        return Description(
            kind, classes, tuple(t for n in content["tasks"] for t in TASKS if t == n)
        )
    except (KeyError, TypeError, StopIteration) as error:
        raise ValueError(
            f"{where} does not describe its data set ({error!r}); restore the file, or take it "
            f"away if it is an index: it is then made anew from the shards"
        ) from error


def write_index(folder: Path, index: Index) -> None:
    content = description_as_json(index.description)
    content["splits"] = {name: asdict(split) for name, split in index.splits.items()}
    with replacing(folder / INDEX_NAME) as path:
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def read_index(folder: Path) -> Index | None:
    """The index of a folder; none when it has none, or one that is not ours.

    Raises:
        ValueError: It is damaged or of another version.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != MARK:
        return None
    description = read_description(content, path)
    try:
        splits = {
            name: SplitShards(tuple(Shard(**s) for s in split["shards"]), tuple(split["notes"]))
            for name, split in content["splits"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} has damaged splits ({error!r}); take the file away, and it is made anew from "
            f"the shards"
        ) from error
    return Index(description, splits)


def known_index(folder: Path) -> Index | None:
    """The same, but none if it cannot be read, which is told by whoever needs it."""
    try:
        return read_index(folder)
    except (ValueError, OSError):
        return None


def read_json(path: Path) -> Any:
    """Any JSON file.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); take the file away, and it is made anew from the "
            f"shards"
        ) from error


def rows_path(folder: Path, shard_name: str) -> Path:
    return folder / ROWS_FOLDER / f"{shard_name}.json"


def write_rows(folder: Path, shard: Shard, rows: Iterable[Row]) -> None:
    """Column by column, which is compact and parsed at once."""
    rows = list(rows)
    content: dict[str, Any] = {"shard": asdict(shard)}
    content |= {column: [getattr(row, column) for row in rows] for column in COLUMNS}
    content |= {part: [row.parts.get(part) for row in rows] for part in PARTS}
    path = rows_path(folder, shard.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        unfinished.write_text(text, encoding="utf-8")


def read_rows(folder: Path, shard_name: str) -> tuple[Shard, list[Row]]:
    """The shard as it was written, and its rows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged.
    """
    path = rows_path(folder, shard_name)
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}, which says where the images of {shard_name} lie; restore it, or take "
            f"{INDEX_NAME} away, and both are made anew from the shards"
        )
    content = read_json(path)
    try:
        shard = Shard(**content["shard"])
        columns = [content[column] for column in COLUMNS]
        parts = [content[part] for part in PARTS]
        rows = [
            Row(*values[: len(COLUMNS)], parts=_present(values[len(COLUMNS) :]))
            for values in zip(*columns, *parts, strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}); take it and {INDEX_NAME} away, and both are made anew "
            f"from the shards"
        ) from error
    return shard, rows


def records_of(shard: Path, rows: Iterable[Row]) -> Iterator[tuple[int, Record]]:
    """(place in the split, record) for `samples.Decoder`."""
    for row in rows:
        record = Record(
            image_id=row.image_id,
            image=FileSlice(shard, *row.parts[IMAGE], row.name),
            annotation=(str(shard), {k: v for k, v in row.parts.items() if k != IMAGE}),
            height=row.height,
            width=row.width,
            num_objects=row.num_objects,
            group=row.group,
            frame=row.frame,
        )
        yield row.position, record


def row_of(content: Mapping[str, Any], parts: dict[str, Part]) -> Row:
    """The row that the JSON part of a sample tells.

    Raises:
        KeyError: It lacks something.
    """
    return Row(
        position=content["position"],
        image_id=content["image_id"],
        name=content["file_name"],
        height=content["height"],
        width=content["width"],
        num_objects=content["num_objects"],
        group=content["group"],
        frame=content["frame"],
        parts=parts,
    )


def _present(spans: Iterable[list[int] | None]) -> dict[str, Part]:
    pairs = zip(PARTS, spans, strict=True)
    return {part: (span[0], span[1]) for part, span in pairs if span is not None}
