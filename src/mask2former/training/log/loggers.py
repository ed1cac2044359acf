"""Where a run's values and pictures go: files, TensorBoard, and services by name."""

import csv
import io
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from mask2former.config import Run
from mask2former.config_io import format_run
from mask2former.config_training import LoggerName
from mask2former.files import append_whole, replacing
from mask2former.training.log.metrics_file import MetricsFile
from mask2former.training.plots.curves import LOG_NAME

logger = logging.getLogger(__name__)

CSV_NAME = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"
FILES = (LOG_NAME, "csv")
"""Places that nothing but a full disk keeps from being written to, which may not last."""
INSTALL: Mapping[LoggerName, str] = {
    "tensorboard": "pip install 'mask2former[train]'",
    "wandb": "pip install wandb",
    "mlflow": "pip install mlflow",
}
"""By the package that a logger needs, which has its name."""


@runtime_checkable
class RunLogger(Protocol):
    """A place that values and pictures of a run go to."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values after a step.

        Args:
            step: At least that of the call before, but for the first call of a resumed run.
            values: By name; NaN where one is undefined.
        """

    def log_picture(self, name: str, step: int, path: Path) -> None:
        """A picture file, one of several steps' under its name."""

    def log_config(self, run: Run) -> None:
        """The configuration, before everything else."""

    def close(self) -> None:
        """All has been said."""


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Look for the packages before a run starts.

    Raises:
        ValueError: One is not installed.
    """
    for name in names:
        if name in INSTALL and find_spec(name) is None:
            raise ValueError(
                f"training.loggers names {name}, which is not installed; run: {INSTALL[name]}, or "
                "take it out of training.loggers"
            )


class RunLoggers:
    """`metrics.jsonl`, and all that a run's configuration names, as one logger.

    A run does not end because a place cannot be reached: one that fails is left out from then on,
    with a warning. Only plain files are tried again each time.
    """

    def __init__(self, output: Path, names: Sequence[LoggerName]) -> None:
        """Open them; in the main process alone.

        Args:
            output: The run's folder, which is there.
            names: Besides `metrics.jsonl`.

        Raises:
            ValueError: The package of one is missing.
        """
        check_loggers(names)
        self._failing: set[str] = set()
        self.file = MetricsFile(output / LOG_NAME)
        self._places: dict[str, RunLogger] = {LOG_NAME: JsonLines(self.file)}
        for name in dict.fromkeys(names):
            self._places[name] = OPEN[name](output)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `RunLogger`."""
        self._tell(lambda place: place.log(step, values))

    def log_picture(self, name: str, step: int, path: Path) -> None:
        """See `RunLogger`."""
        self._tell(lambda place: place.log_picture(name, step, path))

    def log_config(self, run: Run) -> None:
        """See `RunLogger`."""
        self._tell(lambda place: place.log_config(run))

    def close(self) -> None:
        """See `RunLogger`."""
        self._tell(lambda place: place.close())

    def _tell(self, call: Callable[[RunLogger], None]) -> None:
        for name, place in list(self._places.items()):
            try:
                call(place)
            except Exception as error:  # whatever a service's library raises
                if name in FILES:
                    self._tell_once(name, error)
                    continue
                logger.warning("%s failed and gets nothing more of this run: %s", name, error)
                del self._places[name]
            else:
                self._failing.discard(name)

    def _tell_once(self, name: str, error: Exception) -> None:
        """Until it works again."""
        if name not in self._failing:
            logger.warning("%s cannot be written (%s); the next values are tried", name, error)
        self._failing.add(name)


class JsonLines:
    """A JSON object a line: the step, and the values of one call; null for NaN."""

    def __init__(self, file: MetricsFile) -> None:
        self._file = file

    def log(self, step: int, values: Mapping[str, float]) -> None:
        known = {name: None if math.isnan(value) else value for name, value in values.items()}
        self._file.append({"step": step, **known})

    def log_picture(self, name: str, step: int, path: Path) -> None:
        """The picture is a file of the run already."""

    def log_config(self, run: Run) -> None:
        """The configuration is a file of the run already."""

    def close(self) -> None:
        """Nothing is open between two calls."""


class Csv:
    """A table: a row for each call, a column for each name that was ever logged."""

    def __init__(self, path: Path) -> None:
        """Go on with a table that is there.

        Args:
            path: Of the table.
        """
        self._path = path
        self._columns: list[str] = []
        self._is_first = True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A row; columns that are new are added to the table."""
        row = {"step": str(step)} | {n: "" if math.isnan(v) else repr(v) for n, v in values.items()}
        if self._is_first or not row.keys() <= set(self._columns):
            self._rewrite(row, end=step if self._is_first else None)
        self._is_first = False
        line = io.StringIO(newline="")
        csv.DictWriter(line, self._columns).writerow(row)
        append_whole(self._path, line.getvalue().encode())

    def _rewrite(self, row: Mapping[str, str], *, end: int | None) -> None:
        """Keep whole rows of steps before `end`, or all, under all columns."""
        rows: list[dict[str, str]] = []
        if self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            reader = csv.DictReader(line for line in lines if line.endswith("\n"))
            self._columns = list(reader.fieldnames or ())
            rows = [kept for kept in reader if end is None or int(kept["step"]) < end]
        self._columns += [name for name in row if name not in self._columns]
        with (
            replacing(self._path) as unfinished,
            unfinished.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)

    def log_picture(self, name: str, step: int, path: Path) -> None:
        """A table has no pictures."""

    def log_config(self, run: Run) -> None:
        """The configuration is a file of the run already."""

    def close(self) -> None:
        """Nothing is open between two calls."""


class TensorBoard:
    """Event files for `tensorboard --logdir RUN`."""

    def __init__(self, folder: Path) -> None:
        """Go on with events that are there.

        Args:
            folder: Of the events.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._make = SummaryWriter
        self._writer: Any = None

    def _open(self, step: int) -> Any:
        """Events of a resumed run from this step on no longer count."""
        if self._writer is None:
            again = self._folder.is_dir() and any(self._folder.iterdir())
            self._writer = self._make(str(self._folder), purge_step=step if again else None)
        return self._writer

    def log(self, step: int, values: Mapping[str, float]) -> None:
        writer = self._open(step)
        for name, value in values.items():
            if not math.isnan(value):
                writer.add_scalar(name, value, step)

    def log_picture(self, name: str, step: int, path: Path) -> None:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._open(step).add_image(name, pixels, step, dataformats="HWC")

    def log_config(self, run: Run) -> None:
        """As text; of a resumed run it is there already."""
        if not self._folder.is_dir():
            self._open(0).add_text("configuration", f"```yaml\n{format_run(run)}```", 0)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _open_wandb(output: Path) -> RunLogger:
    from mask2former.training.log.services import Wandb

    return Wandb(output)


def _open_mlflow(output: Path) -> RunLogger:
    from mask2former.training.log.services import Mlflow

    return Mlflow(output)


OPEN: Mapping[LoggerName, Callable[[Path], RunLogger]] = {
    "tensorboard": lambda output: TensorBoard(output / TENSORBOARD_FOLDER),
    "csv": lambda output: Csv(output / CSV_NAME),
    "wandb": _open_wandb,
    "mlflow": _open_mlflow,
}
