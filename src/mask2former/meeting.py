"""How the processes of a run find each other, and what they share of a machine."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from itertools import count
from typing import TypeVar

import torch
from torch.distributed import PrefixStore, Store, TCPStore

from mask2former.processes import num_cores
from mask2former.ranks import Place

T = TypeVar("T")
TIME_TO_COME = timedelta(minutes=30)
"""For all ranks to start: a cluster may load PyTorch from a slow disk."""

_meetings = count()


def meet(place: Place) -> tuple[Store, int]:
    """Wait for all ranks.

    Returns:
        What they write to, and the number of those that share this one's cores.

    Raises:
        RuntimeError: Not all came.
    """
    attempt = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_meetings)}"
    try:
        server = _in_thread(lambda: _open_store(place))
        store = PrefixStore(f"mask2former/{attempt}", server)
        store.set(f"cores/{place.rank}", json.dumps(_own_cores()))
        if store.add("came", 1) == place.world_size:
            store.set("all", "")
        _wait_for_all(store, place)
        cores = [json.loads(store.get(f"cores/{other}")) for other in range(place.world_size)]
    except RuntimeError as error:
        raise RuntimeError(
            f"rank {place.rank} of {place.world_size} did not meet the others at "
            f"{place.address}:{place.port} ({str(error).splitlines()[0]}); see whether they "
            "failed, and that the port is free there and reached from here"
        ) from error
    return store, count_sharing(place.rank, cores)


def count_sharing(rank: int, cores: list[list[str]]) -> int:
    """Of the ranks, those that may use some core of this one, itself among them.

    Args:
        rank: This one.
        cores: Names of those that each rank may use.
    """
    own = set(cores[rank])
    return sum(not own.isdisjoint(others) for others in cores)


@contextmanager
def threads_shared_out(num_sharing: int) -> Iterator[None]:
    """PyTorch takes its part of the cores, unless OMP_NUM_THREADS is set, as torchrun does.

    Args:
        num_sharing: Processes that use the cores of this one, itself among them.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, num_cores() // num_sharing))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _wait_for_all(store: Store, place: Place) -> None:
    """Ask now and then: the store's own way of waiting cannot be interrupted."""
    end = time.monotonic() + TIME_TO_COME.total_seconds()
    while not store.check(["all"]):
        if time.monotonic() > end:
            missing = [r for r in range(place.world_size) if not store.check([f"cores/{r}"])]
            raise RuntimeError(f"within {TIME_TO_COME} these ranks did not come: {missing}")
        time.sleep(0.05)


@lru_cache(maxsize=1)
def _open_store(place: Place) -> Store:
    """Of the whole process: torchrun's own, else one that rank 0 serves."""
    is_served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return TCPStore(
        place.address,
        place.port,
        place.world_size,
        is_master=place.rank == 0 and not is_served,
        timeout=TIME_TO_COME,
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=place.listener,
        use_libuv=sys.platform != "win32",  # PyTorch has none there
    )


def _in_thread(call: Callable[[], T]) -> T:
    """The result of a call into C++ that signals do not reach, so that Ctrl-C ends the wait."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future.result()


def _own_cores() -> list[str]:
    """Names of the cores that this process may use, unlike those of any other machine."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    cores = os.sched_getaffinity(0) if has_affinity else range(num_cores())
    return [f"{socket.gethostname()}/{core}" for core in cores]
