"""ImageNet weights for the backbone alone, from timm's hub or from a file."""

import logging
from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from mask2former.model.backbone import SWIN_SIZES
from mask2former.weights.backbone_names import recognises, to_our_swin, to_timm
from mask2former.weights.tensor_file import TensorFile

logger = logging.getLogger(__name__)

# What the authors start from: torchvision's first ResNets; Swin from ImageNet-1k at 224 px for T
# and S, at 384 px for B, and from 22k at 384 px for B again and L. Other names mean timm's default
# weights.
_AT_TIMM = {
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "swin_tiny": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base": "swin_base_patch4_window12_384.ms_in1k",
    "swin_base_in21k": "swin_base_patch4_window12_384.ms_in22k",
    "swin_large": "swin_large_patch4_window12_384.ms_in22k",
}


def load_pretrained_backbone(
    backbone: nn.Module, name: str, file: TensorFile | None = None
) -> None:
    """Fill a backbone with ImageNet weights.

    What classification weights do not have stays random: Swin's norms of every stage, the pyramid
    of a backbone with one stride.

    Args:
        backbone: As `make_backbone(name)` made it.
        name: Of the backbone.
        file: A classifier's weights: of a ResNet as torchvision, timm or detectron2 name them, of
            a Swin as its authors or timm do, of other backbones as timm does. Without one, the
            weights are downloaded through timm, or taken from its cache.

    Raises:
        ValueError: The file does not fit the backbone, or the download failed.
    """
    if name in SWIN_SIZES:
        state = _download(_AT_TIMM[name]).state_dict() if file is None else file.tensors
        ours = to_our_swin(state)
        wanted = {
            key: tensor.shape
            for key, tensor in backbone.state_dict().items()
            if not key.startswith("norms.")
        }
        _check_fits(name, wanted, ours, file)
        backbone.load_state_dict({key: ours[key] for key in wanted}, strict=False)
        return
    features = _timm_features(name, file)
    # Where the body gives channels last, a wrapper is around it.
    body: Any = getattr(backbone.body, "body", backbone.body)
    wanted = body.state_dict()
    body.load_state_dict({key: t for key, t in features.items() if key in wanted})


def _timm_features(name: str, file: TensorFile | None) -> dict[str, Tensor]:
    """The state dict of timm's feature extractor, filled."""
    overlay: dict[str, Any] | None = None
    if file is not None:
        state = to_timm(file.tensors)
        _check_fits(name, _classifier_shapes(name), state, file)
        overlay = {"state_dict": state}
    timm_name = _AT_TIMM.get(name, name)
    return _download(timm_name, features_only=True, pretrained_cfg_overlay=overlay).state_dict()


def _download(timm_name: str, **keywords: Any) -> nn.Module:
    timm_log = logging.getLogger("timm.models._builder")
    level = timm_log.level
    timm_log.setLevel(logging.ERROR)  # it warns of the classifier, which nobody wants here
    try:
        return timm.create_model(timm_name, pretrained=True, **keywords)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"no ImageNet weights for backbone {timm_name}: {str(error).splitlines()[0]} "
            "Connect to the network once, give a file with --weights FILE, or train from random "
            "weights with --weights none"
        ) from error
    finally:
        timm_log.setLevel(level)


def _classifier_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Tensors that a classifier's file must hold; its head and the counts of its steps aside."""
    head = timm.get_pretrained_cfg(name)
    heads = () if head is None or head.classifier is None else head.classifier
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    return {
        key: tuple(tensor.shape)
        for key, tensor in timm.create_model(name, pretrained=False).state_dict().items()
        if not key.endswith("num_batches_tracked") and not key.startswith(heads)
    }


def _check_fits(
    name: str,
    expected: Mapping[str, tuple[int, ...]],
    state: Mapping[str, Tensor],
    file: TensorFile | None,
) -> None:
    source = name if file is None else file.path
    missing = [key for key in expected if key not in state]
    other = [key for key in expected if key in state and state[key].shape != expected[key]]
    if missing or other:
        kind = None if file is None else recognises(file.tensors)
        instead = f" but {kind}" if kind else ""
        raise ValueError(
            f"{source} does not hold the weights of backbone {name}{instead}: of {len(expected)} "
            f"tensors {len(missing)} are missing ({', '.join(missing[:2])} ...) and {len(other)} "
            "have another shape; name the backbone that the file is for with --backbone"
        )
    logger.info("backbone %s: %d tensors from %s", name, len(expected), source)
