"""Work spread over processes, with results in order."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
LOOK_AHEAD = 4
"""Calls per process that may be under way, so that neither items nor results pile up."""
FEW_ITEMS = 200
"""So many images are read or written sooner than processes start."""


def num_cores() -> int:
    """Cores that this process may use; a container may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def num_workers(asked: int | None, items: int) -> int:
    """Processes for so many images: as asked, else one per core if there are more than a few."""
    if asked is not None:
        return asked
    return num_cores() if items > FEW_ITEMS else 0


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    *,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[R]:
    """The results of a function for all items, in their order.

    The processes end with this one, however it ends, and when the iterator is closed: a call that
    is under way then is not finished.

    Args:
        function: Picklable if there are workers, as are items and results.
        items: Taken when their turn comes, a few ahead.
        workers: Processes; 0 calls in this one.
        initializer: Called first in every process.
        initargs: Its arguments.

    Raises:
        Exception: What the function raised, as it was; `raised_in` tells where.
        RuntimeError: A process was ended from outside.
    """
    if workers == 0:
        if initializer is not None:
            initializer(*initargs)
        yield from map(function, items)
        return
    context = _context(function)
    held, holding = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (held, initializer, initargs))
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(partial(_call, function), item))
            if len(waiting) > LOOK_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"one of {workers} processes was ended from outside, most likely for lack of memory; "
            f"use fewer workers"
        ) from error
    finally:
        holding.close()  # ends the processes that are at work
        pool.shutdown(cancel_futures=True)
        held.close()


def raised_in(error: BaseException) -> str:
    """Name of the module that raised an error, in this process or in one of `in_order`."""
    if _RAISED_IN in error.__dict__:
        return error.__dict__[_RAISED_IN]
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0].f_globals.get("__name__", "") if frames else ""


_RAISED_IN = "raised_in_module"


def _context(function: Callable[[T], R]) -> BaseContext:
    """Processes are not forked from this one: the copy of one with threads may wait forever.

    They are forked from a process without threads that has imported what the function needs, so
    that they share the memory of it: PyTorch alone takes a third of a GiB.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():  # not on Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    while isinstance(function, partial):
        function = function.func
    context.set_forkserver_preload([function.__module__])
    return context


def _call(function: Callable[[T], R], item: T) -> R:
    try:
        return function(item)
    except Exception as error:
        # tracebacks do not travel between processes, attributes do
        error.__dict__[_RAISED_IN] = raised_in(error)
        raise


def _start_worker(
    held: Connection, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent ends this one
    threading.Thread(target=_end_with_parent, args=(held,), daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent(held: Connection) -> None:
    parent = multiprocessing.parent_process()
    wait([held] if parent is None else [held, parent.sentinel])
    os._exit(1)
