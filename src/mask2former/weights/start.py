"""What training starts from: random, a backbone from ImageNet, or a trained model."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from mask2former import config
from mask2former.model.mask2former import Mask2Former
from mask2former.types import Classes
from mask2former.weights.build import check_fits, fill
from mask2former.weights.checkpoint import complete, model_of
from mask2former.weights.open import open_weights
from mask2former.weights.pretrained import load_pretrained_backbone
from mask2former.weights.tensor_file import TensorFile

logger = logging.getLogger(__name__)
_CLASSIFIER = "transformer_decoder.classifier."
_QUERIES = (
    "transformer_decoder.query_features.weight",
    "transformer_decoder.query_positions.weight",
)
_SHOWN = 10


def load_start(
    model: Mask2Former, classes: Classes, backbone: config.Backbone, weights: str | None
) -> None:
    """Fill a fresh model with what it is to start from.

    Args:
        model: With random weights.
        classes: Of the data it will be trained on.
        backbone: Its configuration; without `weights`, `pretrained` decides.
        weights: A trained model in any dialect (see `open.read`), or a backbone's file (see
            `load_pretrained_backbone`). Of a trained model everything is kept, but of classifier
            and queries what the new model has too: rows of classes with the same name, and as many
            queries as both have. The others start at random.

    Raises:
        FileNotFoundError: There is nothing of that name.
        ValueError: The weights do not fit, or a download failed.
    """
    if weights is None:
        if backbone.pretrained:
            load_pretrained_backbone(model.backbone, backbone.name)
        return
    opened = open_weights(weights)
    if isinstance(opened, TensorFile):
        load_pretrained_backbone(model.backbone, backbone.name, opened)
        return
    tensors, run, known = complete(opened)
    check_fits(run.model, len(known), tensors, weights)
    tensors = with_own_classes(tensors, known, model, classes)
    fill(model, with_own_queries(tensors, model), weights)


def model_to_start_from(weights: str) -> config.Model | None:
    """The sizes of a trained model, so that nobody has to repeat them; none for a backbone alone.

    Raises:
        FileNotFoundError: There is nothing of that name.
        ValueError: It is damaged, or a model of another kind.
    """
    opened = open_weights(weights)
    return None if isinstance(opened, TensorFile) else model_of(opened)


def with_own_classes(
    tensors: Mapping[str, Tensor], known: Classes, model: Mask2Former, wanted: Classes
) -> dict[str, Tensor]:
    """Rows of the classifier in the order of the new classes; "no object" stays the last."""
    if known.names == wanted.names:
        return dict(tensors)
    rows = {name: row for row, name in enumerate(known.names)}
    pairs = [(new, rows[name]) for new, name in enumerate(wanted.names) if name in rows]
    kept = [wanted.names[new] for new, _ in pairs]
    fresh = [name for name in wanted.names if name not in rows]
    pairs.append((len(wanted), len(known)))
    to_rows, from_rows = (torch.tensor(side) for side in zip(*pairs, strict=True))
    result = dict(tensors)
    for name, tensor in model.state_dict().items():
        if name.startswith(_CLASSIFIER) and tensor.shape[1:] == tensors[name].shape[1:]:
            result[name] = tensor.cpu().index_copy(0, to_rows, tensors[name][from_rows])
    logger.info(
        "classifier: %d of %d classes keep their weights (%s), the others start at random (%s)",
        len(kept), len(wanted), _shortened(kept), _shortened(fresh),
    )  # fmt: skip
    return result


def with_own_queries(tensors: Mapping[str, Tensor], model: Mask2Former) -> dict[str, Tensor]:
    """As many queries as the model has: the first ones of the weights, then the model's own."""
    result = dict(tensors)
    own = model.state_dict()
    (count, width), (wanted, own_width) = tensors[_QUERIES[0]].shape, own[_QUERIES[0]].shape
    if count == wanted or width != own_width:  # of another width, nothing fits
        return result
    for name in _QUERIES:
        common = tensors[name][:wanted].to(own[name])
        result[name] = torch.cat([common, own[name][len(common) :]])
    logger.info(
        "queries: %d of %d keep their weights%s",
        min(count, wanted), wanted, ", the others start at random" if wanted > count else "",
    )  # fmt: skip
    return result


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more
