"""Swin transformer, equal to the authors' at every image size.

The order matters: tokens are normalised, padded to whole windows, rolled, attended (padding
included), rolled back and cropped. `timm` rolls before it pads, which gives other features.
"""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from mask2former.model.drop_path import DropPath
from mask2former.model.features import STRIDES, Backbone

PATCH_SIZE = 4


class SwinTransformer(Backbone):
    """Features at strides 4, 8, 16 and 32, each through its own norm.

    Source:
        Swin Transformer (Liu et al., 2021) as Mask2Former's release runs it.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        depths: tuple[int, int, int, int],
        num_heads: tuple[int, int, int, int],
        window: int,
        drop_path: float,
    ) -> None:
        """Make the backbone.

        Args:
            embed_dim: Channels of the first stage; they double from stage to stage.
            depths: Blocks of every stage.
            num_heads: Of every stage.
            window: Side of the attention windows, in tokens.
            drop_path: Probability of leaving out the last block; it rises linearly from 0.
        """
        super().__init__()
        self.channels = {stride: embed_dim * 2**i for i, stride in enumerate(STRIDES)}
        last = sum(depths) - 1
        drop_paths = iter(drop_path * block / last for block in range(last + 1))
        self.patch_embed = PatchEmbedding(embed_dim)
        self.layers = nn.ModuleList(
            SwinStage(
                embed_dim * 2**i,
                num_heads=num_heads[i],
                window=window,
                drop_paths=list(itertools.islice(drop_paths, depths[i])),
                downsamples=i < len(STRIDES) - 1,
            )
            for i in range(len(STRIDES))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in self.channels.values())

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Tensor]:
        """See `Backbone`."""
        tokens = self.patch_embed(images)  # (b, h, w, c)
        features = {}
        for stride, stage, norm in zip(self.channels, self.layers, self.norms, strict=True):
            tokens, downsampled = stage(tokens)
            features[stride] = norm(tokens).permute(0, 3, 1, 2).contiguous()
            tokens = downsampled
        return features


class PatchEmbedding(nn.Module):
    """One token per 4 x 4 pixels."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=PATCH_SIZE, stride=PATCH_SIZE)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h2 w2 c"]:
        """Embed; sizes are rounded up to whole patches."""
        h, w = images.shape[-2:]
        images = F.pad(images, (0, -w % PATCH_SIZE, 0, -h % PATCH_SIZE))
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class SwinStage(nn.Module):
    """Blocks of one resolution; every second one has its windows shifted by half a window."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        window: int,
        drop_paths: list[float],
        downsamples: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(
                dim, num_heads, window=window, shift=window // 2 * (i % 2), drop_path=drop_path
            )
            for i, drop_path in enumerate(drop_paths)
        )
        self.window = window
        self.downsample = PatchMerging(dim) if downsamples else None

    def forward(
        self, tokens: Float[Tensor, "b h w c"]
    ) -> tuple[Float[Tensor, "b h w c"], Float[Tensor, "b h2 w2 c2"] | None]:
        """The stage's tokens, and the next stage's."""
        height, width = (size + -size % self.window for size in tokens.shape[1:3])
        separated = shifted_neighbours(height, width, self.window, tokens.device)
        for block in self.blocks:
            tokens = block(tokens, separated)
        return tokens, None if self.downsample is None else self.downsample(tokens)


class SwinBlock(nn.Module):
    """Window attention, then a feed-forward network; norms come first."""

    def __init__(
        self, dim: int, num_heads: int, *, window: int, shift: int, drop_path: float
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, 4 * dim)
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)

    def forward(
        self, tokens: Float[Tensor, "b h w c"], separated: Bool[Tensor, "windows n n"]
    ) -> Float[Tensor, "b h w c"]:
        """Transform.

        Args:
            tokens: Of the stage.
            separated: True where two tokens of a shifted window are no neighbours in the image.
        """
        tokens = tokens + self.drop_path1(self._attend(self.norm1(tokens), separated))
        return tokens + self.drop_path2(self.mlp(self.norm2(tokens)))

    def _attend(self, tokens: Tensor, separated: Tensor) -> Tensor:
        h, w = tokens.shape[1:3]
        tokens = F.pad(tokens, (0, 0, 0, -w % self.window, 0, -h % self.window))
        if self.shift:
            tokens = tokens.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = cut_windows(tokens, self.window)
        windows = self.attn(windows, separated if self.shift else None)
        tokens = join_windows(windows, self.window, tokens.shape[1], tokens.shape[2])
        if self.shift:
            tokens = tokens.roll((self.shift, self.shift), dims=(1, 2))
        return tokens[:, :h, :w]


class WindowAttention(nn.Module):
    """Self-attention within windows, with a learned bias for every relative position."""

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.relative_position_bias_table = nn.Parameter(
            torch.empty((2 * window - 1) ** 2, num_heads)
        )
        self.register_buffer("bias_index", relative_position_index(window), persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(
        self,
        tokens: Float[Tensor, "b windows n c"],
        separated: Bool[Tensor, "windows n n"] | None,
    ) -> Float[Tensor, "b windows n c"]:
        """Attend within each window, except between separated tokens."""
        b, num_windows, n, _ = tokens.shape
        qkv = self.qkv(tokens).view(b, num_windows, n, 3, self.num_heads, -1)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (b, windows, heads, n, c)
        bias = self.relative_position_bias_table[self.bias_index].permute(2, 0, 1)  # (heads, n, n)
        if separated is None:
            q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
        else:
            # Windows lie beside heads, so that one mask serves all images of the batch.
            q, k, v = q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2)
            bias = (bias - 100.0 * separated[:, None]).flatten(0, 1)  # (windows*heads, n, n)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        attended = attended.reshape(b, num_windows, self.num_heads, n, -1)
        return self.proj(attended.transpose(2, 3).flatten(3))


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        """Transform every token alone."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class PatchMerging(nn.Module):
    """One token of twice the channels for every 2 x 2; sizes are rounded up to even."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, tokens: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h2 w2 c2"]:
        """Merge."""
        h, w = tokens.shape[1:3]
        tokens = F.pad(tokens, (0, 0, 0, w % 2, 0, h % 2))
        cell = [tokens[:, y::2, x::2] for x, y in itertools.product((0, 1), (0, 1))]
        return self.reduction(self.norm(torch.cat(cell, dim=-1)))


def cut_windows(tokens: Shaped[Tensor, "b h w c"], window: int) -> Shaped[Tensor, "b windows n c"]:
    """Cut a map of whole windows, row by row."""
    b, h, w, c = tokens.shape
    cut = tokens.view(b, h // window, window, w // window, window, c).transpose(2, 3)
    return cut.reshape(b, (h // window) * (w // window), window * window, c)


def join_windows(
    windows: Float[Tensor, "b windows n c"], window: int, height: int, width: int
) -> Float[Tensor, "b h w c"]:
    """The inverse of `cut_windows`."""
    b, _, _, c = windows.shape
    cut = windows.view(b, height // window, width // window, window, window, c)
    return cut.transpose(2, 3).reshape(b, height, width, c)


def relative_position_index(window: int) -> Int64[Tensor, "n n"]:
    """Row of the bias table for every pair of tokens of a window: from one, to the other."""
    side = torch.arange(window, device="cpu")
    y, x = torch.meshgrid(side, side, indexing="ij")
    y, x = y.flatten(), x.flatten()
    dy, dx = y[:, None] - y + window - 1, x[:, None] - x + window - 1
    return dy * (2 * window - 1) + dx


def shifted_neighbours(
    height: int, width: int, window: int, device: torch.device
) -> Bool[Tensor, "windows n n"]:
    """Pairs of tokens that only the roll of a shifted map has brought into one window.

    Args:
        height: Of the padded map, in tokens; whole windows.
        width: Likewise.
        window: Side of a window.
        device: Where to make it.

    Returns:
        True where the pair may not attend to each other.
    """

    def bands(size: int) -> Tensor:
        place = torch.arange(size, device=device)
        return (place >= size - window).long() + (place >= size - window // 2).long()

    region = bands(height)[:, None] * 3 + bands(width)  # (height, width)
    regions = cut_windows(region[None, :, :, None], window)[0, :, :, 0]  # (windows, n)
    return regions[:, :, None] != regions[:, None]
