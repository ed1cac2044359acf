"""The call that is running, and the same one in several processes."""

from collections.abc import Sequence
from contextvars import ContextVar

import typer

from mask2former.launch import launched, run_processes
from mask2former.processes import num_cores

WORDS: ContextVar[Sequence[str]] = ContextVar("WORDS")
"""As typed, without the program's name."""


def run_again_in_processes(count: int) -> None:
    """Start the same call in several processes instead of this one, and end as they do.

    Nothing happens for one process, or in one of those.

    Raises:
        ValueError: There are more processes than cores.
        typer.Exit: When they have ended.
    """
    if count == 1 or launched():
        return
    if count > num_cores():
        raise ValueError(
            f"--devices {count} asks for as many processes, but this machine lets {num_cores()} "
            f"run at once; give at most {num_cores()}"
        )
    raise typer.Exit(run_processes(count, WORDS.get()))
