"""One pass: some images of a batch through the model and the losses."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mask2former.config import Run
from mask2former.data.batching import pad_images
from mask2former.loss.criterion import Criterion, LossTerms
from mask2former.loss.matching import CostWeights
from mask2former.loss.points import DrawPoints
from mask2former.model.drop_path import drawn_from
from mask2former.model.mask2former import SIZE_DIVISOR, Mask2Former
from mask2former.types import Batch, MaskPrediction

DROP_PATHS = 0x5851F42D4C957F2D
"""Makes another seed of an image's, for draws of their own."""


class Normalizers(NamedTuple):
    """What the losses of a step are divided by, on whichever rank and in whichever pass."""

    num_masks: Tensor
    class_weight: Tensor


class Predicted(NamedTuple):
    """What the model says of the images of a pass."""

    prediction: MaskPrediction
    padded_size: tuple[int, int]
    """(height, width) of the network's input in pixels."""


def make_criterion(run: Run) -> Criterion:
    """The losses that a run asks for."""
    loss = run.loss
    return Criterion(
        CostWeights(loss.class_weight, loss.mask_weight, loss.dice_weight),
        no_object_weight=loss.no_object_weight,
        num_points=loss.num_points,
        oversample_ratio=loss.oversample_ratio,
        importance_ratio=loss.importance_ratio,
    )


def predict(model: Mask2Former, batch: Batch) -> Predicted:
    """Pad the images of a pass and run the model on them."""
    images = pad_images(batch.images, model.pixel_mean.flatten(), SIZE_DIVISOR)
    return Predicted(model(images), (images.shape[2], images.shape[3]))


def score(
    criterion: Criterion, predicted: Predicted, batch: Batch, normalizers: Normalizers
) -> LossTerms:
    """Losses of a pass; each image draws its points from its own seed.

    Raises:
        FloatingPointError: When the matching costs are not finite.
    """
    prediction, padded_size = predicted
    device = prediction.mask_features.device
    draws: list[DrawPoints] = [
        partial(torch.rand, generator=generator_of(seed, device)) for seed in batch.seeds
    ]
    return criterion(prediction, batch.targets, padded_size, *normalizers, draws)


def own_drop_paths(model: Mask2Former, batch: Batch) -> AbstractContextManager[None]:
    """Within it an image's seed says which blocks are left out; backward passes belong inside."""
    device = model.pixel_mean.device
    return drawn_from(model, [generator_of(seed + DROP_PATHS, device) for seed in batch.seeds])


def generator_of(seed: int, device: torch.device) -> torch.Generator:
    """Of one image: its draws depend on the seed alone, not on what else this process draws."""
    return torch.Generator(device).manual_seed(seed % 2**63)


def autocast_as(precision: str, device: torch.device) -> AbstractContextManager:
    """What a pass runs in.

    Args:
        precision: As Lightning names it: 32-true, bf16-mixed, 16-mixed.
        device: That computes.
    """
    dtypes = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision not in dtypes:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtypes[precision], cache_enabled=False)


def weighted_sums(terms: LossTerms, weights: CostWeights) -> dict[str, Tensor]:
    """The parts that add up to the loss."""
    return {
        f"loss_{name}": (weight * term.sum()).detach()
        for name, weight, term in zip(("class", "mask", "dice"), weights, terms, strict=True)
    }


def layer_losses(terms: LossTerms, weights: CostWeights) -> dict[str, Tensor]:
    """The parts of every prediction layer, weighted."""
    return {
        f"loss_{name}_layer{layer}": value
        for name, weight, term in zip(("class", "mask", "dice"), weights, terms, strict=True)
        for layer, value in enumerate((weight * term).detach())
    }
