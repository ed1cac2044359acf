"""What one sees while a run goes on: a bar on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class ProgressLine:
    """Step, losses, learning rate, seconds a step, memory and time left, on standard error."""

    def __init__(self, num_steps: int, first_step: int, *, device: torch.device) -> None:
        """Start.

        Args:
            num_steps: Of the whole run.
            first_step: Steps that were done before.
            device: Whose memory is shown.
        """
        self.num_steps, self.first_step, self.device = num_steps, first_step, device
        self.start = time.perf_counter()
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
            elapsed=time.perf_counter() - self.start,
            steps_here=step - self.first_step,
            memory_gib=used_memory(self.device) / 2**30,
        )
        if self.bar is None:
            print(line, file=sys.stderr, flush=True)  # noqa: T201
        else:
            self.bar.update(self.task, completed=step, description=line)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()


def progress_line(
    step: int,
    num_steps: int,
    values: Mapping[str, float],
    *,
    elapsed: float,
    steps_here: int,
    memory_gib: float,
) -> str:
    """One line of text.

    Args:
        step: Done so far.
        num_steps: Of the whole run.
        values: With `loss`, `loss_class`, `loss_mask`, `loss_dice`, `lr`, `seconds_per_step`.
        elapsed: Seconds since this process began.
        steps_here: Steps of this process in that time.
        memory_gib: In use.
    """
    left = timedelta(seconds=round(elapsed / max(steps_here, 1) * (num_steps - step)))
    return (
        f"{step}/{num_steps}  loss {values['loss']:.2f} (class {values['loss_class']:.2f} mask "
        f"{values['loss_mask']:.2f} dice {values['loss_dice']:.2f})  lr {values['lr']:.1e}  "
        f"{values['seconds_per_step']:.2f} s/step  {memory_gib:.1f} GiB  {left} left"
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
    return torch.accelerator.max_memory_allocated(device)
