"""Options that several commands share."""

from typing import Annotated, TypeAlias

import typer

from mask2former.suggestions import did_you_mean
from mask2former.tasks import TASKS


def check_task(name: str | None) -> str | None:
    """Refuse a task that there is not."""
    if name is not None and name not in TASKS:
        raise typer.BadParameter(f"no task {name}; {did_you_mean(name, TASKS)}")
    return name


Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; text goes to standard error.")
]
Device: TypeAlias = Annotated[
    str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, mps or any PyTorch device.")
]
TaskName: TypeAlias = Annotated[
    str | None,
    typer.Option("--task", metavar="TASK", help="|".join(TASKS) + ".", callback=check_task),
]
Weights: TypeAlias = Annotated[
    str, typer.Option(metavar="W", help="A run's folder or a .safetensors file.")
]
