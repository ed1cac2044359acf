"""Which points of a mask the losses look at."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mask2former.kernels.sampling import sample_bilinear

ROWS_AT_ONCE = 128


DrawPoints: TypeAlias = Callable[..., Tensor]
"""`draw(*shape, device=...)` draws uniformly from [0, 1), as `torch.rand` does; injected, so that a
step can be repeated exactly."""


def sample_maps(
    maps: Float[Tensor, "r c h w"], points: Float[Tensor, "r p 2"]
) -> Float[Tensor, "r c p"]:
    """Bilinear samples of maps, each at its own points; zeros beyond the border.

    Args:
        maps: Of any resolution.
        points: (x, y) in [0, 1]; 0 and 1 are the outer edges of the border pixels.
    """
    return sample_bilinear(maps, 2 * points[:, :, None] - 1).squeeze(3)


@torch.no_grad()
def choose_points(
    mask_logits: Float[Tensor, "r h w"],
    num_points: int,
    *,
    oversample_ratio: float,
    importance_ratio: float,
    draw: DrawPoints,
) -> Float[Tensor, "r p 2"]:
    """Points where the masks are least certain, and some anywhere.

    Args:
        mask_logits: Before the sigmoid.
        num_points: Per mask.
        oversample_ratio: Candidates per point.
        importance_ratio: Share of the points that are the least certain candidates.
        draw: Called once for the candidates `(r, candidates, 2)`, once for the rest.

    Returns:
        (x, y) in [0, 1], the uncertain ones first.

    Source:
        PointRend (Kirillov et al., 2020); uncertainty is the negative magnitude of the logit.
    """
    rows, device = len(mask_logits), mask_logits.device
    num_candidates = int(num_points * oversample_ratio)
    num_uncertain = int(importance_ratio * num_points)
    candidates = draw(rows, num_candidates, 2, device=device).to(mask_logits.dtype)
    certainty = torch.cat(
        [
            sample_maps(some[:, None], points)[:, 0].abs()
            for some, points in zip(
                mask_logits.split(ROWS_AT_ONCE), candidates.split(ROWS_AT_ONCE), strict=True
            )
        ]
    )
    chosen = certainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    uncertain = candidates.gather(1, chosen[:, :, None].expand(-1, -1, 2))
    anywhere = draw(rows, num_points - num_uncertain, 2, device=device).to(mask_logits.dtype)
    return torch.cat([uncertain, anywhere], dim=1)
