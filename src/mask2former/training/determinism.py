"""The same numbers in every run."""

import os

import torch

CUBLAS_WORKSPACE = ":4096:8"
"""One of the two sizes with which cuBLAS always adds in one order; it takes 24 MiB."""


def make_deterministic() -> None:
    """Let the same run give the same weights, bit for bit, on the same kind of device.

    Operations take bodies that add in one order, and convolutions are not chosen by their speed.
    Where PyTorch has no such body it raises RuntimeError and names the operation. Of those that the
    model and its losses use on CUDA this is one: the backward pass of `grid_sample`, in deformable
    attention and at the points of the mask losses. `kernels.sampling.sample_bilinear` has another
    body for it, slower and with more memory, and takes it after this call. Resizing, indexing,
    gathering, scattering and attention change to such bodies by themselves. On MPS, max pooling has
    none.

    The process cannot go back; call this before anything runs on its device.

    Raises:
        RuntimeError: CUDA runs already, without the setting that cuBLAS reads when it starts.

    Source:
        PyTorch's notes on reproducibility; cuBLAS's on CUBLAS_WORKSPACE_CONFIG.
    """
    if "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
        if torch.cuda.is_initialized():
            raise RuntimeError(
                "CUDA was started without CUBLAS_WORKSPACE_CONFIG; set it to "
                f"{CUBLAS_WORKSPACE} in the environment of the process, or ask for deterministic "
                "training before anything runs on the device"
            )
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACE
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True)
