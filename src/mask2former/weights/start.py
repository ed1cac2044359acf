"""What training starts from: random, a backbone from ImageNet, or a trained model."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mask2former.config import Backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.types import Classes
from mask2former.weights.native import fill, find_file, is_native, read
from mask2former.weights.pretrained import load_pretrained_backbone

_LOG = logging.getLogger(__name__)
_CLASSIFIER = "transformer_decoder.classifier."


def load_start(
    model: Mask2Former, classes: Classes, backbone: Backbone, weights: str | None
) -> None:
    """Fill a fresh model with what it is to start from.

    Args:
        model: With random weights.
        classes: Of the data it will be trained on.
        backbone: Its configuration; without `weights`, `pretrained` decides.
        weights: A run's folder, one of our files, or a `.safetensors` of the backbone alone. Of a
            trained model everything is kept; the classifier keeps the rows of classes that have
            the same name, the others start at random.

    Raises:
        FileNotFoundError: There is nothing at that path.
        ValueError: The weights do not fit, or a download failed.
    """
    if weights is None:
        if backbone.pretrained:
            load_pretrained_backbone(model.backbone, backbone.name)
        return
    path = find_file(Path(weights))
    if not _is_native_file(path):
        load_pretrained_backbone(model.backbone, backbone.name, path)
        return
    checkpoint = read(path)
    tensors = _with_own_classifier(checkpoint.weights, checkpoint.classes, model, classes)
    fill(model, tensors, str(path))


def _is_native_file(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return is_native(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error


def _with_own_classifier(
    tensors: Mapping[str, Tensor], known: Classes, model: Mask2Former, wanted: Classes
) -> dict[str, Tensor]:
    """Rows of the classifier in the order of the new classes; "no object" stays the last."""
    if known.names == wanted.names:
        return dict(tensors)
    rows = {name: row for row, name in enumerate(known.names)}
    pairs = [(new, rows[name]) for new, name in enumerate(wanted.names) if name in rows]
    kept = [wanted.names[new] for new, _ in pairs]
    pairs.append((len(wanted), len(known)))
    to_rows, from_rows = (torch.tensor(side) for side in zip(*pairs, strict=True))
    result = dict(tensors)
    for name, tensor in model.state_dict().items():
        if name.startswith(_CLASSIFIER):
            result[name] = tensor.cpu().index_copy(0, to_rows, tensors[name][from_rows])
    _LOG.info(
        "classifier: %d of %d classes keep their weights (%s), the others start at random",
        len(kept), len(wanted), ", ".join(kept[:10]) or "none",
    )  # fmt: skip
    return result
