"""Sine position codes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sine_position(
    height: int, width: int, channels: int, *, like: Tensor
) -> Float[Tensor, "c h w"]:
    """Position of every pixel as sines and cosines: first half of the channels y, second half x.

    Args:
        height: In steps of the feature map.
        width: In steps of the feature map.
        channels: A multiple of 4.
        like: A tensor of the device and the precision (float32 at least) of the code.

    Source:
        DETR's normalised code: coordinates run from 1 to the size, divided by size + 1e-6 and
        multiplied by 2 pi; wavelengths rise from 1 to 10000.
    """
    y = _code_axis(height, channels // 2, like)[:, :, None].expand(-1, -1, width)
    x = _code_axis(width, channels // 2, like)[:, None, :].expand(-1, height, -1)
    return torch.cat([y, x])


def _code_axis(size: int, channels: int, like: Tensor) -> Float[Tensor, "c size"]:
    dtype = torch.promote_types(like.dtype, torch.float32)
    steps = torch.arange(1, size + 1, dtype=dtype, device=like.device)
    angle = steps / (size + 1e-6) * (2 * math.pi)
    exponent = torch.arange(channels // 2, dtype=dtype, device=like.device) * 2 / channels
    phase = angle[None] / (10000**exponent)[:, None]  # (channels / 2, size)
    return torch.stack([phase.sin(), phase.cos()], dim=1).flatten(0, 1)
