"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from mask2former.fractions import Fractions, parse_fractions
from mask2former.suggestions import did_you_mean
from mask2former.tasks import TASKS, Task


def parse_task(name: str) -> Task:
    """The task of that name."""
    for task in TASKS:
        if task == name:
            return task
    raise typer.BadParameter(f"no task {name}; {did_you_mean(name, TASKS)}")


def parse_shares(text: str | None) -> Fractions | None:
    """What `SplitShares` says; nothing of nothing."""
    return None if text is None else parse_fractions(text)


Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; text goes to standard error.")
]
Device: TypeAlias = Annotated[
    str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps or any PyTorch device.")
]
Devices: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, help="Processes on this machine, each with a GPU if there are any."
    ),
]
Tta: TypeAlias = Annotated[
    bool, typer.Option("--tta", help="Average over several sizes and mirrored images: slow.")
]
TaskName: TypeAlias = Annotated[
    Task | None,
    typer.Option("--task", metavar="TASK", help="|".join(TASKS) + ".", parser=parse_task),
]
WEIGHTS_HELP = "A run, a checkpoint of any kind, a hub id, or a published preset's name."
Weights: TypeAlias = Annotated[str, typer.Option(metavar="W", help=WEIGHTS_HELP)]
PublishedAs: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="What a foreign checkpoint was published as; says its classes, task and sizes.",
    ),
]
DataFolders: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data set, in any common format. Repeatable: classes of one name are one.",
    ),
]
FormatName: TypeAlias = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Of the data; default: found.")
]
SplitShares: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="A/B",
        help="How to divide a folder that has no splits, such as 0.9/0.1.",
    ),
]
