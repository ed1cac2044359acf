"""Requests to stop: a signal is noted, and looked at after each step."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mask2former.distributed import mean_over_ranks, world_size
from mask2former.launch import launched

REQUEUE_SIGNAL = getattr(signal, "SIGUSR1", None)  # not on Windows
"""What SLURM is asked to send before the end of a job's time (`--signal=USR1@120`)."""
SIGNALS: Sequence[int] = tuple(
    int(number) for number in (signal.SIGINT, signal.SIGTERM, REQUEUE_SIGNAL) if number is not None
)
"""What is listened to, the most urgent first."""
NOTICE = b"\nstopping after this step; Ctrl-C once more stops at once\n"


class Stopped(KeyboardInterrupt):
    """A run ended on request, its state saved."""

    def __init__(self, number: int, *, requeued: bool = False) -> None:
        """Say why.

        Args:
            number: Of the signal.
            requeued: A scheduler has been asked to start the run again.
        """
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number
        self.exit_code = 0 if requeued else 128 + number
        """As shells count signals, so that a run that is to go on does not pass for one that is
        done; nothing is left to do for a job that is queued again."""


class StopRequests:
    """Notes the first signal that asks this process to end; a second one ends it at once.

    As a context manager around a run. Signals that were ignored before stay ignored, and one of
    several processes of a launcher leaves it to the launcher to insist; once it has left the run it
    does not hear SIGUSR1, which the system may have sent as well. Where signals cannot be listened
    to, outside the main thread, none is ever noted.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """Of the signal that came."""
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {n: handler for n, handler in before.items() if _can_listen(handler)}
            self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_listening()
        if launched() and REQUEUE_SIGNAL in self._before:
            signal.signal(REQUEUE_SIGNAL, signal.SIG_IGN)

    def listen(self) -> None:
        """Put the handlers in place again, which a library has replaced by its own meanwhile."""
        for number in self._before:
            signal.signal(number, self._note)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it one signal is enough: all that is worth keeping has been saved.

        SIGUSR1 is noted, and raises KeyboardInterrupt.
        """
        self._stop_listening()
        if REQUEUE_SIGNAL in self._before:
            signal.signal(REQUEUE_SIGNAL, self._interrupt)
        try:
            yield
        finally:
            self.listen()

    def _stop_listening(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        if os.getpid() == self._process:
            self.number = number
            raise KeyboardInterrupt

    def _note(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a copy of this one that loads data
            return
        if self.number is None:
            self.number = number
            if number == signal.SIGINT:
                os.write(2, NOTICE)  # buffered streams may be in use just now
        elif not launched():
            self._stop_listening()
            signal.raise_signal(number)


def any_rank_asked(number: int | None) -> int | None:
    """The signal that came to any of the ranks, so that all of them stop after the same step.

    All ranks call it. With several it exchanges as many numbers as there are signals, through the
    CPU: an accelerator goes on working meanwhile.

    Args:
        number: Of the signal that came to this rank.

    Returns:
        The most urgent, the same on all ranks; none if none came.
    """
    if world_size() == 1:
        return number
    import torch

    flags = [float(number == each) for each in SIGNALS]
    came = mean_over_ranks(flags, torch.device("cpu")).tolist()
    return next((each for each, share in zip(SIGNALS, came, strict=True) if share > 0), None)


def shield_worker(_: int) -> None:
    """For processes that load data (`DataLoader(worker_init_fn=...)`).

    A terminal or a scheduler signals the whole group of processes; those that load data must
    outlive it, or else the step fails. They end with the one that they work for.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _can_listen(handler: Any) -> bool:
    """None is a handler that another language installed, which cannot be put back."""
    return handler is not None and handler != signal.SIG_IGN
