"""Names of the authors' checkpoints (detectron2), and ours.

Image and video models have the same names. The reader decides by names alone: the authors' code
renames what has no version in its metadata, also what is new already, and loses 117 tensors.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from mask2former.model.swin import relative_position_index
from mask2former.weights.dialect import Translation, write_all
from mask2former.weights.names import to_ours

_HEAD = "sem_seg_head."
_P = _HEAD + "pixel_decoder."
_T = _HEAD + "predictor."
_UNIT = ("backbone.body.layer{s}.{b}.", "backbone.res{s+1}.{b}.")
_BLOCK = "backbone.layers.{i}.blocks.{j}."
_ENCODER = ("pixel_decoder.layers.{n}.", _P + "transformer.encoder.layers.{n}.")
_DECODER = "transformer_decoder.layers.{l}."
_CROSS = _T + "transformer_cross_attention_layers.{l}."
_SELF = _T + "transformer_self_attention_layers.{l}."
_FEEDFORWARD = _T + "transformer_ffn_layers.{l}."

_SAME_SWIN = (
    "backbone.patch_embed.proj.*",
    "backbone.patch_embed.norm.*",
    *(_BLOCK + part for part in ("norm1.*", "norm2.*", "attn.relative_position_bias_table")),
    *(_BLOCK + part for part in ("attn.qkv.*", "attn.proj.*", "mlp.fc1.*", "mlp.fc2.*")),
    "backbone.layers.{i}.downsample.norm.*",
    "backbone.layers.{i}.downsample.reduction.*",
)
SWIN = (*((name, name) for name in _SAME_SWIN), ("backbone.norms.{i}.*", "backbone.norm{i}.*"))
RESNET = (
    ("backbone.body.conv1.*", "backbone.stem.conv1.*"),
    ("backbone.body.bn1.*", "backbone.stem.conv1.norm.*"),
    (_UNIT[0] + "conv{n}.*", _UNIT[1] + "conv{n}.*"),
    (_UNIT[0] + "bn{n}.*", _UNIT[1] + "conv{n}.norm.*"),
    (_UNIT[0] + "downsample.0.*", _UNIT[1] + "shortcut.*"),
    (_UNIT[0] + "downsample.1.*", _UNIT[1] + "shortcut.norm.*"),
)
_PIXEL_DECODER = (
    ("pixel_decoder.level_embeddings", _P + "transformer.level_embed"),
    ("pixel_decoder.input_projections.{i}.{j}.*", _P + "input_proj.{i}.{j}.*"),
    (_ENCODER[0] + "attention.offsets.*", _ENCODER[1] + "self_attn.sampling_offsets.*"),
    (_ENCODER[0] + "attention.weights.*", _ENCODER[1] + "self_attn.attention_weights.*"),
    (_ENCODER[0] + "attention.value.*", _ENCODER[1] + "self_attn.value_proj.*"),
    (_ENCODER[0] + "attention.output.*", _ENCODER[1] + "self_attn.output_proj.*"),
    (_ENCODER[0] + "attention_norm.*", _ENCODER[1] + "norm1.*"),
    (_ENCODER[0] + "feedforward.linear1.*", _ENCODER[1] + "linear1.*"),
    (_ENCODER[0] + "feedforward.linear2.*", _ENCODER[1] + "linear2.*"),
    (_ENCODER[0] + "feedforward.norm.*", _ENCODER[1] + "norm2.*"),
    ("pixel_decoder.lateral.0.*", _P + "adapter_1.*"),
    ("pixel_decoder.lateral.1.*", _P + "adapter_1.norm.*"),
    ("pixel_decoder.fuse.0.*", _P + "layer_1.*"),
    ("pixel_decoder.fuse.1.*", _P + "layer_1.norm.*"),
    ("pixel_decoder.mask_projection.*", _P + "mask_features.*"),
)
_PACKED = tuple(
    (f"{_DECODER}{ours}.{part}.{leaf}", f"{theirs}in_proj_{leaf}[{third}]")
    for ours, theirs in (
        ("cross_attention", _CROSS + "multihead_attn."),
        ("self_attention", _SELF + "self_attn."),
    )
    for third, part in enumerate(("query", "key", "value"))
    for leaf in ("weight", "bias")
)
_TRANSFORMER_DECODER = (
    ("transformer_decoder.query_features.*", _T + "query_feat.*"),
    ("transformer_decoder.query_positions.*", _T + "query_embed.*"),
    ("transformer_decoder.level_embeddings.*", _T + "level_embed.*"),
    *_PACKED,
    (_DECODER + "cross_attention.output.*", _CROSS + "multihead_attn.out_proj.*"),
    (_DECODER + "cross_attention_norm.*", _CROSS + "norm.*"),
    (_DECODER + "self_attention.output.*", _SELF + "self_attn.out_proj.*"),
    (_DECODER + "self_attention_norm.*", _SELF + "norm.*"),
    (_DECODER + "feedforward.linear1.*", _FEEDFORWARD + "linear1.*"),
    (_DECODER + "feedforward.linear2.*", _FEEDFORWARD + "linear2.*"),
    (_DECODER + "feedforward.norm.*", _FEEDFORWARD + "norm.*"),
    ("transformer_decoder.norm.*", _T + "decoder_norm.*"),
    ("transformer_decoder.classifier.*", _T + "class_embed.*"),
    # The activations between the linear layers count here, not there.
    ("transformer_decoder.mask_embedder.0.*", _T + "mask_embed.layers.0.*"),
    ("transformer_decoder.mask_embedder.2.*", _T + "mask_embed.layers.1.*"),
    ("transformer_decoder.mask_embedder.4.*", _T + "mask_embed.layers.2.*"),
)

NAMES = (*SWIN, *RESNET, *_PIXEL_DECODER, *_TRANSFORMER_DECODER)

# What follows from other tensors or from the configuration.
_NOT_WEIGHTS = re.compile(r"criterion\.empty_weight|.*\.relative_position_index")
_BIAS_TABLE = ".relative_position_bias_table"


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a Mask2Former by its authors, of any age."""
    return any(name.startswith(_T + "transformer_cross_attention_layers.") for name in names)


def read(state: Mapping[str, Tensor], _beside: Mapping[str, Any]) -> Translation:
    """Give the authors' state dict our names.

    Source:
        Specification 6.1 and 6.3: early files have no `pixel_decoder.` and say `static_query`.
    """
    has_pixel_decoder = any(name.startswith(_P) for name in state)
    weights = {}
    for name, tensor in state.items():
        new = name.replace("static_query", "query_feat")
        if not has_pixel_decoder and new.startswith(_HEAD) and not new.startswith(_T):
            new = _P + new.removeprefix(_HEAD)
        if not _NOT_WEIGHTS.fullmatch(new):
            weights[new] = tensor
    return Translation(*to_ours(weights, NAMES))


def write(weights: Mapping[str, Tensor], no_object_weight: float) -> dict[str, Tensor]:
    """Give our weights the authors' names, with the buffers that their code expects.

    Args:
        weights: Our state dict, with a ResNet or Swin backbone.
        no_object_weight: Of the class loss.

    Raises:
        ValueError: A tensor has no place in their model.
    """
    model = "the authors' model, which has a ResNet-50, ResNet-101 or Swin backbone"
    state = write_all(weights, NAMES, no_object_weight, model)
    for name, table in list(state.items()):
        if name.endswith(_BIAS_TABLE):
            window = (math.isqrt(len(table)) + 1) // 2
            index = name.removesuffix(_BIAS_TABLE) + ".relative_position_index"
            state[index] = relative_position_index(window)
    return state
