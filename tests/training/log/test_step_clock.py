"""Times of steps, by a clock that the test turns."""

import time

import pytest
import torch

from mask2former.training.log import step_clock
from mask2former.training.log.step_clock import StepClock, StepTimes

CPU = torch.device("cpu")


class Hand:
    """Turns the clock of the process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(step_clock.time, "perf_counter", lambda: self.now)

    def step(self, clock: StepClock, *, data: float, compute: float) -> None:
        self.now += data
        clock.step_begins()
        self.now += compute
        clock.step_ends()


def test_waiting_is_told_from_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    hand, clock = Hand(monkeypatch), StepClock(CPU)
    # what came before the first step is the start of the run
    hand.step(clock, data=50.0, compute=2.0)
    hand.step(clock, data=1.0, compute=4.0)
    assert clock.read() == pytest.approx((0.5, 3.0))
    hand.step(clock, data=0.25, compute=1.0)
    assert clock.read() == pytest.approx((0.25, 1.0))


def test_what_is_left_out_is_part_of_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    hand, clock = Hand(monkeypatch), StepClock(CPU)
    hand.step(clock, data=0.0, compute=2.0)
    hand.now += 60.0  # scoring
    clock.leave_out()
    hand.step(clock, data=1.0, compute=2.0)
    assert clock.read() == pytest.approx((0.5, 2.0))


def test_an_accelerator_is_asked_about_what_it_has_done_alone(monkeypatch) -> None:
    waited = []

    class Event:
        """Of a device that is always one event behind."""

        made = 0
        done = -2

        def record(self) -> None:
            self.place, Event.made = Event.made, Event.made + 1
            Event.done += 1

        def query(self) -> bool:
            return self.place <= Event.done

        def synchronize(self) -> None:
            if self.place > Event.done:
                waited.append(self.place)

        def elapsed_time(self, later: "Event") -> float:
            assert later.place == self.place + 1
            # a step computes for 30 ms, after 10 ms without a batch
            return 30.0 if self.place % 2 == 0 else 10.0

    monkeypatch.setattr(step_clock.torch, "Event", lambda *_, **__: Event())
    clock = StepClock(torch.device("cuda"))
    Event.made, Event.done = 0, -2
    waited.clear()  # of finding out whether it can
    for _ in range(50):
        clock.step_begins()
        clock.step_ends()
    assert waited == []
    assert len(clock._pending) < 5
    # 49 waits of 10 ms and 50 steps of 30 ms
    assert clock.read() == pytest.approx((49 * 0.01 / 50, 0.03))
    assert waited == [99]


def test_values_are_those_that_are_logged() -> None:
    assert StepTimes(0.5, 1.5).values(images_per_step=16) == {
        "seconds_per_step": 2.0,
        "seconds_data": 0.5,
        "seconds_compute": 1.5,
        "images_per_second": 8.0,
    }


def test_a_clock_is_read_after_a_step() -> None:
    clock = StepClock(CPU)
    with pytest.raises(RuntimeError, match="no step ended"):
        clock.read()
    with pytest.raises(RuntimeError, match="call step_begins before it"):
        clock.step_ends()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_is_busy_does_not_wait_for_data() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    matrix = torch.rand(4096, 4096, device=device)
    clock = StepClock(device)
    for seconds in (0.0, 0.0, 0.1):  # of fetching the next batch
        clock.step_begins()
        for _ in range(200):
            matrix @ matrix
        clock.step_ends()
        if seconds:
            torch.cuda.synchronize()
        time.sleep(seconds)
    clock.step_begins()
    clock.step_ends()
    times = clock.read()
    assert 4 * times.seconds_data == pytest.approx(0.1, abs=0.02)
    assert times.seconds_compute > 0.001
