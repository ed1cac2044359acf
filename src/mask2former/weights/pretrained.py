"""ImageNet weights for the backbone alone, from timm's hub or from a file."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file
from torch import Tensor, nn

from mask2former.model.backbone import SWIN_SIZES
from mask2former.weights.names import to_ours

_LOG = logging.getLogger(__name__)

# What the authors start from: torchvision's first ResNets; Swin from ImageNet-1k at 224 px for T
# and S, at 384 px for B, and from 22k for L. Other names mean timm's default weights.
_AT_TIMM = {
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "swin_tiny": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base": "swin_base_patch4_window12_384.ms_in1k",
    "swin_large": "swin_large_patch4_window12_384.ms_in22k",
}
_BLOCK = "layers.{i}.blocks.{j}."
_SWIN_NAMES = (
    ("patch_embed.proj.*", "patch_embed.proj.*"),
    ("patch_embed.norm.*", "patch_embed.norm.*"),
    *((f"{_BLOCK}{part}", f"{_BLOCK}{part}") for part in (
        "norm1.*", "norm2.*", "attn.relative_position_bias_table", "attn.qkv.*", "attn.proj.*",
        "mlp.fc1.*", "mlp.fc2.*",
    )),
    # timm merges patches at the start of a stage, the authors at the end of the one before.
    ("layers.{i}.downsample.norm.*", "layers.{i+1}.downsample.norm.*"),
    ("layers.{i}.downsample.reduction.*", "layers.{i+1}.downsample.reduction.*"),
)  # fmt: skip


def load_pretrained_backbone(backbone: nn.Module, name: str, file: Path | None = None) -> None:
    """Fill a backbone with ImageNet weights.

    What classification weights do not have stays random: Swin's norms of every stage, the pyramid
    of a backbone with one stride.

    Args:
        backbone: As `make_backbone(name)` made it.
        name: Of the backbone.
        file: A `.safetensors` with timm's names for this backbone's classifier; without one, the
            weights are downloaded through timm, or taken from its cache.

    Raises:
        ValueError: The file does not fit the backbone, or the download failed.
    """
    if name in SWIN_SIZES:
        ours, _ = to_ours(_read(name, _AT_TIMM[name], file), _SWIN_NAMES)
        missing = backbone.load_state_dict(ours, strict=False).missing_keys
        if lost := [key for key in missing if not key.startswith("norms.")]:
            raise ValueError(f"{file or name}: {len(lost)} tensors are missing: {lost[:3]}")
        return
    features = _timm_features(name, file)
    # Where the body gives channels last, a wrapper is around it.
    body: Any = getattr(backbone.body, "body", backbone.body)
    wanted = body.state_dict()
    body.load_state_dict({key: t for key, t in features.items() if key in wanted})


def _timm_features(name: str, file: Path | None) -> dict[str, Tensor]:
    """The state dict of timm's feature extractor, filled."""
    overlay: dict[str, Any] | None = None
    if file is not None:
        _check_fits(name, load_file(file), file)
        overlay = {"file": str(file)}
    timm_name = _AT_TIMM.get(name, name)
    return _download(timm_name, features_only=True, pretrained_cfg_overlay=overlay).state_dict()


def _read(name: str, timm_name: str, file: Path | None) -> Mapping[str, Tensor]:
    if file is None:
        return _download(timm_name).state_dict()
    state = load_file(file)
    _check_fits(timm_name, state, file, shown=name)
    return state


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


def _check_fits(
    timm_name: str, state: Mapping[str, Tensor], file: Path, shown: str | None = None
) -> None:
    """The file must fill the classifier of that name; its head and statistics of steps aside."""
    head = timm.get_pretrained_cfg(timm_name)
    heads = () if head is None or head.classifier is None else head.classifier
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    expected = {
        key: tensor.shape
        for key, tensor in timm.create_model(timm_name, pretrained=False).state_dict().items()
        if not key.endswith("num_batches_tracked") and not key.startswith(heads)
    }
    missing = [key for key in expected if key not in state]
    other = [key for key in expected if key in state and state[key].shape != expected[key]]
    if missing or other:
        raise ValueError(
            f"{file} does not hold the weights of backbone {shown or timm_name} under timm's "
            f"names: of {len(expected)} tensors {len(missing)} are missing "
            f"({', '.join(missing[:2])} ...) and {len(other)} have another shape; name the "
            "backbone that the file is for with --backbone"
        )
    _LOG.info("backbone %s: %d tensors from %s", shown or timm_name, len(expected), file)
