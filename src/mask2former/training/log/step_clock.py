"""How long steps take, and how much of that is waiting for data."""

import time
from collections import deque
from typing import NamedTuple, Protocol, runtime_checkable

import torch


class StepTimes(NamedTuple):
    """Means over some steps."""

    seconds_data: float
    """Of a step, in which the device had nothing to do because the next batch was not there."""
    seconds_compute: float

    def values(self, images_per_step: int) -> dict[str, float]:
        """As they are logged.

        Args:
            images_per_step: Over all ranks.
        """
        seconds = self.seconds_data + self.seconds_compute
        return {
            "seconds_per_step": seconds,
            "seconds_data": self.seconds_data,
            "seconds_compute": self.seconds_compute,
            "images_per_second": images_per_step / max(seconds, 1e-9),
        }


@runtime_checkable
class Moment(Protocol):
    """A point in time."""

    def has_come(self) -> bool:
        """Whether the device has got there."""

    def seconds_since(self, earlier: "Moment") -> float:
        """Waits for the device if it has not got there."""


class HostMoment:
    """Now, by the clock of the process."""

    def __init__(self) -> None:
        self.seconds = time.perf_counter()

    def has_come(self) -> bool:
        return True

    def seconds_since(self, earlier: Moment) -> float:
        assert isinstance(earlier, HostMoment)
        return self.seconds - earlier.seconds


class DeviceMoment:
    """When an accelerator is done with all that was asked of it so far."""

    def __init__(self, device: torch.device) -> None:
        self.event = torch.Event(device, enable_timing=True)
        self.event.record()

    def has_come(self) -> bool:
        return self.event.query()

    def seconds_since(self, earlier: Moment) -> float:
        assert isinstance(earlier, DeviceMoment)
        self.event.synchronize()
        return earlier.event.elapsed_time(self.event) / 1000


class StepClock:
    """Tells the time of a step that is spent waiting for data from the time that is computed.

    An accelerator works behind the process that asks it to, which may fetch the next batch
    meanwhile: that is no waiting. So moments are events in the accelerator's own queue, read when
    they have passed; nothing waits for it before `read`.
    """

    def __init__(self, device: torch.device) -> None:
        """Start with nothing measured.

        Args:
            device: That computes.
        """
        self._device = device
        self._on_device = device.type != "cpu" and times_events(device)
        self._pending: deque[tuple[Moment, Moment, bool]] = deque()  # begin, end, is it data
        self._begin: Moment | None = None
        self._end: Moment | None = None
        self._seconds = {True: 0.0, False: 0.0}
        self._steps = 0

    def step_begins(self) -> None:
        """The batch is there."""
        self._begin = self._now()
        if self._end is not None:
            self._pending.append((self._end, self._begin, True))

    def step_ends(self) -> None:
        """All work on the batch was asked for.

        Raises:
            RuntimeError: No step began.
        """
        if self._begin is None:
            raise RuntimeError("a step ends that did not begin; call step_begins before it")
        self._end = self._now()
        self._pending.append((self._begin, self._end, False))
        self._begin = None
        self._steps += 1
        while self._pending and self._pending[0][1].has_come():
            self._take()

    def leave_out(self) -> None:
        """What happened since the last step, such as scoring, is no part of any step."""
        if self._end is not None:
            self._end = self._now()

    def read(self) -> StepTimes:
        """Means over the steps since the last reading; waits until the device is done with them.

        Raises:
            RuntimeError: There was none.
        """
        if not self._steps:
            raise RuntimeError("no step ended since the last reading; read after one")
        while self._pending:
            self._take()
        times = StepTimes(self._seconds[True] / self._steps, self._seconds[False] / self._steps)
        self._seconds = {True: 0.0, False: 0.0}
        self._steps = 0
        return times

    def _now(self) -> Moment:
        return DeviceMoment(self._device) if self._on_device else HostMoment()

    def _take(self) -> None:
        begin, end, is_data = self._pending.popleft()
        self._seconds[is_data] += end.seconds_since(begin)


def times_events(device: torch.device) -> bool:
    """Whether an accelerator says when it got to a point in its queue; some plug-ins do not."""
    try:
        earlier = DeviceMoment(device)
        DeviceMoment(device).seconds_since(earlier)
    except (RuntimeError, NotImplementedError):
        return False
    return True
