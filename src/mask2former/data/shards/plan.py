"""Which record goes into which shard: decided before anything is written, and kept with the shards.

The same data set and the same options give the same plan, so a run that was stopped goes on where
it was, and nothing is mixed with the shards of another data set.
"""

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mask2former.data.dataset import Dataset, Record
from mask2former.data.shards.index import (
    ROWS_FOLDER,
    Description,
    Kind,
    describe,
    description_as_json,
    read_json,
)
from mask2former.data.shards.samples import key_of
from mask2former.data.sources import FileSlice
from mask2former.files import replacing

PLAN_NAME = "plan.json"
NAMES = {"webdataset": "{split}-{i:06d}.tar", "tfrecord": "{split}-{i:05d}-of-{count:05d}.tfrecord"}


@dataclass(frozen=True)
class SplitPlan:
    """The shards of one split."""

    fingerprint: str
    """Of the records and of the sizes and times of their files."""
    ends: tuple[int, ...]
    """How many records, in the order of packing, the shards up to each hold."""
    names: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The whole of a packing."""

    description: Description
    splits: dict[str, SplitPlan]


@dataclass(frozen=True)
class Measured:
    """What planning looks up of the records of a split."""

    bytes: NDArray[np.int64]
    """Of each record, about."""
    fingerprint: str
    """Of what would show that something has changed."""


def make_plan(
    datasets: Mapping[str, Dataset],
    kind: Kind,
    *,
    num_shards: int | None = None,
    shard_bytes: int | None = None,
) -> Plan:
    """Share out the records of every split, in their order, into shards of about equal size.

    Frames of one video stay in one shard, in order.

    Args:
        datasets: By split; not empty.
        kind: Of the files.
        num_shards: Of each split; fewer where a split has fewer images or videos.
        shard_bytes: Size aimed at, if no number is given; in bytes.

    Raises:
        ValueError: The splits have different classes or tasks, a split is empty, two of its images
            would have one name in a shard, or a number is too small.
    """
    _check_sizes(num_shards, shard_bytes)
    descriptions = {name: describe(dataset, kind) for name, dataset in datasets.items()}
    first = next(iter(descriptions))
    for name, description in descriptions.items():
        if description != descriptions[first]:
            raise ValueError(
                f"splits {first} and {name} have different classes or tasks; shards of one folder "
                f"share them: mend the data set, or pack the splits into two folders"
            )
        if not datasets[name].records:
            raise ValueError(f"split {name} has no images; take it away or add some")
        _check_keys(name, datasets[name].records)
    splits = {
        name: _plan_split(name, dataset, kind, num_shards, shard_bytes)
        for name, dataset in datasets.items()
    }
    return Plan(descriptions[first], splits)


def packing_order(records: Sequence[Record]) -> list[list[int]]:
    """Places of the records, in units that stay together: an image, or the frames of a video."""
    units: dict[object, list[tuple[int, int]]] = {}
    for position, record in enumerate(records):
        is_frame = record.group is not None and record.frame is not None
        unit = ("video", record.group) if is_frame else position
        units.setdefault(unit, []).append((record.frame or 0, position))
    return [[position for _, position in sorted(unit)] for unit in units.values()]


def keep_plan(folder: Path, plan: Plan) -> None:
    """Write the plan to an empty folder, or see that the folder was begun with the same one.

    Raises:
        ValueError: The folder holds something else.
    """
    path = folder / ROWS_FOLDER / PLAN_NAME
    content = json.loads(json.dumps(_as_json(plan)))
    if path.is_file():
        difference = _difference(read_json(path), content)
        if difference:
            raise ValueError(
                f"{folder} was begun with {difference}; give the same data set and options to go "
                f"on, or another folder"
            )
        return
    if any(entry.name != ROWS_FOLDER for entry in folder.iterdir()):
        raise ValueError(f"{folder} exists and holds no shards that were begun; give a new folder")
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def planned_shards(folder: Path) -> list[str] | None:
    """The names of all shards that a folder was to hold; none if it has no plan.

    Raises:
        ValueError: The plan is damaged.
    """
    path = folder / ROWS_FOLDER / PLAN_NAME
    if not path.is_file():
        return None
    splits = read_json(path).get("splits", {}).values()
    return [name for split in splits for name in split["names"]]


def _check_sizes(num_shards: int | None, shard_bytes: int | None) -> None:
    if (num_shards is None) == (shard_bytes is None):
        raise ValueError("give either a number of shards or a size of shards, and not both")
    if num_shards is not None and num_shards < 1:
        raise ValueError(f"{num_shards} shards cannot hold anything; give 1 or more")
    if shard_bytes is not None and shard_bytes < 1:
        raise ValueError(f"shards of {shard_bytes} bytes cannot hold anything; give 1 or more")


def _check_keys(split: str, records: Sequence[Record]) -> None:
    images: dict[str, Record] = {}
    for record in records:
        other = images.setdefault(key_of(record), record)
        if other is not record:
            raise ValueError(
                f"split {split}: {other.image} and {record.image} would both be called "
                f"{key_of(record)} in a shard (ids {other.image_id!r} and {record.image_id!r}); "
                f"give each image an id of its own"
            )


def _plan_split(
    name: str, dataset: Dataset, kind: Kind, num_shards: int | None, shard_bytes: int | None
) -> SplitPlan:
    units = packing_order(dataset.records)
    measured = _measure(dataset)
    sizes = np.array([measured.bytes[unit].sum() for unit in units])
    if num_shards is None:
        assert shard_bytes is not None, "_check_sizes"
        num_shards = -(-int(sizes.sum()) // shard_bytes)
    unit_ends = _share_out(sizes, min(num_shards, len(units)))
    record_ends = np.cumsum([len(unit) for unit in units])
    ends = tuple(int(record_ends[end - 1]) for end in unit_ends)
    names = tuple(NAMES[kind].format(split=name, i=i, count=len(ends)) for i in range(len(ends)))
    return SplitPlan(measured.fingerprint, ends, names, dataset.notes)


def _share_out(sizes: NDArray[np.int64], num_shards: int) -> list[int]:
    """How many units the shards up to each hold: about equal bytes, but none is empty."""
    shares = sizes.sum() * np.arange(1, num_shards + 1) / num_shards
    ends: list[int] = []
    for i, wanted in enumerate(np.searchsorted(np.cumsum(sizes), shares, side="right").tolist()):
        earliest = ends[-1] + 1 if ends else 1
        left_for_others = len(sizes) - (num_shards - 1 - i)
        ends.append(min(max(wanted, earliest), left_for_others))
    ends[-1] = len(sizes)
    return ends


def _measure(dataset: Dataset) -> Measured:
    fingerprint, sizes = hashlib.sha256(), []
    for record in dataset.records:
        annotation = pickle.dumps(record.annotation, protocol=4)
        fingerprint.update(annotation)
        known = (record.image_id, str(record.image), record.height, record.width, record.frame)
        fingerprint.update(repr((known, record.group, record.num_objects)).encode())
        size = len(annotation)
        for file in _files_of(record):
            status = file.stat()
            fingerprint.update(repr((status.st_size, status.st_mtime_ns)).encode())
            size += status.st_size
        if isinstance(record.image, FileSlice):
            size += record.image.length
        elif not isinstance(record.image, Path):
            size += len(record.image.read_bytes())
        sizes.append(size)
    return Measured(np.array(sizes, np.int64), fingerprint.hexdigest())


def _files_of(record: Record) -> Iterator[Path]:
    """The image's own file, and those that its annotation names, if they are there."""
    annotation = record.annotation
    values = annotation if isinstance(annotation, tuple | list) else (annotation,)
    for value in (record.image, *values):
        if isinstance(value, str | Path) and _is_file(value):
            yield Path(value)


def _is_file(name: str | Path) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # text that is no name at all
        return False


def _as_json(plan: Plan) -> dict[str, Any]:
    splits = {name: asdict(split) for name, split in plan.splits.items()}
    return description_as_json(plan.description) | {"splits": splits}


def _difference(earlier: dict[str, Any], now: dict[str, Any]) -> str | None:
    """What an earlier plan has that this one has not, in words."""
    if earlier.get("version") != now["version"]:
        return f"version {earlier.get('version')} of our shards, and this is {now['version']}"
    for key, what in (("kind", "the format"), ("tasks", "the tasks"), ("classes", "the classes")):
        if earlier.get(key) != now[key]:
            return f"{what} {earlier.get(key)}, and this is {now[key]}"
    if list(earlier["splits"]) != list(now["splits"]):
        return f"the splits {', '.join(earlier['splits'])}, and this is {', '.join(now['splits'])}"
    for name, split in now["splits"].items():
        if earlier["splits"][name]["fingerprint"] != split["fingerprint"]:
            return f"other files or annotations in split {name}: the data set has changed since"
        if earlier["splits"][name]["ends"] != split["ends"]:
            count = len(earlier["splits"][name]["ends"])
            return (
                f"{count} shards of other sizes in split {name}, and this is {len(split['ends'])}"
            )
    return None
