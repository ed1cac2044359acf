"""Which device to compute on."""

import torch

from mask2former.ranks import find_place


def find_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: "auto" is the accelerator that PyTorch finds (CUDA, ROCm, MPS, a vendor's own), else
            the CPU. Otherwise a name as PyTorch has it: "cpu", "cuda", "cuda:1", "mps", ... Each
            of several processes has an accelerator of its own, unless the name has an index.

    Raises:
        ValueError: There is no such device here, or none for this process.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return _own(accelerator) if accelerator else torch.device("cpu")
    available = ["cpu"] + ([accelerator.type] if accelerator else [])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in available:
        raise ValueError(
            f"device {name!r} is not available; this machine and PyTorch have "
            f"{', '.join(available)}; 'auto' picks the best"
        )
    if device.index is not None and device.index >= max(1, torch.accelerator.device_count()):
        raise ValueError(
            f"device {name!r} is not available; {device.type} has "
            f"{torch.accelerator.device_count()} of them, counted from 0"
        )
    if device.type == "cpu":
        return torch.device("cpu")
    return _own(device) if device.index is None else device


def _own(accelerator: torch.device) -> torch.device:
    """That of this process: by its number among those of the machine, counted from 0."""
    place = find_place()
    if place is None:
        return accelerator
    count = torch.accelerator.device_count()
    if count == place.own_devices:  # SLURM shows each process its own
        return torch.device(accelerator.type, 0)
    if place.local_rank >= count:
        raise ValueError(
            f"local rank {place.local_rank} has no {accelerator.type} device of its own: there are "
            f"{count}; start at most {count} processes on this machine, or name one that they "
            f"share, such as --device {accelerator.type}:0"
        )
    return torch.device(accelerator.type, place.local_rank)
