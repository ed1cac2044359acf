"""From the network's masks at stride 4 back to the pixels of the original image."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels"""


@dataclass(frozen=True)
class Frame:
    """The sizes that one image passes through, each (height, width) in pixels."""

    padded: Size
    """Of the network's input, with the padding of the batch at the right and the bottom."""
    resized: Size
    """Of the image within that input."""
    original: Size
    """Of the image as it came, which is the size of the result."""

    def __post_init__(self) -> None:
        if min(*self.padded, *self.resized, *self.original) < 1:
            raise ValueError(f"{self} has a side below 1 pixel; every size needs at least 1")
        if self.resized[0] > self.padded[0] or self.resized[1] > self.padded[1]:
            raise ValueError(
                f"resized {self.resized} is larger than padded {self.padded}; "
                "the resized image lies inside the padded one"
            )


def resize(planes: Float[Tensor, "c h w"], size: Size) -> Float[Tensor, "c height width"]:
    """Bilinear, pixel centres at .5, no smoothing; the same size comes back as it is."""
    if planes.shape[-2:] == size:
        return planes
    return F.interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]


def restore(mask_logits: Float[Tensor, "h w"], frame: Frame) -> Float[Tensor, "height width"]:
    """One query's mask at the original size, bit for bit as the two plain resizes give it.

    One mask at a time: memory does not grow with the number of queries, and a single channel
    takes the same kernel whatever the number of threads (three channels do not).
    """
    height, width = frame.resized
    padded = resize(mask_logits[None], frame.padded)
    return resize(padded[:, :height, :width], frame.original)[0]


def axis_weights(size: int, *steps: tuple[int, int]) -> Float[Tensor, "out size"]:
    """Linear interpolation along one axis as a matrix: several resizes in one product.

    Args:
        size: Length of the axis that comes in.
        steps: One pair per resize: the length after it, and how much of that is kept.
    """
    weights = torch.eye(size)
    for length, kept in steps:
        if length != weights.shape[1]:
            weights = F.interpolate(weights[None], size=length, mode="linear")[0]
        weights = weights[:, :kept]
    return weights.T.contiguous()


def position_weights(positions: Float[Tensor, " out"], size: int) -> Float[Tensor, "out size"]:
    """Linear interpolation at any places of an axis as a matrix.

    Args:
        positions: In cells; the centre of cell i is at i + 0.5. Beyond the first and the last
            centre, the cell's own value holds.
        size: Cells of the axis.
    """
    distances = positions.clamp(0.5, size - 0.5)[:, None] - torch.arange(0.5, size)
    return (1 - distances.abs()).clamp(min=0).float()


def used_columns(weights: Float[Tensor, "rows size"]) -> tuple[int, int]:
    """The range of input positions that these output rows are made of."""
    used = weights.any(dim=0).nonzero()
    return int(used[0]), int(used[-1]) + 1


def resize_rows(
    planes: Float[Tensor, "c h w"], weights: Float[Tensor, "rows h"]
) -> Float[Tensor, "c rows w"]:
    """Some rows of the resized planes, made from the few rows of `planes` that they need."""
    start, stop = used_columns(weights)
    return weights[:, start:stop].to(planes.device) @ planes[:, start:stop]


def resize_columns(planes: Float[Tensor, "c h w"], width: int) -> Float[Tensor, "c h width"]:
    """Linear along the rows only."""
    if planes.shape[-1] == width:
        return planes
    rows = planes.flatten(0, 1)[None]
    return F.interpolate(rows, size=width, mode="linear")[0].unflatten(0, planes.shape[:2])
