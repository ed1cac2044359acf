"""What a command says: text and tables for people, or one JSON object for programs."""

import dataclasses
import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

from mask2former.distributed import is_main

T = TypeVar("T")
LONGEST_NAME = 24
"""Characters of a first column that are never broken."""


class Report:
    """Text goes to standard output, or out of the way of the JSON object to standard error.

    Of several processes only the main one writes it.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(
            stderr=as_json, quiet=not is_main(), markup=False, highlight=False, emoji=False
        )

    @contextmanager
    def working(self) -> Iterator[None]:
        """While libraries run: what they print does not reach the JSON reader."""
        if self._as_json:
            with redirect_stdout(sys.stderr):
                yield
        else:
            yield

    def text(self, line: str) -> None:
        """One line, never wrapped, so that paths and commands can be copied."""
        self._console.print(line, soft_wrap=True)

    def progress(self, items: Iterable[T], count: int) -> Iterable[T]:
        """The items, with a bar on standard error while they come; one for several processes."""
        if not is_main():
            return items
        console = Console(stderr=True)
        return track(items, description="", total=count, console=console, transient=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under their columns; names in the first stay whole, numbers are aligned right."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        widest = min(LONGEST_NAME, max(len(row[0]) for row in [columns, *rows]))
        for i, column in enumerate(columns):
            numeric = i > 0 and all(_looks_numeric(row[i]) for row in rows)
            table.add_column(
                column,
                justify="right" if numeric else "left",
                overflow="fold",
                min_width=widest if i == 0 else None,
                no_wrap=numeric,
            )
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def finish(self, answer: Mapping[str, Any], next_command: Sequence[str]) -> None:
        """The object for programs; for people, the command to type next."""
        self.text(f"\nnext: {shlex.join(next_command)}")
        if self._as_json:
            sys.stdout.write(json.dumps(as_plain(answer), indent=2, allow_nan=False) + "\n")


def as_plain(value: Any) -> Any:
    """Values that JSON has: a path is text, a number that is not finite is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def percent(value: float | None) -> str:
    """One decimal, as results are published; a dash for what cannot be computed."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.1f}"


def _looks_numeric(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).isdigit() or cell in ("", "-")
