"""What folders exchange: predictions, targets, samples, batches, classes, results.

Nothing here knows a file format, a network or a metric.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor


class MaskPrediction(NamedTuple):
    """What the model returns, for the initial queries and after every decoder layer.

    Masks are kept factored: a mask logit is the dot product of a query's embedding with the
    pixel's feature, so sampling or resizing the features first gives the same numbers without
    a full-size mask for every query of every layer.
    """

    class_logits: Float[Tensor, "layers b q k1"]
    """Before the softmax; the last entry is "no object"."""
    mask_embeddings: Float[Tensor, "layers b q c"]
    mask_features: Float[Tensor, "b c h w"]
    """At stride 4 of the padded images."""

    def mask_logits(self, layer: int = -1) -> Float[Tensor, "b q h w"]:
        """Masks of one layer at stride 4, before the sigmoid."""
        return torch.einsum("bqc,bchw->bqhw", self.mask_embeddings[layer], self.mask_features)


class Target(NamedTuple):
    """What one image contains.

    Masks are bits: mask i of pixel (y, x) is bit `i % 8` of `masks[y, x, i // 8]`. They cover the
    image without the padding of the batch; outside they are 0.
    """

    labels: Int64[Tensor, " m"]
    masks: UInt8[Tensor, "h w bytes"]


class Sample(NamedTuple):
    """One augmented training image."""

    image: UInt8[Tensor, "3 h w"]
    target: Target
    image_id: int | str
    seed: int
    """Of all that is drawn for it, from its augmentation to the points of the losses, so that it
    does not matter which process trains on it beside which others."""


class Batch(NamedTuple):
    """Samples of different sizes; `data.batching.pad_images` makes the network's input of it."""

    images: list[UInt8[Tensor, "3 h w"]]
    targets: list[Target]
    image_ids: list[int | str]
    seeds: list[int]


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, in the order of `class_id` 0..k-1.

    Names may repeat: classes are told apart by their `category_ids`, the ids in the data set's
    own files.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    is_thing: tuple[bool, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.category_ids), len(self.is_thing)}
        if len(lengths) != 1:
            raise ValueError(
                f"{len(self.names)} class names, {len(self.category_ids)} category ids and "
                f"{len(self.is_thing)} thing flags; give one of each per class"
            )
        if len(set(self.category_ids)) != len(self.category_ids):
            twice = sorted({c for c in self.category_ids if self.category_ids.count(c) > 1})
            raise ValueError(f"category ids {twice} occur twice; every class needs its own")

    def __len__(self) -> int:
        return len(self.names)

    def class_id_by_category(self) -> dict[int, int]:
        return {category_id: i for i, category_id in enumerate(self.category_ids)}


@dataclass(frozen=True)
class Segment:
    """One entry of a panoptic or instance result."""

    id: int
    """The value of its pixels in `segment_map`; for instances, its position in the result."""
    class_id: int
    score: float
    """In [0, 1]. Panoptic: class probability. Instance: class probability x mean mask
    probability inside the mask."""
    area: int
    """In pixels."""
    box: tuple[float, float, float, float]
    """(x, y, width, height) in pixels, the tight box around the mask; zeros when empty."""


@dataclass(frozen=True)
class SemanticResult:
    """One class id per pixel."""

    label_map: Int64[Tensor, "h w"]


@dataclass(frozen=True)
class PanopticResult:
    """One segment id per pixel; 0 where no segment is."""

    segment_map: Int64[Tensor, "h w"]
    segments: list[Segment] = field(default_factory=list)


@dataclass(frozen=True)
class InstanceResult:
    """Objects that may overlap, highest score first.

    Masks are COCO run-length encodings (`{"size": [h, w], "counts": bytes}`).
    """

    height: int
    width: int
    rles: list[dict]
    segments: list[Segment] = field(default_factory=list)


Result: TypeAlias = SemanticResult | PanopticResult | InstanceResult
