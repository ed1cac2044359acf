"""What one sees while a run goes on: a bar on a terminal, lines elsewhere."""

import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

RECENT = 10
"""Logged values whose mean speed says how long the rest takes."""


class ProgressLine:
    """Step, time left, losses, learning rate, times of a step, speed, memory: on standard error."""

    def __init__(
        self,
        num_steps: int,
        first_step: int,
        *,
        device: torch.device,
        score_every: int | None = None,
    ) -> None:
        """Start.

        Args:
            num_steps: Of the whole run.
            first_step: Steps that were done before.
            device: Whose memory is shown.
            score_every: Steps between two scorings, which the time left includes; none: no scoring.
        """
        self.num_steps, self.device = num_steps, device
        self.time_left = TimeLeft(num_steps, first_step, score_every)
        console = Console(stderr=True)
        self.bar = None
        if console.is_terminal:
            columns = (BarColumn(bar_width=20), TextColumn("{task.description}"))
            self.bar = Progress(*columns, console=console)
            self.task = self.bar.add_task("", total=num_steps, completed=first_step)
            self.bar.start()

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Show the state after `step` steps; `values` are the logged ones."""
        line = progress_line(
            step,
            self.num_steps,
            values,
            seconds_left=self.time_left.after(step, values["seconds_per_step"]),
            memory_gib=used_memory(self.device) / 2**30,
        )
        if self.bar is None:
            with suppress(OSError):  # it may go to a file on a full disk, or to nobody any more
                print(line, file=sys.stderr, flush=True)  # noqa: T201
        else:
            self.bar.update(self.task, completed=step, description=line)

    def scoring(self, done: int, total: int) -> None:
        """Show how far a scoring has come, on a terminal.

        Args:
            done: Images.
            total: Of all processes.
        """
        if self.bar is not None:
            self.bar.update(self.task, description=f"evaluating: {done} of {total} images")

    def scored(self, seconds: float) -> None:
        """Take note of how long a scoring took, with all that was saved after it."""
        self.time_left.scored(seconds)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()


class TimeLeft:
    """How long the rest of a run takes at its recent speed."""

    def __init__(self, num_steps: int, first_step: int, score_every: int | None) -> None:
        """As of `ProgressLine`."""
        self._num_steps, self._step, self._score_every = num_steps, first_step, score_every
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)
        self._scoring: deque[float] = deque(maxlen=RECENT)

    def scored(self, seconds: float) -> None:
        """Take note of one scoring."""
        self._scoring.append(seconds)

    def after(self, step: int, seconds_per_step: float) -> float:
        """Seconds left after a step, without those of its own scoring.

        Args:
            step: Done so far.
            seconds_per_step: The mean since the last call, without scoring.
        """
        steps = step - self._step
        self._recent.append((steps, seconds_per_step * steps))
        self._step = step
        num_recent = sum(count for count, _ in self._recent)
        speed = sum(seconds for _, seconds in self._recent) / max(num_recent, 1)
        return speed * (self._num_steps - step) + self._scoring_after(step)

    def _scoring_after(self, step: int) -> float:
        """Of those after the next steps; a run ends with one."""
        if self._score_every is None or not self._scoring or step == self._num_steps:
            return 0.0
        mean = sum(self._scoring) / len(self._scoring)
        return mean * (-(-self._num_steps // self._score_every) - step // self._score_every)


def progress_line(
    step: int,
    num_steps: int,
    values: Mapping[str, float],
    *,
    seconds_left: float,
    memory_gib: float,
) -> str:
    """One line of text.

    Args:
        step: Done so far.
        num_steps: Of the whole run.
        values: With `loss`, `loss_class`, `loss_mask`, `loss_dice`, `lr`, `seconds_per_step`; of a
            clock also `seconds_data`, `seconds_compute`, `images_per_second`.
        seconds_left: Of the run.
        memory_gib: In use.
    """
    left = timedelta(seconds=round(seconds_left))
    speed = f"{values['seconds_per_step']:.2f} s/step"
    if "seconds_data" in values:
        speed += (
            f" (data {values['seconds_data']:.2f} compute {values['seconds_compute']:.2f})  "
            f"{values['images_per_second']:.1f} images/s"
        )
    return (
        f"{step}/{num_steps}  {left} left  loss {values['loss']:.2f} (class "
        f"{values['loss_class']:.2f} mask {values['loss_mask']:.2f} dice "
        f"{values['loss_dice']:.2f})  lr {values['lr']:.1e}  {speed}  {memory_gib:.1f} GiB"
    )


def used_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on an accelerator, or that the process took on a CPU.

    0 where the system does not say.
    """
    if device.type == "cpu":
        try:
            import resource
        except ImportError:  # on Windows
            return 0
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    try:
        return torch.accelerator.max_memory_allocated(device)
    except RuntimeError:  # its allocator does not count
        return 0
