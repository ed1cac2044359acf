"""The model that a configuration describes, and weights put into it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mask2former import config
from mask2former.model.backbone import make_backbone, pixel_statistics
from mask2former.model.mask2former import Mask2Former

_COUNTER = "num_batches_tracked"


def build_model(model: config.Model, num_classes: int) -> Mask2Former:
    """Make a model with random weights.

    Args:
        model: Its sizes.
        num_classes: Without "no object".

    Raises:
        ValueError: The backbone is unknown or the sizes do not fit each other.
    """
    backbone = model.backbone
    pixel_mean, pixel_std = pixel_statistics(backbone.name)
    return Mask2Former(
        make_backbone(backbone.name, norm=backbone.norm, drop_path=backbone.drop_path),
        num_classes,
        num_queries=model.num_queries,
        hidden_dim=model.hidden_dim,
        num_heads=model.num_heads,
        encoder_layers=model.encoder_layers,
        encoder_feedforward_dim=model.encoder_feedforward_dim,
        decoder_layers=model.decoder_layers,
        decoder_feedforward_dim=model.decoder_feedforward_dim,
        pixel_mean=pixel_mean,
        pixel_std=pixel_std,
    )


def build_filled(
    model: config.Model, num_classes: int, tensors: Mapping[str, Tensor], source: str
) -> Mask2Former:
    """Make a model of these weights, without a second copy of them where that can be had.

    Args:
        model: Its sizes.
        num_classes: Without "no object".
        tensors: A state dict on one device; the model takes its tensors over.
        source: Where they come from, for the message.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    empty = build_empty(model, num_classes)
    wanted = empty.state_dict()
    _check_fits(wanted, tensors, source)
    if not _is_on_meta(empty):
        empty.load_state_dict(tensors, strict=False)
        return empty
    complete = {
        name: tensors[name].to(like.dtype)
        if name in tensors
        else torch.zeros(like.shape, dtype=like.dtype)
        for name, like in wanted.items()
    }
    empty.load_state_dict(complete, assign=True)
    return empty


def build_empty(model: config.Model, num_classes: int) -> Mask2Former:
    """Make a model whose weights take no memory and have no values: they are on the meta device.

    A backbone that must compute to be made, or that makes constants which no file holds, gets
    memory and random weights after all.
    """
    try:
        with torch.device("meta"):
            empty = build_model(model, num_classes)
    except (NotImplementedError, RuntimeError):
        return build_model(model, num_classes)
    saved = empty.state_dict().keys()
    constants = [buffer for name, buffer in empty.named_buffers() if name not in saved]
    is_complete = not any(constant.is_meta for constant in constants)
    return empty if is_complete else build_model(model, num_classes)


def _is_on_meta(model: Mask2Former) -> bool:
    return model.transformer_decoder.classifier.weight.is_meta


def fill(model: Mask2Former, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model, all of them.

    Args:
        model: Any device.
        tensors: A state dict.
        source: Where they come from, for the message.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    _check_fits(model.state_dict(), tensors, source)
    model.load_state_dict(tensors, strict=False)


def check_fits(
    model: config.Model, num_classes: int, tensors: Mapping[str, Tensor], source: str
) -> None:
    """Refuse weights that do not fill a model exactly; arguments as `build_filled` takes them.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    _check_fits(build_empty(model, num_classes).state_dict(), tensors, source)


def _check_fits(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    differences = compare(wanted, tensors)
    if any(differences):
        missing, extra, reshaped = differences
        raise ValueError(
            f"{source} does not fit the model: {len(missing)} tensors are missing {missing[:3]}, "
            f"{len(extra)} are left over {extra[:3]}, {len(reshaped)} have another shape "
            f"{reshaped[:3]}; use the preset and backbone that the weights were trained with"
        )


def compare(
    wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Names of tensors that are missing, left over, and of another shape (both shapes given).

    Batch norms that are not frozen count their steps; nothing depends on that.
    """
    missing = sorted(n for n in wanted.keys() - tensors.keys() if not n.endswith(_COUNTER))
    extra = sorted(n for n in tensors.keys() - wanted.keys() if not n.endswith(_COUNTER))
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    return missing, extra, reshaped
