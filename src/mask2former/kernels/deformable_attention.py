"""Multi-scale deformable attention: every query reads a few bilinear samples of every level."""

import torch
from jaxtyping import Float
from torch import Tensor

from mask2former.kernels.sampling import sample_bilinear


def deformable_attention(
    values: Float[Tensor, "b n heads c"],
    level_sizes: list[tuple[int, int]],
    centers: Float[Tensor, "q 2"],
    offsets: Float[Tensor, "b q heads levels points 2"],
    weights: Float[Tensor, "b q heads levels points"],
) -> Float[Tensor, "b q heads*c"]:
    """Weighted sum of the values sampled around each query's centre.

    Args:
        values: Tokens of all levels, one level after the other, row by row.
        level_sizes: (height, width) of every level; their areas add up to n.
        centers: (x, y) in [0, 1], the same place on every level.
        offsets: (x, y) in pixels of the level that is sampled; samples outside it are 0.
        weights: Sum to 1 over levels and points.

    Returns:
        The heads' sums side by side.

    Source:
        Deformable DETR (Zhu et al., 2021), equation 3; this body equals the release's CUDA kernel
        to rounding.
    """
    b, _, heads, channels = values.shape
    q = offsets.shape[1]
    offsets = offsets.transpose(1, 2).flatten(0, 1)  # (b*heads, q, levels, points, 2)
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # (b*heads, 1, q, levels, points)
    x, y = 2 * centers[:, None, 0] - 1, 2 * centers[:, None, 1] - 1  # (q, 1)
    areas = [height * width for height, width in level_sizes]
    attended: Tensor | None = None
    for level, (level_values, (height, width)) in enumerate(
        zip(values.split(areas, dim=1), level_sizes, strict=True)
    ):
        maps = level_values.permute(0, 2, 3, 1).reshape(b * heads, channels, height, width)
        grid = torch.stack(
            [
                x + offsets[:, :, level, :, 0] * (2 / width),
                y + offsets[:, :, level, :, 1] * (2 / height),
            ],
            dim=-1,
        )
        samples = sample_bilinear(maps, grid)  # (b*heads, c, q, points)
        level_sum = (samples * weights[:, :, :, level]).sum(dim=-1)  # (b*heads, c, q)
        attended = level_sum if attended is None else attended + level_sum
    assert attended is not None
    return attended.view(b, heads * channels, q).transpose(1, 2)
