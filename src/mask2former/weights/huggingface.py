"""Names of Hugging Face's Mask2Former, and ours.

`transformers` 5 names Swin's parts otherwise in memory than in the files it writes; both are read.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from mask2former.model.pixel_decoder import ENCODER_STRIDES, NUM_POINTS
from mask2former.weights.dialect import Translation, write_all
from mask2former.weights.names import to_ours

_E = "model.pixel_level_module.encoder."
_P = "model.pixel_level_module.decoder."
_T = "model.transformer_module."
_BLOCK = ("backbone.layers.{i}.blocks.{j}.", _E + "encoder.layers.{i}.blocks.{j}.")
_UNIT = ("backbone.body.layer{s+1}.{b}.", _E + "encoder.stages.{s}.layers.{b}.")
_ENCODER = ("pixel_decoder.layers.{n}.", _P + "encoder.layers.{n}.")
_DECODER = ("transformer_decoder.layers.{l}.", _T + "decoder.layers.{l}.")

_SWIN = (
    ("backbone.patch_embed.proj.*", _E + "embeddings.patch_embeddings.projection.*"),
    ("backbone.patch_embed.norm.*", _E + "embeddings.norm.*"),
    (_BLOCK[0] + "norm1.*", _BLOCK[1] + "layernorm_before.*"),
    (_BLOCK[0] + "norm2.*", _BLOCK[1] + "layernorm_after.*"),
    (
        _BLOCK[0] + "attn.relative_position_bias_table",
        _BLOCK[1] + "attention.self.relative_position_bias_table",
    ),
    (_BLOCK[0] + "attn.qkv.*[0]", _BLOCK[1] + "attention.self.query.*"),
    (_BLOCK[0] + "attn.qkv.*[1]", _BLOCK[1] + "attention.self.key.*"),
    (_BLOCK[0] + "attn.qkv.*[2]", _BLOCK[1] + "attention.self.value.*"),
    (_BLOCK[0] + "attn.proj.*", _BLOCK[1] + "attention.output.dense.*"),
    (_BLOCK[0] + "mlp.fc1.*", _BLOCK[1] + "intermediate.dense.*"),
    (_BLOCK[0] + "mlp.fc2.*", _BLOCK[1] + "output.dense.*"),
    (
        "backbone.layers.{i}.downsample.reduction.*",
        _E + "encoder.layers.{i}.downsample.reduction.*",
    ),
    ("backbone.layers.{i}.downsample.norm.*", _E + "encoder.layers.{i}.downsample.norm.*"),
    ("backbone.norms.{i}.*", _E + "hidden_states_norms.stage{i+1}.*"),
)
_RESNET = (
    ("backbone.body.conv1.*", _E + "embedder.embedder.convolution.*"),
    ("backbone.body.bn1.*", _E + "embedder.embedder.normalization.*"),
    (_UNIT[0] + "downsample.0.*", _UNIT[1] + "shortcut.convolution.*"),
    (_UNIT[0] + "downsample.1.*", _UNIT[1] + "shortcut.normalization.*"),
    (_UNIT[0] + "conv{n+1}.*", _UNIT[1] + "layer.{n}.convolution.*"),
    (_UNIT[0] + "bn{n+1}.*", _UNIT[1] + "layer.{n}.normalization.*"),
)
_PIXEL_DECODER = (
    ("pixel_decoder.level_embeddings", _P + "level_embed"),
    ("pixel_decoder.input_projections.{i}.{j}.*", _P + "input_projections.{i}.{j}.*"),
    (_ENCODER[0] + "attention.offsets.*", _ENCODER[1] + "self_attn.sampling_offsets.*"),
    (_ENCODER[0] + "attention.weights.*", _ENCODER[1] + "self_attn.attention_weights.*"),
    (_ENCODER[0] + "attention.value.*", _ENCODER[1] + "self_attn.value_proj.*"),
    (_ENCODER[0] + "attention.output.*", _ENCODER[1] + "self_attn.output_proj.*"),
    (_ENCODER[0] + "attention_norm.*", _ENCODER[1] + "self_attn_layer_norm.*"),
    (_ENCODER[0] + "feedforward.linear1.*", _ENCODER[1] + "fc1.*"),
    (_ENCODER[0] + "feedforward.linear2.*", _ENCODER[1] + "fc2.*"),
    (_ENCODER[0] + "feedforward.norm.*", _ENCODER[1] + "final_layer_norm.*"),
    ("pixel_decoder.lateral.{i}.*", _P + "adapter_1.{i}.*"),
    ("pixel_decoder.fuse.{i}.*", _P + "layer_1.{i}.*"),
    ("pixel_decoder.mask_projection.*", _P + "mask_projection.*"),
)
_TRANSFORMER_DECODER = (
    ("transformer_decoder.query_features.*", _T + "queries_features.*"),
    ("transformer_decoder.query_positions.*", _T + "queries_embedder.*"),
    ("transformer_decoder.level_embeddings.*", _T + "level_embed.*"),
    (_DECODER[0] + "cross_attention.query.weight", _DECODER[1] + "cross_attn.in_proj_weight[0]"),
    (_DECODER[0] + "cross_attention.key.weight", _DECODER[1] + "cross_attn.in_proj_weight[1]"),
    (_DECODER[0] + "cross_attention.value.weight", _DECODER[1] + "cross_attn.in_proj_weight[2]"),
    (_DECODER[0] + "cross_attention.query.bias", _DECODER[1] + "cross_attn.in_proj_bias[0]"),
    (_DECODER[0] + "cross_attention.key.bias", _DECODER[1] + "cross_attn.in_proj_bias[1]"),
    (_DECODER[0] + "cross_attention.value.bias", _DECODER[1] + "cross_attn.in_proj_bias[2]"),
    (_DECODER[0] + "cross_attention.output.*", _DECODER[1] + "cross_attn.out_proj.*"),
    (_DECODER[0] + "cross_attention_norm.*", _DECODER[1] + "cross_attn_layer_norm.*"),
    (_DECODER[0] + "self_attention.query.*", _DECODER[1] + "self_attn.q_proj.*"),
    (_DECODER[0] + "self_attention.key.*", _DECODER[1] + "self_attn.k_proj.*"),
    (_DECODER[0] + "self_attention.value.*", _DECODER[1] + "self_attn.v_proj.*"),
    (_DECODER[0] + "self_attention.output.*", _DECODER[1] + "self_attn.out_proj.*"),
    (_DECODER[0] + "self_attention_norm.*", _DECODER[1] + "self_attn_layer_norm.*"),
    (_DECODER[0] + "feedforward.linear1.*", _DECODER[1] + "fc1.*"),
    (_DECODER[0] + "feedforward.linear2.*", _DECODER[1] + "fc2.*"),
    (_DECODER[0] + "feedforward.norm.*", _DECODER[1] + "final_layer_norm.*"),
    ("transformer_decoder.norm.*", _T + "decoder.layernorm.*"),
    # The activations between the linear layers count here, not there.
    ("transformer_decoder.mask_embedder.0.*", _T + "decoder.mask_predictor.mask_embedder.0.0.*"),
    ("transformer_decoder.mask_embedder.2.*", _T + "decoder.mask_predictor.mask_embedder.1.0.*"),
    ("transformer_decoder.mask_embedder.4.*", _T + "decoder.mask_predictor.mask_embedder.2.0.*"),
    ("transformer_decoder.classifier.*", "class_predictor.*"),
)
NAMES = (*_SWIN, *_RESNET, *_PIXEL_DECODER, *_TRANSFORMER_DECODER)

# Parts of names in memory, and in files.
_IN_MEMORY = (
    ("encoder.swin.", "encoder."),
    ("attention.q_proj.", "attention.self.query."),
    ("attention.k_proj.", "attention.self.key."),
    ("attention.v_proj.", "attention.self.value."),
    ("attention.o_proj.", "attention.output.dense."),
    ("attention.relative_position_bias.", "attention.self."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
)
_COUNTER = ".num_batches_tracked"
_NOT_WEIGHTS = re.compile(
    r"criterion\.empty_weight|.*relative_position_index"
    r"|model\.pixel_level_module\.encoder\.layernorm\..*"  # the classifier's norm, unused
)


def name_in_file(name: str) -> str:
    """The name that a tensor has in a file, of its name in memory or in a file."""
    if name.startswith(_E):
        for in_memory, in_file in _IN_MEMORY:
            name = name.replace(in_memory, in_file)
    return name


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of Hugging Face's Mask2Former, of a file or of a model."""
    return any(name.startswith(_T + "queries_features.") for name in names)


def read(state: Mapping[str, Tensor], beside: Mapping[str, Any]) -> Translation:
    """Give a Hugging Face state dict, of a file or a model, our names.

    Args:
        state: With their names.
        beside: The folder's "config", if there is one.

    Raises:
        ValueError: The configuration asks for a network that this package does not have.
    """
    config = beside.get("config")
    config = config if isinstance(config, Mapping) else {}
    _check_network(config)
    by_name = {name_in_file(name): tensor for name, tensor in state.items()}
    counts = {name for name in by_name if name.endswith(_COUNTER)}
    if not any(by_name[name].any() for name in counts):  # of batch norms that never counted
        by_name = {name: tensor for name, tensor in by_name.items() if name not in counts}
    _check_heads(config, by_name)
    weights = {name: tensor for name, tensor in by_name.items() if not _NOT_WEIGHTS.fullmatch(name)}
    return Translation(*to_ours(weights, NAMES), class_names=_class_names(config.get("id2label")))


def write(weights: Mapping[str, Tensor], no_object_weight: float) -> dict[str, Tensor]:
    """Give our weights the names of Hugging Face's files.

    Args:
        weights: Our state dict, with a ResNet or Swin backbone.
        no_object_weight: Of the class loss.

    Raises:
        ValueError: A tensor has no place in their model.
    """
    model = "Hugging Face's Mask2Former, which has a ResNet or Swin backbone"
    state = write_all(weights, NAMES, no_object_weight, model)
    return _unused(state) | state


def _unused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What their model holds and never uses; without it they report tensors as missing."""
    last = state.get(_E + "hidden_states_norms.stage4.weight")
    if last is not None:
        return {
            _E + "swin.layernorm.weight": torch.ones_like(last),
            _E + "swin.layernorm.bias": torch.zeros_like(last),
        }
    return {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(0)
        for name in state
        if name.endswith("running_mean")
    }


def _check_network(config: Mapping[str, Any]) -> None:
    for key, supported in (
        ("pre_norm", False),
        ("enforce_input_projection", False),
        ("common_stride", 4),
        ("activation_function", "relu"),
    ):
        if config.get(key, supported) != supported:
            raise ValueError(
                f"its config.json says {key} = {config[key]}; this package has the published "
                f"network, in which it is {supported}"
            )


def _check_heads(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Both decoders have as many; of the transformer decoder's no tensor tells."""
    offsets = state.get(_P + "encoder.layers.0.self_attn.sampling_offsets.bias")
    expected = config.get("num_attention_heads")
    if offsets is None or expected is None:
        return
    heads = offsets.numel() // (len(ENCODER_STRIDES) * NUM_POINTS * 2)
    if heads != expected:
        raise ValueError(
            f"its config.json says num_attention_heads = {expected}, its tensors have {heads}"
        )


def _class_names(id2label: Any) -> tuple[str, ...] | None:
    """Names in the order of their numbers; none where nobody gave any."""
    if not isinstance(id2label, Mapping):
        return None
    by_id = {str(key): name for key, name in id2label.items()}
    names = [by_id.get(str(class_id)) for class_id in range(len(by_id))]
    given = tuple(name for name in names if isinstance(name, str) and name)
    unnamed = tuple(f"LABEL_{class_id}" for class_id in range(len(names)))
    return None if len(given) != len(names) or given == unnamed else given
