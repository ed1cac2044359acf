"""Pixel decoder: deformable attention over strides 32, 16, 8, then mask features at stride 4."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mask2former.kernels.deformable_attention import deformable_attention
from mask2former.model.feed_forward import FeedForward
from mask2former.model.position import sine_position

ENCODER_STRIDES = (32, 16, 8)
MASK_STRIDE = 4
NUM_NORM_GROUPS = 32
NUM_POINTS = 4
"""That every head samples on every level."""


class PixelFeatures(NamedTuple):
    """What the transformer decoder looks at, and what masks are made of."""

    levels: tuple[Tensor, ...]
    """(b, c, h, w) at strides 32, 16, 8."""
    mask_features: Float[Tensor, "b c h w"]
    """At stride 4."""


class PixelDecoder(nn.Module):
    """Features of every stride, enriched by the others.

    Source:
        Mask2Former's `MSDeformAttnPixelDecoder`; it runs in float32 also under autocast.
    """

    def __init__(
        self,
        channels: dict[int, int],
        *,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        feedforward_dim: int,
    ) -> None:
        """Make the decoder.

        Args:
            channels: Channels of the backbone's features by stride: 4, 8, 16, 32.
            hidden_dim: Channels of everything here; see `Raises`.
            num_layers: Of deformable self-attention.
            num_heads: Of deformable self-attention.
            feedforward_dim: Width inside a layer.

        Raises:
            ValueError: When `hidden_dim` is no multiple of 32 and of `num_heads`, or below 64.
        """
        super().__init__()
        # A norm group of one channel has nothing to normalise in a map of one pixel.
        if hidden_dim % NUM_NORM_GROUPS or hidden_dim % num_heads or hidden_dim < 64:
            raise ValueError(
                f"hidden_dim = {hidden_dim} with {num_heads} heads; it must be at least 64, a "
                f"multiple of {NUM_NORM_GROUPS} and a multiple of the number of heads"
            )
        self.input_projections = nn.ModuleList(
            nn.Sequential(
                xavier_conv1x1(channels[stride], hidden_dim),
                nn.GroupNorm(NUM_NORM_GROUPS, hidden_dim),
            )
            for stride in ENCODER_STRIDES
        )
        self.level_embeddings = nn.Parameter(torch.empty(len(ENCODER_STRIDES), hidden_dim))
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(hidden_dim, num_heads, feedforward_dim)
            for _ in range(num_layers)
        )
        self.lateral = nn.Sequential(
            caffe2_conv(channels[MASK_STRIDE], hidden_dim, kernel_size=1, bias=False),
            nn.GroupNorm(NUM_NORM_GROUPS, hidden_dim),
        )
        self.fuse = nn.Sequential(
            caffe2_conv(hidden_dim, hidden_dim, kernel_size=3, bias=False),
            nn.GroupNorm(NUM_NORM_GROUPS, hidden_dim),
            nn.ReLU(inplace=True),
        )
        self.mask_projection = caffe2_conv(hidden_dim, hidden_dim, kernel_size=1, bias=True)
        nn.init.normal_(self.level_embeddings)

    def forward(self, features: dict[int, Tensor]) -> PixelFeatures:
        """Decode the backbone's features, `(b, c, h, w)` by stride."""
        with torch.autocast(features[MASK_STRIDE].device.type, enabled=False):
            dtype = torch.promote_types(features[MASK_STRIDE].dtype, torch.float32)
            levels = self._encode({stride: f.to(dtype) for stride, f in features.items()})
            fine = self.lateral(features[MASK_STRIDE].to(dtype))
            fine = fine + F.interpolate(
                levels[-1], size=fine.shape[-2:], mode="bilinear", align_corners=False
            )
            return PixelFeatures(levels, self.mask_projection(self.fuse(fine)))

    def _encode(self, features: dict[int, Tensor]) -> tuple[Tensor, ...]:
        maps = [
            projection(features[stride])
            for projection, stride in zip(self.input_projections, ENCODER_STRIDES, strict=True)
        ]
        sizes = [(m.shape[-2], m.shape[-1]) for m in maps]
        hidden_dim = maps[0].shape[1]
        tokens = torch.cat([m.flatten(2) for m in maps], dim=2).transpose(1, 2)  # (b, n, c)
        positions = torch.cat(
            [
                sine_position(height, width, hidden_dim, like=maps[0]).flatten(1).T + embedding
                for (height, width), embedding in zip(sizes, self.level_embeddings, strict=True)
            ]
        )
        centers = torch.cat([pixel_centers(h, w, like=maps[0]) for h, w in sizes])
        for layer in self.layers:
            tokens = layer(tokens, positions, centers, sizes)
        areas = [height * width for height, width in sizes]
        return tuple(
            level.transpose(1, 2).unflatten(2, size)
            for level, size in zip(tokens.split(areas, dim=1), sizes, strict=True)
        )


class DeformableEncoderLayer(nn.Module):
    """Self-attention by deformable attention, then a feed-forward network; norms come last."""

    def __init__(self, hidden_dim: int, num_heads: int, feedforward_dim: int) -> None:
        super().__init__()
        self.attention = DeformableSelfAttention(hidden_dim, num_heads, len(ENCODER_STRIDES))
        self.attention_norm = nn.LayerNorm(hidden_dim)
        self.feedforward = FeedForward(hidden_dim, feedforward_dim)

    def forward(
        self,
        tokens: Float[Tensor, "b n c"],
        positions: Float[Tensor, "n c"],
        centers: Float[Tensor, "n 2"],
        level_sizes: list[tuple[int, int]],
    ) -> Float[Tensor, "b n c"]:
        """Let every token look around its place on every level."""
        attended = self.attention(tokens + positions, tokens, centers, level_sizes)
        return self.feedforward(self.attention_norm(tokens + attended))


class DeformableSelfAttention(nn.Module):
    """Queries say where to look (offsets) and how much each look counts (weights)."""

    def __init__(self, hidden_dim: int, num_heads: int, num_levels: int) -> None:
        super().__init__()
        self.sample_shape = (num_heads, num_levels, NUM_POINTS)
        num_samples = math.prod(self.sample_shape)
        self.offsets = nn.Linear(hidden_dim, num_samples * 2)
        self.weights = nn.Linear(hidden_dim, num_samples)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Point p of head k starts p pixels away in direction 2 pi k / heads, on a square."""
        num_heads, num_levels, num_points = self.sample_shape
        angle = torch.arange(num_heads) * (2 * math.pi / num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)
        distance = torch.arange(1, num_points + 1)[:, None]
        start = (direction[:, None, None] * distance).expand(-1, num_levels, -1, -1)
        nn.init.zeros_(self.offsets.weight)
        with torch.no_grad():
            self.offsets.bias.copy_(start.flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        queries: Float[Tensor, "b n c"],
        tokens: Float[Tensor, "b n c"],
        centers: Float[Tensor, "n 2"],
        level_sizes: list[tuple[int, int]],
    ) -> Float[Tensor, "b n c"]:
        """Attend.

        Args:
            queries: Tokens with their positions.
            tokens: All levels, one after the other.
            centers: (x, y) of every token in [0, 1].
            level_sizes: (height, width) of every level.
        """
        b, n, _ = queries.shape
        heads, levels, points = self.sample_shape
        values = self.value(tokens).view(b, n, heads, -1)
        weights = self.weights(queries).view(b, n, heads, levels * points).softmax(dim=-1)
        offsets = self.offsets(queries).view(b, n, heads, levels, points, 2)
        weights = weights.view(b, n, heads, levels, points)
        return self.output(deformable_attention(values, level_sizes, centers, offsets, weights))


def pixel_centers(height: int, width: int, *, like: Tensor) -> Float[Tensor, "n 2"]:
    """(x, y) of every pixel's centre in [0, 1], row by row."""
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def xavier_conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 1 x 1 convolution that starts as the release's input projections do."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def caffe2_conv(in_channels: int, out_channels: int, *, kernel_size: int, bias: bool) -> nn.Conv2d:
    """A convolution that keeps the size and starts as Caffe2's Xavier: uniform by fan-in."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size=kernel_size, padding=kernel_size // 2, bias=bias
    )
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
