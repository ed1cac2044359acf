"""Backbones by name: features at strides 4, 8, 16 and 32 of a normalised image."""

from typing import Literal, NamedTuple, Protocol

import timm
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import LayerNorm2d, freeze_batch_norm_2d
from torch import Tensor, nn

from mask2former.model.swin import SwinTransformer
from mask2former.suggestions import did_you_mean

STRIDES = (4, 8, 16, 32)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SwinSize(NamedTuple):
    """The constants that tell the published Swins apart."""

    embed_dim: int
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    window: int


SWIN_SIZES = {
    "swin_tiny": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24), window=7),
    "swin_small": SwinSize(96, (2, 2, 18, 2), (3, 6, 12, 24), window=7),
    "swin_base": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), window=12),
    "swin_large": SwinSize(192, (2, 2, 18, 2), (6, 12, 24, 48), window=12),
}

BatchNormMode = Literal["frozen", "sync", "batch"]


class Backbone(Protocol):
    """What the model asks of a backbone."""

    channels: dict[int, int]
    """By stride."""

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]: ...


def make_backbone(
    name: str, *, norm: BatchNormMode = "frozen", drop_path: float = 0.0
) -> nn.Module:
    """Make a backbone with random weights.

    Args:
        name: swin_tiny, swin_small, swin_base, swin_large, or a `timm` model that gives feature
            maps: all four strides, or one (a plain ViT), which a simple pyramid then completes.
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
    backbone = TimmBackbone(name, drop_path=drop_path)
    return _freeze_norms(backbone) if norm == "frozen" else backbone


def pixel_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of RGB in [0, 1] that the backbone's ImageNet weights expect."""
    if name in SWIN_SIZES:
        return IMAGENET_MEAN, IMAGENET_STD
    pretrained = timm.get_pretrained_cfg(name)
    if pretrained is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(pretrained.mean), tuple(pretrained.std)


class TimmBackbone(nn.Module):
    """A `timm` model's feature maps."""

    def __init__(self, name: str, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.body = _make_features(name, drop_path)
        info = self.body.feature_info
        self.channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
        reductions, channels = info.reduction(), info.channels()
        if set(STRIDES) <= set(reductions):
            self.strides = tuple(reductions)
            self.channels = {
                s: c for s, c in zip(reductions, channels, strict=True) if s in STRIDES
            }
            self.pyramid = None
            self.patch_size = None
        elif len(set(reductions)) == 1:
            self.patch_size = reductions[0]
            self.pyramid = SimpleFeaturePyramid(channels[-1])
            self.channels = self.pyramid.channels
        else:
            raise ValueError(
                f"backbone {name!r} gives feature maps at strides {reductions}; "
                f"it must give {list(STRIDES)} or a single one"
            )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """Features `(b, c, h, w)` by stride."""
        if self.pyramid is not None:
            return self.pyramid(self._single_map(images))
        maps = dict(zip(self.strides, map(self._channels_first, self.body(images)), strict=True))
        return {stride: maps[stride] for stride in STRIDES}

    def _single_map(self, images: Tensor) -> Tensor:
        """The last map at stride 16: patches of another size see the image at another scale."""
        if self.patch_size != 16:
            size = [side // 16 * self.patch_size for side in images.shape[-2:]]
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        return self._channels_first(self.body(images)[-1])

    def _channels_first(self, feature: Tensor) -> Tensor:
        return feature.permute(0, 3, 1, 2) if self.channels_last else feature


class SimpleFeaturePyramid(nn.Module):
    """Strides 4, 8, 16 and 32 from one map at stride 16.

    Source:
        ViTDet (Li et al., 2022), section 3: transposed convolutions up, pooling down, then a
        1 x 1 and a 3 x 3 convolution, each with a layer norm.
    """

    def __init__(self, in_channels: int, out_channels: int = 256) -> None:
        super().__init__()
        half, quarter = in_channels // 2, in_channels // 4
        self.to_stride4 = nn.Sequential(
            nn.ConvTranspose2d(in_channels, half, kernel_size=2, stride=2),
            LayerNorm2d(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, kernel_size=2, stride=2),
            *_smooth(quarter, out_channels),
        )
        self.to_stride8 = nn.Sequential(
            nn.ConvTranspose2d(in_channels, half, kernel_size=2, stride=2),
            *_smooth(half, out_channels),
        )
        self.to_stride16 = nn.Sequential(*_smooth(in_channels, out_channels))
        self.to_stride32 = nn.Sequential(
            nn.MaxPool2d(kernel_size=2, stride=2), *_smooth(in_channels, out_channels)
        )
        self.channels = dict.fromkeys(STRIDES, out_channels)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> dict[int, Tensor]:
        """Features by stride."""
        return {
            4: self.to_stride4(feature),
            8: self.to_stride8(feature),
            16: self.to_stride16(feature),
            32: self.to_stride32(feature),
        }


def _freeze_norms(backbone: nn.Module) -> nn.Module:
    """Some residual branches start with a scale of 0, which a frozen norm would never leave."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
    return freeze_batch_norm_2d(backbone)


def _smooth(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    ]


def _make_features(name: str, drop_path: float) -> nn.Module:
    """Not every timm model has each of these switches, and none says so but by refusing it."""
    switches = [{"drop_path_rate": drop_path}] if drop_path else [{}]
    # Transformers: sizes other than the pretraining one.
    switches = [{**s, "dynamic_img_size": True} for s in switches] + switches
    refusal: Exception | None = None
    for keywords in switches:
        try:
            return timm.create_model(name, features_only=True, pretrained=False, **keywords)
        except TypeError as error:
            refusal = error
        except (RuntimeError, AttributeError, AssertionError) as error:
            raise ValueError(f"backbone {name!r} gives no feature maps: {error}") from error
    raise ValueError(f"backbone {name!r} cannot be made: {refusal}")
