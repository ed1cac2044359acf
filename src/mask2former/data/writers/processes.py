"""Work spread over processes, with results in order."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
WAITING = 4
"""Calls per process that may be under way, so that neither inputs nor results pile up."""


def in_order(calls: Iterable[tuple[Callable[[A], B], A]], workers: int) -> Iterator[tuple[A, B]]:
    """Call functions; yield each argument with its result, in the order of the calls.

    Args:
        calls: (function, argument), picklable if there are workers.
        workers: Processes; 0 calls in this one.

    Raises:
        Exception: Whatever a function raises; later calls are given up.
    """
    if workers == 0:
        for function, argument in calls:
            yield argument, function(argument)
        return
    # spawned, because the copy of a process with threads that `fork` makes may wait forever
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: deque[tuple[A, Future[B]]] = deque()
        try:
            for function, argument in calls:
                waiting.append((argument, pool.submit(function, argument)))
                if len(waiting) > WAITING * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
