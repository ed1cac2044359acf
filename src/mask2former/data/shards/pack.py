"""Pack data sets into shards: in parallel, and on from where a stopped run was."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from mask2former.data.dataset import Dataset
from mask2former.data.shards.hashed import HashedFile
from mask2former.data.shards.index import (
    Description,
    Index,
    Shard,
    SplitShards,
    description_as_json,
    read_rows,
    row_of,
    rows_path,
    write_index,
    write_rows,
)
from mask2former.data.shards.pbtxt import NAMES as LABEL_MAP_NAMES
from mask2former.data.shards.pbtxt import write_pbtxt
from mask2former.data.shards.plan import Plan, keep_plan, packing_order
from mask2former.data.shards.samples import make_sample
from mask2former.data.shards.tar import TarShard
from mask2former.data.shards.tf_shard import TFRecordShard
from mask2former.files import replacing, unfinished_path, usable_folder
from mask2former.processes import in_order

Progress: TypeAlias = Callable[[Iterable[str], int], Iterable[str]]
"""Passes on the names of shards as they are finished; knows how many will come."""


class Job(NamedTuple):
    """One shard to write."""

    name: str
    split: str
    positions: tuple[int, ...]
    """Of its records in the split."""


def pack(
    datasets: Mapping[str, Dataset],
    plan: Plan,
    folder: Path,
    *,
    workers: int = 0,
    progress: Progress | None = None,
) -> Index:
    """Write every shard that is not there yet, or was cut off since, then the index.

    A shard gets its name when it is complete. Images keep their bytes.

    Args:
        datasets: By split, as the plan was made from.
        plan: From `make_plan`.
        folder: New, or begun with the same plan.
        workers: Processes beside this one; 0 packs in this one.
        progress: Shows how far it is.

    Raises:
        FileNotFoundError: A file of the data set is missing.
        ValueError: The folder holds something else, or a file of the data set is damaged.
    """
    folder = usable_folder(folder)
    keep_plan(folder, plan)
    jobs = [
        job
        for split in plan.splits
        for job in _jobs(split, datasets[split], plan)
        if not _is_finished(folder, job.name)
    ]
    finished = _write_all(dict(datasets), plan.description, folder, jobs, workers)
    for _ in finished if progress is None else progress(finished, len(jobs)):
        pass
    splits = {
        name: SplitShards(tuple(read_rows(folder, shard)[0] for shard in split.names), split.notes)
        for name, split in plan.splits.items()
    }
    if plan.description.kind == "tfrecord":
        with replacing(folder / LABEL_MAP_NAMES[0]) as path:
            write_pbtxt(path, plan.description.classes)
    index = Index(plan.description, splits)
    write_index(folder, index)
    return index


def _jobs(split: str, dataset: Dataset, plan: Plan) -> Iterator[Job]:
    order = [position for unit in packing_order(dataset.records) for position in unit]
    start = 0
    for name, end in zip(plan.splits[split].names, plan.splits[split].ends, strict=True):
        yield Job(name, split, tuple(order[start:end]))
        start = end


def _is_finished(folder: Path, name: str) -> bool:
    """Whether a shard is as it was written, by its size."""
    path = folder / name
    if not (path.is_file() and rows_path(folder, name).is_file()):
        return False
    try:
        shard, _ = read_rows(folder, name)
    except ValueError:
        return False
    return path.stat().st_size == shard.bytes


def _write_all(
    datasets: dict[str, Dataset],
    description: Description,
    folder: Path,
    jobs: list[Job],
    workers: int,
) -> Iterator[str]:
    """Names of the shards as they are finished."""
    num_processes = min(workers, len(jobs)) if len(jobs) > 1 else 0
    initargs = (datasets, description, folder)
    try:
        yield from in_order(
            _work, jobs, num_processes, initializer=_start_worker, initargs=initargs
        )
    finally:
        for job in jobs:  # of processes that were ended
            unfinished_path(folder / job.name).unlink(missing_ok=True)


def write_shard(dataset: Dataset, description: Description, folder: Path, job: Job) -> str:
    """Write one shard, and before it gets its name, where its parts lie.

    Raises:
        FileNotFoundError: A file of the data set is missing.
        ValueError: A file of the data set is damaged.
    """
    classes = description.classes
    content = description_as_json(description)
    content |= {"records": len(dataset.records), "notes": dataset.notes}
    with replacing(folder / job.name) as path:
        rows = []
        with HashedFile(path) as file:
            shard = (
                TarShard(file, content)
                if description.kind == "webdataset"
                else TFRecordShard(file, content, classes)
            )
            for position in job.positions:
                record = dataset.records[position]
                sample = make_sample(record, position, dataset.decode, classes.category_ids)
                rows.append(row_of(sample.content, shard.add(sample)))
            shard.finish()
        finished = Shard(job.name, len(rows), file.size, file.sha256)
        write_rows(folder, finished, rows)
    return job.name


_packing: tuple[dict[str, Dataset], Description, Path] | None = None


def _start_worker(datasets: dict[str, Dataset], description: Description, folder: Path) -> None:
    global _packing
    _packing = (datasets, description, folder)


def _work(job: Job) -> str:
    assert _packing is not None, "_start_worker runs before"
    datasets, description, folder = _packing
    return write_shard(datasets[job.split], description, folder, job)
