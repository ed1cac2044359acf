"""Ranks of a run that several processes share; a single process is rank 0 of 1.

torch is imported where a group is joined: a command that only asks for its rank does without.
"""

import io
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from mask2former.ranks import find_place

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

T = TypeVar("T")
TIME_TO_WAIT = timedelta(days=1)
"""For a rank that is slower than the others. One that ends is noticed at once, whatever the time;
only a machine that vanishes without a word is waited for so long."""


TIME_TO_FAIL = 5
"""Seconds for a rank that ended to say why, and for whoever started the ranks to end the others:
torchrun takes the one that fails first for the cause."""


class LostPeerError(RuntimeError):
    """Another process of the run ended; what it said is the reason to look for."""


def rank() -> int:
    """Of this process, from 0; before it joins a group, what its environment says.

    Raises:
        ValueError: The environment is incomplete or contradicts itself.
    """
    group = _joined_group()
    if group is not None:
        return group.get_rank()
    place = find_place()
    return 0 if place is None else place.rank


def world_size() -> int:
    """Number of processes; before this one joins a group, what its environment says.

    Raises:
        ValueError: The environment is incomplete or contradicts itself.
    """
    group = _joined_group()
    if group is not None:
        return group.get_world_size()
    place = find_place()
    return 1 if place is None else place.world_size


def local_rank() -> int:
    """Of this process among those on its machine, from 0.

    Raises:
        ValueError: The environment does not say it, or contradicts itself.
    """
    place = find_place()
    if place is None and world_size() > 1:
        raise ValueError(
            f"LOCAL_RANK is not set in one of {world_size()} processes; start them with torchrun "
            "or srun"
        )
    return 0 if place is None else place.local_rank


def is_main() -> bool:
    """Whether this process is the one that writes files and reports.

    Raises:
        ValueError: The environment is incomplete or contradicts itself.
    """
    return rank() == 0


@contextmanager
def joined(device_type: str = "cpu") -> Iterator[None]:
    """Join the processes that the environment tells of, and leave them at the end.

    They exchange objects through gloo. Those that share cores share their threads out too, unless
    OMP_NUM_THREADS says how many. Nothing happens in a single process, or where a group was joined
    before.

    Args:
        device_type: Of the tensors that they exchange; an accelerator's go by the way that PyTorch
            has for it, such as NCCL.

    Raises:
        ValueError: The environment is incomplete or contradicts itself.
        RuntimeError: Not all processes came.
    """
    place = None if _joined_group() else find_place()
    if place is None:
        yield
        return
    import torch.distributed as dist

    from mask2former.meeting import meet, threads_shared_out

    store, num_sharing = meet(place)
    backend = "gloo"
    if device_type != "cpu":
        backend = f"cpu:gloo,{device_type}:{dist.get_default_backend_for_device(device_type)}"
    dist.init_process_group(
        backend,
        store=store,
        rank=place.rank,
        world_size=place.world_size,
        timeout=TIME_TO_WAIT,
    )
    try:
        with _noticing_lost_peers():
            dist.barrier()  # from here on rank 0, which serves the store, may end first
        with threads_shared_out(num_sharing):
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def main_first() -> Iterator[None]:
    """One process of each machine goes first, so that it downloads what the others then have."""
    if world_size() > 1 and local_rank() > 0:
        broadcast(None)
    yield
    if world_size() > 1 and local_rank() == 0:
        broadcast(None)


def gather(value: T) -> list[T] | None:
    """Every rank's object on rank 0, in the order of ranks; none elsewhere.

    Rank 0 receives one at a time. All ranks call it, and wait for the slower ones.

    Args:
        value: Picklable.

    Raises:
        LostPeerError: Another process ended.
        RuntimeError: The processes have not joined.
    """
    group = _group_of_all()
    if group is None:
        return [value]
    if rank() != 0:
        _send(value, group)
        return None
    return [value, *(_receive(other, group) for other in range(1, world_size()))]


def broadcast(value: T) -> T:
    """The object of rank 0, on every rank; all ranks call it.

    Args:
        value: Picklable; only that of rank 0 counts.

    Raises:
        LostPeerError: Another process ended.
        RuntimeError: The processes have not joined.
    """
    group = _group_of_all()
    if group is None:
        return value
    import torch
    import torch.distributed as dist

    data = _pickled(value) if rank() == 0 else torch.empty(0, dtype=torch.uint8)
    size = torch.tensor(len(data))
    with _noticing_lost_peers():
        dist.broadcast(size, 0, group=group)
        if rank() != 0:
            data = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(data, 0, group=group)
    return value if rank() == 0 else _unpickled(data)


def mean_over_ranks(
    values: int | float | Sequence[int | float], device: "torch.device"
) -> "torch.Tensor":
    """The mean over ranks of each of the values, on the device; all ranks call it.

    Args:
        values: One number or several.
        device: Of this process.

    Raises:
        RuntimeError: The processes have not joined.
    """
    import torch

    mean = torch.tensor(values, dtype=torch.float32, device=device)
    if world_size() > 1:
        _require_group().all_reduce(mean)
        mean /= world_size()
    return mean


def average_gradients(model: "torch.nn.Module") -> None:
    """Replace each gradient by its mean over ranks; all ranks call it.

    Args:
        model: The same on all ranks, with gradients of the same parameters.

    Raises:
        RuntimeError: The processes have not joined.
    """
    if world_size() == 1:
        return
    dist = _require_group()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
        work.wait()
    for gradient in gradients:
        gradient /= world_size()


def _joined_group() -> ModuleType | None:
    """torch.distributed where a group was joined, which takes torch."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def _require_group() -> ModuleType:
    group = _joined_group()
    if group is None:
        raise RuntimeError(
            f"this is one of {world_size()} processes that have not joined; call within joined()"
        )
    return group


def _group_of_all() -> "ProcessGroup | None":
    """One that exchanges objects, whatever the joined one is for; none for a single process."""
    if world_size() == 1:
        return None
    dist = _require_group()
    if "cpu:gloo" in dist.get_backend_config():
        return dist.group.WORLD
    return _gloo_beside(dist.group.WORLD)


@lru_cache(maxsize=1)
def _gloo_beside(world: "ProcessGroup") -> "ProcessGroup":
    """NCCL and its like carry no objects, and do not wait for hours."""
    import torch.distributed as dist

    ranks = list(range(world.size()))
    group = dist.new_group(ranks, timeout=TIME_TO_WAIT, backend="gloo")
    assert isinstance(group, dist.ProcessGroup), "every rank is a member"
    return group


def _send(value: object, group: "ProcessGroup") -> None:
    import torch
    import torch.distributed as dist

    data = _pickled(value)
    with _noticing_lost_peers():
        dist.send(torch.tensor(len(data)), 0, group=group)
        dist.send(data, 0, group=group)


def _receive(source: int, group: "ProcessGroup") -> Any:
    import torch
    import torch.distributed as dist

    size = torch.tensor(0)
    with _noticing_lost_peers():
        dist.recv(size, source, group=group)
        data = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(data, source, group=group)
    return _unpickled(data)


def _pickled(value: object) -> "torch.Tensor":
    import torch

    stream = io.BytesIO()
    pickle.dump(value, stream, protocol=pickle.HIGHEST_PROTOCOL)
    return torch.frombuffer(stream.getbuffer(), dtype=torch.uint8)


def _unpickled(data: "torch.Tensor") -> Any:
    return pickle.loads(data.numpy().data)  # noqa: S301 - another process of this run


@contextmanager
def _noticing_lost_peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        time.sleep(TIME_TO_FAIL)
        raise LostPeerError(
            f"another of {world_size()} processes ended while rank {rank()} waited for it; its own "
            "message says why"
        ) from error
