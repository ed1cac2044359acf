"""Which processes share a device, whatever each of them calls it."""

import socket
from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

import torch

from mask2former.ranks import find_place

Identity: TypeAlias = tuple[str, ...]
"""Equal in two processes exactly where they use the same device."""
PHYSICAL = ("uuid", "pci_domain_id", "pci_bus_id", "pci_device_id")
"""Of what PyTorch tells of a device: not its number, which each process may count from 0."""


def identify_device(device: torch.device) -> Identity:
    """What tells a device from those of other processes.

    Where PyTorch does not say it, devices that SLURM shows to one process alone are taken for
    different ones, and others go by their number.

    Args:
        device: Of this process; a CPU means the machine.
    """
    machine = socket.gethostname()
    if device.type == "cpu":
        return (machine, "cpu")
    described = _physical(device)
    if described:
        return (machine, *described)
    place = find_place()
    if place is not None and place.own_devices == torch.accelerator.device_count():
        return (machine, str(device), f"of local rank {place.local_rank}")
    return (machine, str(device))


def _physical(device: torch.device) -> Identity:
    """Empty where the backend has no such description."""
    describe = getattr(torch.get_device_module(device), "get_device_properties", None)
    if describe is None:
        return ()
    properties = describe(device)
    return tuple(str(getattr(properties, name)) for name in PHYSICAL if hasattr(properties, name))


def most_sharing(devices: Iterable[Identity]) -> int:
    """How many processes share the device that most of them share.

    Args:
        devices: Of all processes, one at least.
    """
    return max(Counter(devices).values())
