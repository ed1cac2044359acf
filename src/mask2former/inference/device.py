"""Which device to compute on."""

import torch


def find_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: "auto" is the accelerator that PyTorch finds (CUDA, ROCm, MPS, a vendor's own), else
            the CPU. Otherwise a name as PyTorch has it: "cpu", "cuda", "cuda:1", "mps", ...

    Raises:
        ValueError: There is no such device here.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
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
    return torch.device("cpu") if device.type == "cpu" else device
