"""Names of OpenMMLab's Mask2Former, and ours.

mmdetection, its video model and mmsegmentation hold one head under three names. mmdetection 3 has
renamed the parts of its layers; the table has the new names, to which those of 2 are brought first.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mask2former.tasks import Task
from mask2former.weights.dialect import Translation
from mask2former.weights.names import to_ours

SEMANTIC_HEAD = "decode_head."
_HEADS = ("panoptic_head.", SEMANTIC_HEAD, "track_head.")
# MaskFormer's heads have neither.
_MARKS = ("query_feat.weight", "pixel_decoder.level_encoding.weight")
_CLASSIFIER_BIAS = "transformer_decoder.classifier.bias"

_BLOCK = ("backbone.layers.{i}.blocks.{j}.", "backbone.stages.{i}.blocks.{j}.")
_MERGING = ("backbone.layers.{i}.downsample.", "backbone.stages.{i}.downsample.")
_UNIT = ("backbone.body.layer{s}.{b}.", "backbone.layer{s}.{b}.")
_ENCODER = ("pixel_decoder.layers.{n}.", "pixel_decoder.encoder.layers.{n}.")
_DECODER = ("transformer_decoder.layers.{l}.", "transformer_decoder.layers.{l}.")

_SWIN = (
    ("backbone.patch_embed.proj.*", "backbone.patch_embed.projection.*"),
    ("backbone.patch_embed.norm.*", "backbone.patch_embed.norm.*"),
    (_BLOCK[0] + "norm1.*", _BLOCK[1] + "norm1.*"),
    (_BLOCK[0] + "norm2.*", _BLOCK[1] + "norm2.*"),
    (
        _BLOCK[0] + "attn.relative_position_bias_table",
        _BLOCK[1] + "attn.w_msa.relative_position_bias_table",
    ),
    (_BLOCK[0] + "attn.qkv.*", _BLOCK[1] + "attn.w_msa.qkv.*"),
    (_BLOCK[0] + "attn.proj.*", _BLOCK[1] + "attn.w_msa.proj.*"),
    (_BLOCK[0] + "mlp.fc1.*", _BLOCK[1] + "ffn.layers.0.0.*"),
    (_BLOCK[0] + "mlp.fc2.*", _BLOCK[1] + "ffn.layers.1.*"),
    (_MERGING[0] + "norm.*", _MERGING[1] + "norm.*"),
    (_MERGING[0] + "reduction.*", _MERGING[1] + "reduction.*"),
    ("backbone.norms.{i}.*", "backbone.norm{i}.*"),
)
_RESNET = (
    ("backbone.body.conv1.*", "backbone.conv1.*"),
    ("backbone.body.bn1.*", "backbone.bn1.*"),
    (_UNIT[0] + "downsample.{n}.*", _UNIT[1] + "downsample.{n}.*"),
    (_UNIT[0] + "conv{n}.*", _UNIT[1] + "conv{n}.*"),
    (_UNIT[0] + "bn{n}.*", _UNIT[1] + "bn{n}.*"),
)
_PIXEL_DECODER = (
    ("pixel_decoder.input_projections.{i}.0.*", "pixel_decoder.input_convs.{i}.conv.*"),
    ("pixel_decoder.input_projections.{i}.1.*", "pixel_decoder.input_convs.{i}.gn.*"),
    ("pixel_decoder.level_embeddings", "pixel_decoder.level_encoding.weight"),
    (_ENCODER[0] + "attention.offsets.*", _ENCODER[1] + "self_attn.sampling_offsets.*"),
    (_ENCODER[0] + "attention.weights.*", _ENCODER[1] + "self_attn.attention_weights.*"),
    (_ENCODER[0] + "attention.value.*", _ENCODER[1] + "self_attn.value_proj.*"),
    (_ENCODER[0] + "attention.output.*", _ENCODER[1] + "self_attn.output_proj.*"),
    (_ENCODER[0] + "attention_norm.*", _ENCODER[1] + "norms.0.*"),
    (_ENCODER[0] + "feedforward.linear1.*", _ENCODER[1] + "ffn.layers.0.0.*"),
    (_ENCODER[0] + "feedforward.linear2.*", _ENCODER[1] + "ffn.layers.1.*"),
    (_ENCODER[0] + "feedforward.norm.*", _ENCODER[1] + "norms.1.*"),
    ("pixel_decoder.lateral.0.*", "pixel_decoder.lateral_convs.0.conv.*"),
    ("pixel_decoder.lateral.1.*", "pixel_decoder.lateral_convs.0.gn.*"),
    ("pixel_decoder.fuse.0.*", "pixel_decoder.output_convs.0.conv.*"),
    ("pixel_decoder.fuse.1.*", "pixel_decoder.output_convs.0.gn.*"),
    ("pixel_decoder.mask_projection.*", "pixel_decoder.mask_feature.*"),
)
_ATTENTIONS = tuple(
    (f"{_DECODER[0]}{ours}.{part}.{leaf}", f"{_DECODER[1]}{theirs}.attn.in_proj_{leaf}[{third}]")
    for ours, theirs in (("cross_attention", "cross_attn"), ("self_attention", "self_attn"))
    for third, part in enumerate(("query", "key", "value"))
    for leaf in ("weight", "bias")
)
_TRANSFORMER_DECODER = (
    ("transformer_decoder.query_features.*", "query_feat.*"),
    ("transformer_decoder.query_positions.*", "query_embed.*"),
    ("transformer_decoder.level_embeddings.*", "level_embed.*"),
    *_ATTENTIONS,
    (_DECODER[0] + "cross_attention.output.*", _DECODER[1] + "cross_attn.attn.out_proj.*"),
    (_DECODER[0] + "cross_attention_norm.*", _DECODER[1] + "norms.0.*"),
    (_DECODER[0] + "self_attention.output.*", _DECODER[1] + "self_attn.attn.out_proj.*"),
    (_DECODER[0] + "self_attention_norm.*", _DECODER[1] + "norms.1.*"),
    (_DECODER[0] + "feedforward.linear1.*", _DECODER[1] + "ffn.layers.0.0.*"),
    (_DECODER[0] + "feedforward.linear2.*", _DECODER[1] + "ffn.layers.1.*"),
    (_DECODER[0] + "feedforward.norm.*", _DECODER[1] + "norms.2.*"),
    ("transformer_decoder.norm.*", "transformer_decoder.post_norm.*"),
    ("transformer_decoder.classifier.*", "cls_embed.*"),
    ("transformer_decoder.mask_embedder.{i}.*", "mask_embed.{i}.*"),
)
NAMES = (*_SWIN, *_RESNET, *_PIXEL_DECODER, *_TRANSFORMER_DECODER)

# Of mmdetection 2, and of 3; without the head's name.
_RENAMED = (
    (re.compile(r"(pixel_decoder\.encoder\.layers\.\d+)\.attentions\.0\."), r"\1.self_attn."),
    (re.compile(r"(transformer_decoder\.layers\.\d+)\.attentions\.0\."), r"\1.cross_attn."),
    (re.compile(r"(transformer_decoder\.layers\.\d+)\.attentions\.1\."), r"\1.self_attn."),
    (re.compile(r"((?:pixel_decoder\.encoder|transformer_decoder)\.layers\.\d+)\.ffns\.0\."),
     r"\1.ffn."),
)  # fmt: skip
# Averaging in mmdetection 2 puts the averages under the usual names and the others under `ema_`.
_NOT_WEIGHTS = re.compile(
    r".*\.num_batches_tracked|.*\.relative_position_index|loss_\w+\..*|ema_\w+"
)
_PACKED = re.compile(r".*\.in_proj_\w+")
_MERGING_PARAMETERS = re.compile(r"backbone\.stages\.\d+\.downsample\..*")
_CLASS_LISTS = ("classes", "thing_classes", "stuff_classes")


def recognises(names: Collection[str]) -> bool:
    """Whether these are the tensors of a Mask2Former of OpenMMLab.

    Args:
        names: Of a state dict.
    """
    return _head(names) is not None


def read(state: Mapping[str, Tensor], beside: Mapping[str, Any]) -> Translation:
    """Give a state dict of OpenMMLab our names.

    Args:
        state: All its tensors.
        beside: The checkpoint's other entries. `meta` may tell the classes; it is believed where it
            agrees with the classifier and left aside where it is of another form.

    Raises:
        ValueError: The tensors are not of one Mask2Former, or one has an impossible shape.
    """
    head = _head(state)
    if head is None:
        raise ValueError(
            f"{len(state)} tensors without the head of a single Mask2Former; OpenMMLab's is "
            f"called {', '.join(name.removesuffix('.') for name in _HEADS)}"
        )
    originals = {_current_name(name.removeprefix(head)): name for name in state}
    tensors = {
        name: _in_our_order(name, state[original])
        for name, original in originals.items()
        if not _NOT_WEIGHTS.fullmatch(name)
    }
    weights, unknown = to_ours(tensors, NAMES)
    left_over = [originals[name] for name in unknown]
    bias = weights.get(_CLASSIFIER_BIAS)
    num_classes = None if bias is None else bias.numel() - 1
    return Translation(
        weights, left_over, *_meaning(head, _mapping(beside.get("meta")), num_classes)
    )


def cells_of_unfolded(parameter: Float[Tensor, "*rows c4"]) -> Float[Tensor, "*rows c4"]:
    """Order the inputs of a patch merging as ours are: by cell, then by channel.

    Args:
        parameter: Over the four cells of 2 x 2 tokens in the order of `nn.Unfold`: by channel,
            then by row, then by column.

    Returns:
        The same over cells down the first column, then the second, and all channels of each.
    """
    return parameter.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)  # (..., x, y, c)


def _head(names: Collection[str]) -> str | None:
    heads = [head for head in _HEADS if all(head + mark in names for mark in _MARKS)]
    return heads[0] if len(heads) == 1 else None


def _current_name(name: str) -> str:
    for old, new in _RENAMED:
        name = old.sub(new, name)
    return name


def _in_our_order(name: str, tensor: Tensor) -> Tensor:
    if _PACKED.fullmatch(name):
        _check_parts(name, tensor, dim=0, parts=3)
    if not _MERGING_PARAMETERS.fullmatch(name):
        return tensor
    _check_parts(name, tensor, dim=-1, parts=4)
    return cells_of_unfolded(tensor)


def _check_parts(name: str, tensor: Tensor, *, dim: int, parts: int) -> None:
    if tensor.ndim == 0 or tensor.shape[dim] % parts:
        raise ValueError(
            f"tensor {name} has shape {tuple(tensor.shape)}; its dimension {dim} must be a "
            f"multiple of {parts}: the checkpoint is damaged or of another model"
        )


def _meaning(
    head: str, meta: Mapping[Any, Any], num_classes: int | None
) -> tuple[tuple[str, ...] | None, tuple[bool, ...] | None, Task | None]:
    """Class names, thing flags and task, each as far as the file tells it."""
    lists = _class_lists(meta)
    names = lists.get("classes")
    if names is None or len(names) != num_classes:
        names = None
    if head == SEMANTIC_HEAD:
        return names, None, "semantic"
    counts = _counts(meta, lists, num_classes)
    if counts is None and {"thing_classes", "stuff_classes"} <= lists.keys():
        return names, None, "panoptic"
    if counts is None and names is not None:
        counts = (len(names), 0)
    if counts is None:
        return None, None, None
    num_things, num_stuff = counts
    # The head knows no other order: its first classes are the things.
    is_thing = (True,) * num_things + (False,) * num_stuff
    return names, is_thing, "panoptic" if num_stuff else "instance"


def _counts(
    meta: Mapping[Any, Any], lists: Mapping[str, tuple[str, ...]], num_classes: int | None
) -> tuple[int, int] | None:
    """How many classes are things and stuff, where that adds up to the classifier's.

    The configuration counts before the lists: a data set with other classes keeps COCO's lists.
    """
    text = next((t for t in map(meta.get, ("cfg", "config")) if isinstance(t, str)), "")
    things, stuff = (
        {int(number) for number in re.findall(rf"\bnum_{kind}_classes *= *(\d{{1,6}})\b", text)}
        for kind in ("things", "stuff")
    )
    pairs = {(t, s) for t in things for s in stuff if t + s == num_classes}
    if len(pairs) == 1:
        return pairs.pop()
    pair = len(lists.get("thing_classes", ())), len(lists.get("stuff_classes", ()))
    return pair if all(pair) and sum(pair) == num_classes else None


def _class_lists(meta: Mapping[Any, Any]) -> dict[str, tuple[str, ...]]:
    """The lists of class names that the file has; mmdetection 2 kept `CLASSES` in `meta` itself."""
    lists = {}
    for source in (meta, _mapping(meta.get("dataset_meta"))):
        for key, value in source.items():
            name = key.lower() if isinstance(key, str) else ""
            is_list = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
            if name in _CLASS_LISTS and is_list and value:
                lists[name] = tuple(v.strip() for v in value)  # mmdetection 2 has " truck"
    return lists


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}
