"""Ranks of a run that several processes share; a single process is rank 0 of 1."""

import torch
import torch.distributed as dist


def rank() -> int:
    """Of this process, from 0."""
    return dist.get_rank() if _initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _initialized() else 1


def mean_over_ranks(value: int | float, device: torch.device) -> torch.Tensor:
    """The mean of every rank's value, on the device."""
    mean = torch.tensor(value, dtype=torch.float32, device=device)
    if world_size() > 1:
        dist.all_reduce(mean)
        mean /= world_size()
    return mean


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()
