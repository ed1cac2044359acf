"""Work spread over processes: results in order, errors as they were, nothing left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mask2former.processes import LOOK_AHEAD, in_order, num_cores, num_workers, raised_in

SCRIPT = """
import os, signal, sys, time
from mask2former.processes import in_order

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start it without

def work(seconds):
    print(os.getpid(), flush=True)
    time.sleep(seconds)

if __name__ == "__main__":
    for _ in in_order(work, [0, 0, 600, 600, 600], 2):
        pass
"""


def halve(number: int) -> float:
    if number < 0:
        raise ValueError(f"{number} is negative; give another")
    return number / 2


def process_of(number: int) -> int:
    time.sleep(0.05)
    return os.getpid() if number else 0


_added: list[int] = []


def add(number: int) -> None:
    _added.append(number)


def sum_with_added(number: int) -> int:
    return number + sum(_added)


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(in_order(halve, range(40), workers)) == [i / 2 for i in range(40)]


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_are_raised_as_they_were_with_the_module_that_raised_them(workers: int) -> None:
    results = in_order(halve, [4, -1, 6], workers)
    assert next(results) == 2
    with pytest.raises(ValueError, match=r"^-1 is negative; give another$") as raised:
        next(results)
    assert raised_in(raised.value) == __name__
    assert list(results) == []


def test_every_process_is_initialized_once() -> None:
    try:
        for workers in (0, 1):
            results = in_order(sum_with_added, [1, 2], workers, initializer=add, initargs=(10,))
            assert list(results) == [11, 12]
    finally:
        _added.clear()


def test_items_are_taken_only_a_few_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(1, 100):
            taken.append(i)
            yield i

    results = in_order(process_of, items(), 1)
    assert next(results) != os.getpid()
    assert len(taken) == LOOK_AHEAD + 1
    results.close()  # type: ignore[attr-defined]


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(RuntimeError, match="one of 1 processes was ended from outside"):
        list(in_order(os._exit, [3], 1))


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_parent(tmp_path: Path, signal_number: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        try:
            workers = {int(parent.stdout.readline()) for _ in range(4)}
            parent.send_signal(signal_number)
            end = time.monotonic() + 10
            while any(map(is_running, workers)) and time.monotonic() < end:
                time.sleep(0.05)
            assert not any(map(is_running, workers))
        finally:
            parent.kill()


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace")
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone by now, or a system without /proc
        return not Path("/proc/self/stat").is_file()
    return state.rpartition(")")[2].split()[0] != "Z"  # a zombie is none that runs


def test_few_items_need_no_processes() -> None:
    assert num_workers(None, 10) == 0
    assert num_workers(None, 100_000) == num_cores() >= 1
    assert num_workers(3, 10) == 3
