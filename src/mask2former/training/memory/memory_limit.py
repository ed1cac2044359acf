"""How much memory there is: of a device, of the machine, of the group of processes."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from mask2former.byte_sizes import format_size

KEPT_FREE = 0.1
"""Share of what may be taken: allocators cannot use all of it, files are written and images decoded
which no trial sees, and other programs go on."""
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class Room(NamedTuple):
    """What one process may take."""

    bytes: int
    """With what it has already."""
    told: str
    """How that came about."""


def find_room(device: torch.device, *, sharing: int = 1, limit: int | None = None) -> Room:
    """What this process may take of a device.

    Args:
        device: A CPU means the memory of the machine.
        sharing: Processes that share the device, this one among them.
        limit: For all of them; none: what is free, less a part.

    Raises:
        ValueError: The system does not say what is free, and no limit was given.
    """
    share = f", shared by {sharing}" if sharing > 1 else ""
    try:
        free = free_memory(device)
    except ValueError:
        if limit is None:
            raise
        free = None
    if limit is not None:
        given = int((1 - KEPT_FREE) * limit / sharing)
        if free is None or given < _usable(free, device, sharing):
            return Room(given, f"{format_size(limit)} as given, less {KEPT_FREE:.0%}{share}")
    assert free is not None, "one of the two is known"
    own = own_memory(device)
    text = f"{format_size(free)} free on {device}, less {KEPT_FREE:.0%}{share}"
    has = f", plus {format_size(own)} that it has already" if own else ""
    return Room(_usable(free, device, sharing), text + has)


def _usable(free: int, device: torch.device, sharing: int) -> int:
    return int((1 - KEPT_FREE) * free / sharing) + own_memory(device)


def free_memory(device: torch.device) -> int:
    """Bytes that this process and others could still take.

    Raises:
        ValueError: The system does not say.
    """
    if device.type == "cpu":
        return min(_machine_free(), *groups_free())
    try:
        torch.accelerator.empty_cache()
        return torch.accelerator.get_memory_info(device)[0]
    except (RuntimeError, AttributeError) as error:
        raise ValueError(
            f"how much memory of {device} is free is not known here ({error}); give "
            "--memory-limit, or --batch N without a plan"
        ) from error


def own_memory(device: torch.device) -> int:
    """Bytes that this process has now: tensors and caches of an accelerator, or resident memory."""
    if device.type == "cpu":
        return status_bytes("VmRSS") or 0
    return torch.accelerator.memory_reserved(device)


def status_bytes(key: str, proc: Path = PROC) -> int | None:
    """A size from the kernel's status of this process; none where there is none, as off Linux."""
    return _kib(proc / "self/status", key)


def peak_memory() -> int | None:
    """The most bytes that this process had resident so far; none where the system does not say."""
    peak = status_bytes("VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:  # on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _machine_free() -> int:
    free = _kib(PROC / "meminfo", "MemAvailable")
    if free is not None:
        return free
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" in names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    raise ValueError(
        f"how much memory is free is not known on {sys.platform}; give --memory-limit, such as "
        "--memory-limit 8GiB"
    )


def groups_free(proc: Path = PROC, root: Path = CGROUPS) -> Iterator[int]:
    """What the control groups of this process leave it, such as those of a container or a job.

    Pages of files that nobody uses are given back when others are wanted, and count as free.

    Args:
        proc: Where the kernel tells of processes.
        root: Where the groups lie.

    Source:
        The kernel's documentation of control groups, versions 1 and 2.
    """
    path = proc / "self/cgroup"
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _group_free(root, group, names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _group_free(root / "memory", group, names)


def _group_free(root: Path, group: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Of a group and of those around it; within a container its own path may not be visible."""
    inner = root / group.strip("/")
    for folder in (inner, *inner.parents):
        limit, used = (_number(folder / name) for name in names[:2])
        if limit is not None and used is not None:
            reclaimable = _stat(folder / "memory.stat", names[2])
            yield max(0, limit - used + reclaimable)
        if folder == root:
            return


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _stat(path: Path, key: str) -> int:
    try:
        found = re.search(rf"^{key} (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _kib(path: Path, key: str) -> int | None:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB$", path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
