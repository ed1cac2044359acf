"""What this machine can do: versions, devices, optional packages, known bad combinations."""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from mask2former.processes import num_cores


class Optional(NamedTuple):
    """A package that not everyone needs."""

    extra: str
    """Installed with `pip install 'mask2former[extra]'`."""
    purpose: str


REQUIRED = ("torch", "timm", "numpy", "scipy", "pycocotools", "pydantic")
OPTIONAL = {
    "lightning": Optional("train", "training"),
    "matplotlib": Optional("train", "curves of a run as pictures"),
    "tensorboard": Optional("train", "curves of a run in a browser"),
    "opencv-python-headless": Optional("train", "colour augmentation"),
}
COMPROMISED = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}
GIB = 1024**3
SMALL_DISK = 5 * GIB


@dataclass(frozen=True)
class Device:
    """One thing that a model can run on."""

    name: str
    """As `--device` takes it."""
    model: str
    memory: int | None
    """In bytes; none where PyTorch does not say."""
    has_bf16: bool | None
    """None where PyTorch does not say."""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `mask2former doctor` shows."""

    versions: dict[str, str]
    optional: dict[str, str | None]
    """Version by package; none when it is not installed."""
    devices: list[Device]
    threads: int
    """That PyTorch uses for one operation on the CPU."""
    cores: int
    """That this process may use."""
    free_disk: int
    """In bytes, where the command runs."""
    warnings: list[str]


def diagnose(folder: Path) -> Diagnosis:
    """Look at this process and machine.

    Args:
        folder: Whose disk is measured.
    """
    versions = {name: _version(name) or "missing" for name in ("mask2former", *REQUIRED)}
    optional = {name: _version(name) for name in OPTIONAL}
    devices = list_devices()
    free_disk = shutil.disk_usage(folder).free
    warnings = [
        *version_warnings({name: _version(name) for name in COMPROMISED}),
        *device_warnings(devices, torch.version.cuda, has_nvidia_driver()),
    ]
    if free_disk < SMALL_DISK:
        warnings.append(f"{free_disk / GIB:.1f} GiB are free in {folder}; a run writes several")
    return Diagnosis(
        versions={"python": platform.python_version(), **versions},
        optional=optional,
        devices=devices,
        threads=torch.get_num_threads(),
        cores=num_cores(),
        free_disk=free_disk,
        warnings=warnings,
    )


def list_devices() -> list[Device]:
    """The accelerator's devices, then the CPU."""
    cpu = Device("cpu", platform.processor() or platform.machine(), _physical_memory(), True)
    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None:
        return [cpu]
    indices = range(torch.accelerator.device_count())
    if kind.type == "cuda":
        return [*map(_cuda_device, indices), cpu]
    return [*(Device(f"{kind.type}:{i}", kind.type, None, None) for i in indices), cpu]


def version_warnings(versions: Mapping[str, str | None]) -> Iterator[str]:
    """Releases that nobody should run."""
    for name, version in versions.items():
        if version in COMPROMISED.get(name, ()):
            yield f"{name} {version} carried malicious code; run: pip install --upgrade {name}"


def device_warnings(
    devices: list[Device], cuda_of_torch: str | None, has_driver: bool
) -> Iterator[str]:
    """Accelerators that are there and not used, or used badly.

    Args:
        devices: As `list_devices` gives them.
        cuda_of_torch: Version that PyTorch was built with; none for a CPU build.
        has_driver: Whether the machine has an NVIDIA driver.
    """
    if has_driver and not any(device.name.startswith("cuda") for device in devices):
        reason = (
            "this PyTorch is built without CUDA; install the CUDA build of torch"
            if cuda_of_torch is None
            else f"this PyTorch needs a driver for CUDA {cuda_of_torch}; update the driver"
        )
        yield f"there is an NVIDIA driver, but PyTorch sees no GPU: {reason}"
    for device in devices:
        if device.name.startswith("cuda") and device.has_bf16 is False:
            yield f"{device.name} ({device.model}) has no bf16; precision auto means 32 bits there"


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _cuda_device(index: int) -> Device:
    properties = torch.cuda.get_device_properties(index)
    with torch.cuda.device(index):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device(f"cuda:{index}", properties.name, properties.total_memory, has_bf16)


def _physical_memory() -> int | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):  # not on Windows
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
