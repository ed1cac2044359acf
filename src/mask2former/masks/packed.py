"""Masks as bits: a hundred masks of a 1024 px image take 13 MB instead of 419 MB of floats.

Mask i of pixel (y, x) is bit `i % 8` of `packed[y, x, i // 8]`, so that the values of all masks at
one pixel lie side by side in memory.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

ROWS_AT_ONCE = 64
"""Indices and weights of more rows of points would take more memory than the masks."""


def pack_masks(masks: Bool[np.ndarray, "m h w"]) -> UInt8[Tensor, "h w bytes"]:
    """Pack masks to ceil(m / 8) bytes a pixel."""
    by_byte = np.packbits(masks, axis=0, bitorder="little")  # (bytes, h, w)
    return torch.from_numpy(np.ascontiguousarray(by_byte.transpose(1, 2, 0)))


def unpack_masks(packed: UInt8[Tensor, "h w bytes"], num_masks: int) -> Bool[Tensor, "m h w"]:
    """The inverse of `pack_masks`; the number of masks is not in the bits."""
    mask_ids = torch.arange(num_masks, device=packed.device)
    return _bits(packed, mask_ids).movedim(-1, 0).bool()


def sample_masks(
    packed: UInt8[Tensor, "h w bytes"],
    num_masks: int,
    points: Float[Tensor, "p 2"],
    padded_size: tuple[int, int],
) -> Float[Tensor, "m p"]:
    """Coverage of every mask at the same points.

    Args:
        packed: Masks of an image without its padding.
        num_masks: m.
        points: (x, y) in [0, 1] of the padded image.
        padded_size: (height, width) of the padded image in pixels; masks are 0 in the padding.

    Returns:
        Bilinear samples in [0, 1], with zeros outside the image.

    Source:
        Equal to `grid_sample(2 * points - 1, bilinear, zeros, align_corners=False)` of the padded
        masks as floats, which the authors' release samples.
    """
    mask_ids = torch.arange(num_masks, device=packed.device)
    samples = points.new_zeros(len(points), num_masks)
    for pixel, weight in _corners(packed.shape[:2], points, padded_size):
        samples += _bits(packed.flatten(0, 1)[pixel], mask_ids) * weight[:, None]
    return samples.T


def sample_mask_rows(
    packed: UInt8[Tensor, "h w bytes"],
    mask_ids: Int64[Tensor, " r"],
    points: Float[Tensor, "r p 2"],
    padded_size: tuple[int, int],
) -> Float[Tensor, "r p"]:
    """Coverage of mask `mask_ids[r]` at its own points `points[r]`; see `sample_masks`."""
    parts = zip(mask_ids.split(ROWS_AT_ONCE), points.split(ROWS_AT_ONCE), strict=True)
    return torch.cat([_sample_rows(packed, ids, some, padded_size) for ids, some in parts])


def _sample_rows(
    packed: Tensor, mask_ids: Tensor, points: Tensor, padded_size: tuple[int, int]
) -> Tensor:
    samples = torch.zeros_like(points[..., 0])
    num_bytes = packed.shape[-1]
    byte_of_mask, bit_of_mask = (mask_ids // 8)[:, None], (mask_ids % 8).to(torch.uint8)[:, None]
    for pixel, weight in _corners(packed.shape[:2], points, padded_size):
        bytes_ = packed.flatten()[pixel * num_bytes + byte_of_mask]
        samples += ((bytes_ >> bit_of_mask) & 1) * weight
    return samples


def _bits(bytes_: UInt8[Tensor, "*n bytes"], mask_ids: Int64[Tensor, " m"]) -> Tensor:
    return (bytes_[..., mask_ids // 8] >> (mask_ids % 8).to(torch.uint8)) & 1


def _corners(
    size: tuple[int, int] | torch.Size, points: Tensor, padded_size: tuple[int, int]
) -> list[tuple[Tensor, Tensor]]:
    """The four pixels around each point, as flat indices, and their weights (0 when outside)."""
    height, width = size
    x = points[..., 0] * padded_size[1] - 0.5
    y = points[..., 1] * padded_size[0] - 0.5
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    corners = []
    for dy, weight_y in ((0, 1 - bottom_share), (1, bottom_share)):
        for dx, weight_x in ((0, 1 - right_share), (1, right_share)):
            row, column = top.long() + dy, left.long() + dx
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            pixel = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            corners.append((pixel, weight_y * weight_x * inside))
    return corners
