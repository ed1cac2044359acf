"""Bilinear samples of maps, also where a run must give the same numbers each time."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def sample_bilinear(
    maps: Float[Tensor, "b c h w"], grid: Float[Tensor, "b q p 2"]
) -> Float[Tensor, "b c q p"]:
    """Sample maps at points, each map at its own; zeros outside.

    In PyTorch's deterministic mode, the samples on an accelerator are those of `gather_bilinear`.

    Args:
        maps: Of any resolution.
        grid: (x, y) in [-1, 1]; -1 and 1 are the outer edges of the border pixels.
    """
    if not maps.is_cpu and torch.are_deterministic_algorithms_enabled():
        return gather_bilinear(maps, grid)
    return F.grid_sample(maps, grid, align_corners=False)


def gather_bilinear(
    maps: Float[Tensor, "b c h w"], grid: Float[Tensor, "b q p 2"]
) -> Float[Tensor, "b c q p"]:
    """`sample_bilinear` by gathering the four pixels around each point.

    The gradient of a gather can be added up in one order on every device; that of `grid_sample`
    on CUDA cannot. It takes more time, and memory for four values a sample.

    Source:
        Equal to `grid_sample(bilinear, zeros, align_corners=False)` to rounding, gradients of maps
        and grid included.
    """
    _, channels, height, width = maps.shape
    q, p = grid.shape[1:3]
    x = ((grid[..., 0] + 1) * width - 1) / 2  # (b, q, p), in pixels
    y = ((grid[..., 1] + 1) * height - 1) / 2
    left, top = x.detach().floor(), y.detach().floor()
    flat = maps.flatten(2)
    sampled = maps.new_zeros(())
    for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
        for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            pixel = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            pixel_ids = pixel.flatten(1)[:, None].expand(-1, channels, -1)
            values = flat.gather(2, pixel_ids).unflatten(2, (q, p))
            sampled = sampled + values * (weight_y * weight_x * inside)[:, None]
    return sampled
