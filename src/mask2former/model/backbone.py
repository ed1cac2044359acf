"""Backbones by name."""

from typing import Any, Literal, NamedTuple

import timm
from jaxtyping import Float
from torch import Tensor, nn

from mask2former.model.drop_path import replace_drop_paths
from mask2former.model.features import STRIDES, Backbone
from mask2former.model.frozen_norm import freeze_batch_norms
from mask2former.model.simple_pyramid import SingleStrideBackbone
from mask2former.model.swin import SwinTransformer
from mask2former.suggestions import did_you_mean

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SwinSize(NamedTuple):
    """The constants of a published Swin."""

    embed_dim: int
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    window: int


# Swin-B has two names, because the authors start it from two kinds of ImageNet weights.
SWIN_SIZES = {
    "swin_tiny": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24), window=7),
    "swin_small": SwinSize(96, (2, 2, 18, 2), (3, 6, 12, 24), window=7),
    "swin_base": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), window=12),
    "swin_base_in21k": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), window=12),
    "swin_large": SwinSize(192, (2, 2, 18, 2), (6, 12, 24, 48), window=12),
}

BatchNormMode = Literal["frozen", "sync", "batch"]


def make_backbone(name: str, *, norm: BatchNormMode = "frozen", drop_path: float = 0.0) -> Backbone:
    """Make a backbone with random weights.

    Args:
        name: One of `SWIN_SIZES`, or a `timm` model that gives feature maps: all four strides, or
            one (a plain ViT), which a simple pyramid then completes.
        norm: "frozen" makes buffers of batch norm's statistics, scales and shifts.
        drop_path: Stochastic depth of the last block; 0 where the model has none.

    Raises:
        ValueError: When the name is unknown or its feature maps do not serve.
    """
    if name in SWIN_SIZES:
        return SwinTransformer(**SWIN_SIZES[name]._asdict(), drop_path=drop_path)
    if name.startswith("swin_"):
        raise ValueError(
            f"backbone {name!r}: timm's first Swin gives other features than the published one "
            f"at most image sizes; use one of {', '.join(SWIN_SIZES)}"
        )
    if not timm.is_model(name):
        near = did_you_mean(name, [*SWIN_SIZES, *timm.list_models()])
        raise ValueError(
            f"backbone {name!r} is neither one of {', '.join(SWIN_SIZES)} nor a timm model; {near}"
        )
    backbone = _make_timm_backbone(name, drop_path)
    if norm == "frozen":
        freeze_batch_norms(backbone)
    return backbone


def pixel_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of RGB in [0, 1] that the backbone's ImageNet weights expect."""
    pretrained = None if name in SWIN_SIZES else timm.get_pretrained_cfg(name)
    if pretrained is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(pretrained.mean), tuple(pretrained.std)


class PyramidBackbone(Backbone):
    """A `timm` model with feature maps of many strides."""

    def __init__(self, body: nn.Module, *, strides: list[int], channels: list[int]) -> None:
        super().__init__()
        self.body = body
        self.strides = strides
        by_stride = dict(zip(strides, channels, strict=True))
        self.channels = {stride: by_stride[stride] for stride in STRIDES}

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """See `Backbone`."""
        maps = dict(zip(self.strides, self.body(images), strict=True))
        return {stride: maps[stride] for stride in STRIDES}


class ChannelsFirst(nn.Module):
    """Maps of a body that gives `(b, h, w, c)`, as `(b, c, h, w)`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Feature maps."""
        return [feature.permute(0, 3, 1, 2) for feature in self.body(images)]


def _make_timm_backbone(name: str, drop_path: float) -> Backbone:
    body = _make_features(name, drop_path)
    replace_drop_paths(body)
    info: Any = body.feature_info
    strides, channels = info.reduction(), info.channels()
    if getattr(body, "output_fmt", "NCHW") == "NHWC":
        body = ChannelsFirst(body)
    if set(STRIDES) <= set(strides):
        return PyramidBackbone(body, strides=strides, channels=channels)
    if len(set(strides)) == 1:
        return SingleStrideBackbone(body, patch_size=strides[0], channels=channels[-1])
    raise ValueError(
        f"backbone {name!r} gives feature maps at strides {strides}; "
        f"it must give {list(STRIDES)} or a single one"
    )


def _make_features(name: str, drop_path: float) -> nn.Module:
    """Not every timm model has these switches, and none says so but by refusing them."""
    drop: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    # Transformers have a table of positions, which they can resize.
    other_sizes: dict[str, Any] = {"dynamic_img_size": True}
    refusal: Exception | None = None
    for keywords in (drop | other_sizes, drop):
        try:
            return timm.create_model(name, features_only=True, pretrained=False, **keywords)
        except TypeError as error:
            refusal = error
        except (RuntimeError, AttributeError, AssertionError) as error:
            raise ValueError(f"backbone {name!r} gives no feature maps: {error}") from error
    raise ValueError(f"backbone {name!r} cannot be made with {drop or 'its defaults'}: {refusal}")
