"""Four strides from a backbone that has one, such as a plain ViT."""

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mask2former.model.features import STRIDES, Backbone

PYRAMID_STRIDE = 16


class SingleStrideBackbone(Backbone):
    """The last map of a model without a pyramid, completed by a simple one.

    The body sees the image at the scale at which its map has stride 16, whatever its patch size.
    """

    def __init__(self, body: nn.Module, *, patch_size: int, channels: int) -> None:
        """Wrap.

        Args:
            body: Gives a list of maps `(b, c, h, w)`; the last one counts.
            patch_size: Stride of the map, in pixels.
            channels: Of the map.
        """
        super().__init__()
        self.body = body
        self.patch_size = patch_size
        self.pyramid = SimpleFeaturePyramid(channels)
        self.channels = self.pyramid.channels

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """See `Backbone`."""
        if self.patch_size != PYRAMID_STRIDE:
            size = [side // PYRAMID_STRIDE * self.patch_size for side in images.shape[-2:]]
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        return self.pyramid(self.body(images)[-1])


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


def _smooth(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    ]
