"""Where the time of an evaluation went."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

CPU = torch.device("cpu")


class Stopwatch:
    """Time by what it was spent on; waits for the device, so that its work is counted right."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.images = 0

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def speed(clocks: Sequence[Stopwatch]) -> dict[str, float]:
    """Images per second of all processes, and the share that each part has of their time.

    Args:
        clocks: One a process. The slowest process says how long all of them took.
    """
    images = sum(clock.images for clock in clocks)
    slowest = max(sum(clock.seconds.values()) for clock in clocks)
    total = sum(sum(clock.seconds.values()) for clock in clocks)
    if not images or not slowest:
        return {}
    parts = dict.fromkeys(part for clock in clocks for part in clock.seconds)
    shares = {p: sum(clock.seconds.get(p, 0.0) for clock in clocks) / total for p in parts}
    return {"images_per_second": images / slowest, **shares}
