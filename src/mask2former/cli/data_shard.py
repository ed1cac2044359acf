"""`mask2former data shard`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.options import FormatName, Json, SplitShares, TaskName, parse_shares
from mask2former.cli.report import Report
from mask2former.suggestions import did_you_mean

if TYPE_CHECKING:
    from mask2former.data.dataset import Dataset
    from mask2former.data.shards.index import Index
    from mask2former.tasks import Task

DEFAULT_SIZE = "256MB"
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def shard(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Data set, in any common format.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="A new folder, or one that was begun.")
    ],
    to: Annotated[str, typer.Option(metavar="KIND", help="webdataset or tfrecord.")] = "webdataset",
    shards: Annotated[
        int | None, typer.Option(metavar="N", help="Files of each split; default: by size.")
    ] = None,
    shard_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help=f"Of a file, such as 1GB; default: {DEFAULT_SIZE}."),
    ] = None,
    task: TaskName = None,
    data_format: FormatName = None,
    fractions: SplitShares = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Processes; default: one per core.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all shards again and compare their hashes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pack a data set into a few large files; a stopped run goes on where it was."""
    report = Report(as_json)
    with report.working():
        from mask2former.data.shards.index import KINDS
        from mask2former.data.shards.pack import pack
        from mask2former.data.shards.plan import make_plan
        from mask2former.data.shards.verify import verify as find_faults
        from mask2former.processes import num_workers

        kind = next((kind for kind in KINDS if kind == to), None)
        if kind is None:
            raise ValueError(f"no kind of shards {to}; {did_you_mean(to, KINDS)}")
        if shards is not None and shard_size is not None:
            raise ValueError("--shards and --shard-size contradict each other; give one of them")
        size = None if shards is not None else parse_size(shard_size or DEFAULT_SIZE)
        datasets = _open_splits(data.resolve(), task, data_format, fractions)
        plan = make_plan(datasets, kind, num_shards=shards, shard_bytes=size)
        workers = num_workers(workers, sum(map(len, datasets.values())))
        index = pack(datasets, plan, output, workers=workers, progress=report.progress)
        faults = find_faults(output, report.progress) if verify else []
    if faults:
        raise ValueError("; ".join(faults))
    _show(report, output, index)
    report.finish(
        {
            "output": output,
            "format": kind,
            "tasks": index.description.tasks,
            "classes": index.description.classes.names,
            "splits": {
                name: {
                    "images": sum(each.records for each in split.shards),
                    "bytes": sum(each.bytes for each in split.shards),
                    "shards": [each.name for each in split.shards],
                }
                for name, split in index.splits.items()
            },
        },
        ["mask2former", "train", "--data", str(output)],
    )


def parse_size(text: str) -> int:
    """Bytes of `256MB`, `1.5 GiB` or `4096`.

    Raises:
        ValueError: The text is no such size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B)?\s*", text, re.IGNORECASE)
    unit = UNITS.get((match[2] or "B").upper()) if match else None
    if match is None or unit is None:
        raise ValueError(f"--shard-size {text} is no size; write for example {DEFAULT_SIZE} or 1GB")
    return int(float(match[1]) * unit)


def _open_splits(
    folder: Path, task: "Task | None", data_format: str | None, fractions: str | None
) -> "dict[str, Dataset]":
    """Every split; a folder that is not split is packed whole, unless fractions are given."""
    from mask2former.data.derive import for_task
    from mask2former.data.open import open_every_split

    shares = parse_shares(fractions)
    datasets = open_every_split(folder, task=task, format=data_format, fractions=shares)
    if task is None:
        return datasets
    return {name: for_task(dataset, task) for name, dataset in datasets.items()}


def _show(report: Report, output: Path, index: "Index") -> None:
    description = index.description
    count = len(description.classes)
    report.text(
        f"{output}: {description.kind}, {', '.join(description.tasks)}, "
        f"{count} class{'es' * (count != 1)}"
    )
    report.table(
        ["split", "images", "shards", "MB"],
        [
            [
                name,
                str(sum(each.records for each in split.shards)),
                str(len(split.shards)),
                f"{sum(each.bytes for each in split.shards) / 10**6:.1f}",
            ]
            for name, split in index.splits.items()
        ],
    )
