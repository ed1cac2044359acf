"""Any device that PyTorch knows, as Lightning sees it; its own accelerators are a few vendors'."""

from inspect import signature
from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

NO_PINNED_MEMORY = ("cpu", "mps")
"""Types of devices to which PyTorch does not copy any faster from pinned memory."""


class AnyDevice(Accelerator):
    """The one device of a process, as `Trainer(accelerator=AnyDevice(), devices=[device])`.

    Nothing is asked of a vendor: `torch.accelerator` knows them all, plug-ins included.
    """

    def setup_device(self, device: torch.device) -> None:
        """Make it the one that kernels without a device of their own run on."""
        if device.type != "cpu":
            torch.accelerator.set_device_index(device)

    def teardown(self) -> None:
        """Leave the device as it is."""

    def get_device_stats(self, device: torch.device | str | int) -> dict[str, Any]:
        """Nothing; memory is logged by `RunLog`."""
        del device
        return {}

    @staticmethod
    def parse_devices(devices: list[torch.device]) -> list[torch.device]:
        """They come as devices."""
        return devices

    @staticmethod
    def get_parallel_devices(devices: list[torch.device]) -> list[torch.device]:
        """Those of this process."""
        return devices

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        """`find_device` has looked."""
        return True

    @staticmethod
    def name() -> str:
        return "any"


def make_precision(name: str, device: torch.device) -> Precision:
    """Autocast of that device's type; Lightning takes unknown ones for CUDA.

    Args:
        name: "32-true", "bf16-mixed" or "16-mixed"; the last scales the losses as well.
        device: Of this process.
    """
    if name == "32-true":
        return Precision()
    assert name in ("bf16-mixed", "16-mixed")
    return MixedPrecision(name, device.type)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether half precision gains on a device: it has bfloat16, and does not emulate it.

    False where PyTorch cannot ask: for CPUs, Apple's GPUs and plug-ins without the question.
    """
    asks = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    if asks is None:
        return False
    options = {"including_emulation": False} & signature(asks).parameters.keys()
    with torch.accelerator.device_index(device.index):
        return bool(asks(**dict.fromkeys(options, False)))
