"""The three losses of every prediction layer."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mask2former.loss.matching import CostWeights, Match, match
from mask2former.loss.points import DrawPoints, choose_points, sample_maps
from mask2former.masks.packed import sample_mask_rows
from mask2former.types import MaskPrediction, Target


class LossTerms(NamedTuple):
    """Unweighted losses of every prediction layer: initial queries first, final layer last."""

    classification: Float[Tensor, " layers"]
    mask: Float[Tensor, " layers"]
    dice: Float[Tensor, " layers"]


class Criterion:
    """Matches, then scores.

    Every layer's prediction is matched and scored by itself (deep supervision). Unlabelled,
    ignored, crowd and padded pixels count as background of every mask.

    Source:
        Mask2Former's `SetCriterion`. There every rank averages the class loss over its own images;
        with `class_weight` all images of a step count alike, whichever rank has them.
    """

    def __init__(
        self,
        weights: CostWeights | None = None,
        *,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_ratio: float = 0.75,
        draw: DrawPoints = torch.rand,
    ) -> None:
        """Set the constants.

        Args:
            weights: Of the losses, and of the costs they are matched by.
            no_object_weight: Of "no object" in the class loss's weighted mean.
            num_points: Per mask.
            oversample_ratio: Candidates per point.
            importance_ratio: Share of points where the prediction is least certain.
            draw: Uniform points in [0, 1); see `match` and `choose_points` for its calls: first
                those of the matching, image by image, then those of the losses likewise.
        """
        self.weights = weights or CostWeights()
        self.no_object_weight = no_object_weight
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_ratio = importance_ratio
        self.draw = draw

    def __call__(
        self,
        prediction: MaskPrediction,
        targets: list[Target],
        padded_size: tuple[int, int],
        num_masks: int | float | Float[Tensor, ""],
        class_weight: float | Float[Tensor, ""] | None = None,
        draws: Sequence[DrawPoints] | None = None,
    ) -> LossTerms:
        """Score a batch in float32 (or better), also under autocast.

        Args:
            prediction: Of the batch.
            targets: One per image.
            padded_size: (height, width) of the network's input in pixels.
            num_masks: Normalises mask and dice loss: targets of a step per rank, averaged over all
                ranks, at least 1.
            class_weight: Normalises the class loss: `class_weight_of` the images of a step per
                rank, averaged over all ranks; none: of this batch.
            draws: One per image, instead of the criterion's own for all of them.

        Raises:
            FloatingPointError: When the matching costs are not finite.
        """
        with torch.autocast(prediction.mask_features.device.type, enabled=False):
            prediction = MaskPrediction(*map(at_least_float32, prediction))
            draws = [self.draw] * len(targets) if draws is None else draws
            if class_weight is None:
                class_weight = self.class_weight_of(targets, prediction.class_logits.shape[2])
            matches = match(
                prediction,
                targets,
                padded_size,
                weights=self.weights,
                num_points=self.num_points,
                draws=draws,
            )
            sums = class_loss_sums(prediction.class_logits, targets, matches, self.no_object_weight)
            per_image = [
                self._mask_losses(prediction, image, target, matches[image], padded_size, draw)
                for image, (target, draw) in enumerate(zip(targets, draws, strict=True))
            ]
            mask, dice = (
                torch.stack(losses).sum(dim=0) / num_masks
                for losses in zip(*per_image, strict=True)
            )
            return LossTerms(sums / class_weight, mask, dice)

    def class_weight_of(self, targets: Sequence[Target], num_queries: int) -> float:
        """What the class losses of these images are divided by to be a weighted mean.

        It is known before anything is predicted: each target takes a query as long as there are
        any, and the others are to say "no object".
        """
        matched = [min(num_queries, len(target.labels)) for target in targets]
        unmatched = num_queries * len(targets) - sum(matched)
        return sum(matched) + self.no_object_weight * unmatched

    def total(self, terms: LossTerms) -> Float[Tensor, ""]:
        """What is minimised: the weighted sum over terms and layers."""
        weighted = [weight * term.sum() for weight, term in zip(self.weights, terms, strict=True)]
        return torch.stack(weighted).sum()

    def _mask_losses(
        self,
        prediction: MaskPrediction,
        image: int,
        target: Target,
        matched: Match,
        padded_size: tuple[int, int],
        draw: DrawPoints,
    ) -> tuple[Float[Tensor, " layers"], Float[Tensor, " layers"]]:
        """Mask and dice loss of one image, summed over its pairs."""
        num_layers, num_pairs = matched.query_ids.shape
        layers = torch.arange(num_layers, device=matched.query_ids.device)[:, None]
        embeddings = prediction.mask_embeddings[layers, image, matched.query_ids]
        mask_logits = torch.einsum("lpc,chw->lphw", embeddings, prediction.mask_features[image])
        mask_logits = mask_logits.flatten(0, 1)  # (layers*pairs, h, w)
        if num_pairs == 0:
            nothing = mask_logits.sum() * mask_logits.new_zeros(num_layers)
            return nothing, nothing
        points = choose_points(
            mask_logits.detach(),
            self.num_points,
            oversample_ratio=self.oversample_ratio,
            importance_ratio=self.importance_ratio,
            draw=draw,
        )
        target_ids = matched.target_ids.flatten()
        point_targets = sample_mask_rows(target.masks, target_ids, points, padded_size)
        point_logits = sample_maps(mask_logits[:, None], points)[:, 0]
        losses = (mask_loss(point_logits, point_targets), dice_loss(point_logits, point_targets))
        mask, dice = (loss.view(num_layers, num_pairs).sum(dim=1) for loss in losses)
        return mask, dice


def class_loss_sums(
    class_logits: Float[Tensor, "layers b q k1"],
    targets: list[Target],
    matches: list[Match],
    no_object_weight: float,
) -> Float[Tensor, " layers"]:
    """Weighted cross-entropy, summed over the queries of the images.

    Args:
        class_logits: Before the softmax.
        targets: One per image.
        matches: One per image; unmatched queries are to say "no object".
        no_object_weight: Of those queries; the others count 1.
    """
    num_layers, _, _, num_outputs = class_logits.shape
    no_object = num_outputs - 1
    wanted = torch.full_like(class_logits[..., 0], no_object, dtype=torch.long)  # (layers, b, q)
    for image, (target, matched) in enumerate(zip(targets, matches, strict=True)):
        wanted[:, image].scatter_(1, matched.query_ids, target.labels[matched.target_ids])
    weights = class_logits.new_ones(num_outputs)
    weights[no_object] = no_object_weight
    losses = F.cross_entropy(
        class_logits.flatten(0, 2), wanted.flatten(), weights, reduction="none"
    )
    return losses.view(num_layers, -1).sum(dim=1)


def mask_loss(
    point_logits: Float[Tensor, "r p"], point_targets: Float[Tensor, "r p"]
) -> Float[Tensor, " r"]:
    """Binary cross-entropy of every pair, averaged over its points.

    Args:
        point_logits: Before the sigmoid.
        point_targets: Coverage in [0, 1].
    """
    losses = F.binary_cross_entropy_with_logits(point_logits, point_targets, reduction="none")
    return losses.mean(dim=1)


def dice_loss(
    point_logits: Float[Tensor, "r p"], point_targets: Float[Tensor, "r p"]
) -> Float[Tensor, " r"]:
    """Dice loss of every pair: 1 - (2 shared + 1) / (sum of both + 1).

    Args:
        point_logits: Before the sigmoid.
        point_targets: Coverage in [0, 1].
    """
    point_probs = point_logits.sigmoid()
    shared = (point_probs * point_targets).sum(dim=1)
    total = point_probs.sum(dim=1) + point_targets.sum(dim=1)
    return 1 - (2 * shared + 1) / (total + 1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half precision; leave float32 and float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
