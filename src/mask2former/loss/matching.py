"""Which query answers for which target: costs of all pairs, and the cheapest assignment."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mask2former.loss.points import DrawPoints, sample_maps
from mask2former.masks.packed import sample_masks
from mask2former.types import MaskPrediction, Target


class CostWeights(NamedTuple):
    """How much each part of the cost counts; the losses have the same weights."""

    classification: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


class Match(NamedTuple):
    """Pairs of one image, for every layer: query `query_ids[l, i]` answers for `target_ids[l, i]`.

    i runs over min(q, m) pairs, in the order of the queries.
    """

    query_ids: Int64[Tensor, "layers pairs"]
    target_ids: Int64[Tensor, "layers pairs"]


class UnmatchableError(FloatingPointError):
    """The costs of an image are not finite."""

    def __init__(self, image: int, layer: int, message: str) -> None:
        """Say where.

        Args:
            image: Index in the batch.
            layer: The first prediction layer of which that is so.
            message: For whoever trains.
        """
        super().__init__(message)
        self.image, self.layer = image, layer


@torch.no_grad()
def match(
    prediction: MaskPrediction,
    targets: list[Target],
    padded_size: tuple[int, int],
    *,
    weights: CostWeights,
    num_points: int,
    draws: Sequence[DrawPoints],
) -> list[Match]:
    """Match every layer's queries with the targets of every image.

    Args:
        prediction: Of a batch.
        targets: One per image.
        padded_size: (height, width) of the network's input in pixels.
        weights: Of the parts of the cost.
        num_points: At which masks are compared.
        draws: One per image, called once for `(num_points, 2)`; all layers share an image's points,
            so that the mask features are sampled once.

    Returns:
        One match per image; pairs beyond min(q, m) do not exist.

    Raises:
        UnmatchableError: When a cost is not finite.
    """
    costs = [
        image_costs(
            prediction.class_logits[:, i],
            prediction.mask_embeddings[:, i],
            prediction.mask_features[i],
            target,
            draws[i](num_points, 2, device=prediction.mask_features.device),
            padded_size,
            weights,
        )
        for i, target in enumerate(targets)
    ]
    sizes = [cost.numel() for cost in costs]
    on_cpu = torch.cat([cost.flatten() for cost in costs]).cpu()  # once for all layers and images
    return [
        _assign(flat.view(cost.shape), image, cost.device)
        for image, (flat, cost) in enumerate(zip(on_cpu.split(sizes), costs, strict=True))
    ]


def image_costs(
    class_logits: Float[Tensor, "layers q k1"],
    mask_embeddings: Float[Tensor, "layers q c"],
    mask_features: Float[Tensor, "c h w"],
    target: Target,
    points: Float[Tensor, "p 2"],
    padded_size: tuple[int, int],
    weights: CostWeights,
) -> Float[Tensor, "layers q m"]:
    """Cost of every pair of query and target of one image.

    Args:
        class_logits: Before the softmax.
        mask_embeddings: Of the same queries.
        mask_features: At stride 4.
        target: m objects.
        points: (x, y) in [0, 1] of the padded image, the same for all pairs.
        padded_size: (height, width) of the network's input in pixels.
        weights: Of the parts.

    Source:
        Mask2Former's matcher: weighted sum of mask, class and dice cost, in this order.
    """
    points = points.to(mask_features.dtype)
    sampled_features = sample_maps(mask_features[None], points[None])[0]  # (c, p)
    mask_logits = mask_embeddings @ sampled_features  # (layers, q, p)
    target_masks = sample_masks(target.masks, len(target.labels), points, padded_size)
    classification = -class_logits.softmax(dim=-1)[:, :, target.labels]
    return (
        weights.mask * pairwise_mask_cost(mask_logits, target_masks)
        + weights.classification * classification
        + weights.dice * pairwise_dice_cost(mask_logits, target_masks)
    )


def pairwise_mask_cost(
    mask_logits: Float[Tensor, "*layers q p"], target_masks: Float[Tensor, "m p"]
) -> Float[Tensor, "*layers q m"]:
    """Mean binary cross-entropy of every prediction against every target, on the same p points.

    Args:
        mask_logits: Before the sigmoid.
        target_masks: Coverage in [0, 1].

    Source:
        softplus(-s) g + softplus(s) (1 - g) = softplus(s) - s g, which needs one product.
    """
    without_target = F.softplus(mask_logits).sum(dim=-1, keepdim=True)
    return (without_target - mask_logits @ target_masks.T) / mask_logits.shape[-1]


def pairwise_dice_cost(
    mask_logits: Float[Tensor, "*layers q p"], target_masks: Float[Tensor, "m p"]
) -> Float[Tensor, "*layers q m"]:
    """Dice cost of every prediction against every target, on the same p points.

    Args:
        mask_logits: Before the sigmoid.
        target_masks: Coverage in [0, 1].

    Returns:
        Cost in [0, 1); 0 is a perfect match.

    Source:
        Mask2Former (Cheng et al., 2022), matching cost; sums are not squared and are smoothed by
        +1, as in the authors' release.
    """
    mask_probs = mask_logits.sigmoid()
    shared = mask_probs @ target_masks.T
    total = mask_probs.sum(dim=-1, keepdim=True) + target_masks.sum(dim=-1)
    return 1 - (2 * shared + 1) / (total + 1)


def _assign(costs: Float[Tensor, "layers q m"], image: int, device: torch.device) -> Match:
    if not costs.isfinite().all():
        layer = int((~costs.isfinite()).flatten(1).any(dim=1).nonzero()[0])
        raise UnmatchableError(
            image,
            layer,
            f"the matching cost of image {image} of the batch is not finite in layer {layer}: the "
            "predictions are NaN or infinite; training has diverged, or an image or a weight is "
            "not finite. Lower the learning rate, or train in 32-true precision",
        )
    pairs = [linear_sum_assignment(cost) for cost in costs.numpy()]
    query_ids, target_ids = (
        torch.stack([torch.from_numpy(pair[side]) for pair in pairs]).to(device) for side in (0, 1)
    )
    return Match(query_ids, target_ids)
