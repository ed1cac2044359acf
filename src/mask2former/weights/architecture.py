"""The sizes of a model, read off its tensors."""

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor

from mask2former import config
from mask2former.model.backbone import SWIN_SIZES
from mask2former.model.features import STRIDES
from mask2former.model.pixel_decoder import ENCODER_STRIDES, NUM_POINTS

_DECODER = "transformer_decoder."
RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}


class Architecture(NamedTuple):
    """What a state dict of ours is of."""

    model: config.Model
    num_classes: int


def read_architecture(weights: Mapping[str, Tensor]) -> Architecture:
    """The configuration of a model.

    Args:
        weights: Our state dict. The number of attention heads is taken from the pixel decoder for
            both decoders: no tensor tells that of the transformer decoder.

    Raises:
        ValueError: A tensor that tells a size is missing, or the backbone is unknown.
    """
    queries = _tensor(weights, _DECODER + "query_features.weight", ndim=2)
    offsets = _tensor(weights, "pixel_decoder.layers.0.attention.offsets.weight", ndim=2)
    encoder_width = _tensor(weights, "pixel_decoder.layers.0.feedforward.linear1.weight", ndim=2)
    decoder_width = _tensor(weights, _DECODER + "layers.0.feedforward.linear1.weight", ndim=2)
    classifier = _tensor(weights, _DECODER + "classifier.bias", ndim=1)
    heads = len(offsets) // (len(ENCODER_STRIDES) * NUM_POINTS * 2)
    if not heads or len(classifier) < 2:
        raise ValueError(
            f"{len(offsets)} rows of sampling offsets and {len(classifier)} of the classifier are "
            "too few for a model"
        )
    name, norm = read_backbone(weights)
    model = config.Model(
        backbone=config.Backbone(name=name, pretrained=False, norm=norm),
        num_queries=len(queries),
        hidden_dim=queries.shape[1],
        num_heads=heads,
        encoder_layers=_count(weights, r"pixel_decoder\.layers\.(\d+)\."),
        encoder_feedforward_dim=len(encoder_width),
        decoder_layers=_count(weights, r"transformer_decoder\.layers\.(\d+)\."),
        decoder_feedforward_dim=len(decoder_width),
    )
    return Architecture(model, len(classifier) - 1)


def read_backbone(weights: Mapping[str, Tensor]) -> tuple[str, Literal["frozen", "sync"]]:
    """The name of the backbone, and whether its batch norms count their steps.

    Raises:
        ValueError: It is neither a published Swin nor a plain ResNet.
    """
    if "backbone.patch_embed.proj.weight" in weights:
        return _swin(weights), "frozen"
    if "backbone.body.layer1.0.conv1.weight" in weights:
        return _resnet(weights)
    names = [name for name in weights if name.startswith("backbone.")]
    raise ValueError(
        f"{len(names)} tensors of the backbone ({', '.join(names[:2]) or 'none'}) are of neither a "
        "ResNet nor a Swin, so that its name cannot be read off them"
    )


def _swin(weights: Mapping[str, Tensor]) -> str:
    stages = range(len(STRIDES))
    table = "backbone.layers.{}.blocks.0.attn.relative_position_bias_table"
    tables = [_tensor(weights, table.format(stage), ndim=2) for stage in stages]
    blocks = r"backbone\.layers\.{}\.blocks\.(\d+)\."
    found = (
        len(_tensor(weights, "backbone.patch_embed.proj.weight", ndim=4)),
        tuple(_count(weights, blocks.format(stage)) for stage in stages),
        tuple(table.shape[1] for table in tables),
        (math.isqrt(len(tables[0])) + 1) // 2,
    )
    for name, size in SWIN_SIZES.items():
        if tuple(size) == found:
            return name
    known = ", ".join(f"{name} {tuple(size)}" for name, size in SWIN_SIZES.items())
    raise ValueError(
        f"a Swin of (channels, blocks, heads, window) = {found} is none of the published ones: "
        f"{known}"
    )


def _resnet(weights: Mapping[str, Tensor]) -> tuple[str, Literal["frozen", "sync"]]:
    body = r"backbone\.body\.layer{}\.(\d+)\."
    depths = tuple(_count(weights, body.format(stage)) for stage in range(1, 5))
    block = "bottleneck" if "backbone.body.layer1.0.conv3.weight" in weights else "basic"
    stem = _tensor(weights, "backbone.body.conv1.weight", ndim=4)
    width = _tensor(weights, "backbone.body.layer1.0.conv2.weight", ndim=4)
    if (block, depths) not in RESNETS or len(stem) != 64 or tuple(width.shape[:2]) != (64, 64):
        raise ValueError(
            f"a ResNet of {block} blocks {depths}, {len(stem)} channels in its stem and "
            f"{tuple(width.shape[:2])} in its first 3 x 3 is none of {', '.join(RESNETS.values())}"
        )
    counts = "backbone.body.bn1.num_batches_tracked" in weights
    return RESNETS[block, depths], "sync" if counts else "frozen"


def _tensor(weights: Mapping[str, Tensor], name: str, *, ndim: int) -> Tensor:
    if name not in weights:
        raise ValueError(f"{name} is missing, without which the model's size is unknown")
    tensor = weights[name]
    if tensor.ndim != ndim or not tensor.numel():
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must have {ndim} axes")
    return tensor


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand at the pattern's group."""
    compiled = re.compile(pattern)
    return len({found[1] for name in weights if (found := compiled.match(name))})
