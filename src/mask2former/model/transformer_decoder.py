"""Masked-attention transformer decoder: queries look only where their own mask is."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mask2former.model.feed_forward import FeedForward
from mask2former.model.pixel_decoder import PixelFeatures
from mask2former.model.position import sine_position
from mask2former.types import MaskPrediction

NUM_LEVELS = 3


class Level(NamedTuple):
    """One resolution, ready to be attended to."""

    keys: Float[Tensor, "b n c"]
    """Tokens with level embedding and position."""
    values: Float[Tensor, "b n c"]
    """Tokens with level embedding only."""
    mask_features: Float[Tensor, "b c n"]
    """Mask features resized to this level, without gradient."""


class TransformerDecoder(nn.Module):
    """Queries that read strides 32, 16, 8 in turn and predict after every layer.

    Source:
        Mask2Former's `MultiScaleMaskedTransformerDecoder`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        num_queries: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        feedforward_dim: int,
    ) -> None:
        super().__init__()
        self.query_features = nn.Embedding(num_queries, hidden_dim)
        self.query_positions = nn.Embedding(num_queries, hidden_dim)
        self.level_embeddings = nn.Embedding(NUM_LEVELS, hidden_dim)
        self.layers = nn.ModuleList(
            DecoderLayer(hidden_dim, num_heads, feedforward_dim) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.classifier = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embedder = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
        )

    def forward(self, features: PixelFeatures) -> MaskPrediction:
        """Predict from the initial queries and after every layer."""
        levels = self._prepare_levels(features)
        b = len(features.mask_features)
        queries = self.query_features.weight.expand(b, -1, -1)
        positions = self.query_positions.weight
        class_logits, mask_embeddings = self._predict(queries)
        predictions = [(class_logits, mask_embeddings)]
        for i, layer in enumerate(self.layers):
            level = levels[i % NUM_LEVELS]
            blocked = attention_mask(mask_embeddings.detach(), level.mask_features)
            queries = layer(queries, positions, level, blocked)
            class_logits, mask_embeddings = self._predict(queries)
            predictions.append((class_logits, mask_embeddings))
        all_class_logits, all_mask_embeddings = map(torch.stack, zip(*predictions, strict=True))
        return MaskPrediction(all_class_logits, all_mask_embeddings, features.mask_features)

    def _predict(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.norm(queries)
        return self.classifier(normed), self.mask_embedder(normed)

    def _prepare_levels(self, features: PixelFeatures) -> list[Level]:
        levels = []
        mask_features = features.mask_features.detach()
        for feature, embedding in zip(features.levels, self.level_embeddings.weight, strict=True):
            _, c, h, w = feature.shape
            values = feature.flatten(2).transpose(1, 2) + embedding
            keys = values + sine_position(h, w, c, like=feature).flatten(1).T
            # Resizing is linear: the mask of resized features is the resized mask.
            resized = F.interpolate(mask_features, (h, w), mode="bilinear", align_corners=False)
            levels.append(Level(keys, values, resized.flatten(2)))
        return levels


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward network; norms come last."""

    def __init__(self, hidden_dim: int, num_heads: int, feedforward_dim: int) -> None:
        super().__init__()
        self.cross_attention = Attention(hidden_dim, num_heads)
        self.cross_attention_norm = nn.LayerNorm(hidden_dim)
        self.self_attention = Attention(hidden_dim, num_heads)
        self.self_attention_norm = nn.LayerNorm(hidden_dim)
        self.feedforward = FeedForward(hidden_dim, feedforward_dim)

    def forward(
        self,
        queries: Float[Tensor, "b q c"],
        positions: Float[Tensor, "q c"],
        level: Level,
        blocked: Bool[Tensor, "b 1 q n"],
    ) -> Float[Tensor, "b q c"]:
        """Let queries read the level, then each other."""
        read = self.cross_attention(queries + positions, level.keys, level.values, ~blocked)
        queries = self.cross_attention_norm(queries + read)
        placed = queries + positions
        exchanged = self.self_attention(placed, placed, queries)
        return self.feedforward(self.self_attention_norm(queries + exchanged))


class Attention(nn.Module):
    """Multi-head attention that never makes its weights visible, so that fused kernels serve."""

    def __init__(self, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key = nn.Linear(hidden_dim, hidden_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)
        for linear in (self.query, self.key, self.value):
            # The release draws the three as one (3c, c) matrix, which lowers Xavier's bound.
            nn.init.xavier_uniform_(linear.weight, gain=1 / math.sqrt(2))
            nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        queries: Float[Tensor, "b q c"],
        keys: Float[Tensor, "b n c"],
        values: Float[Tensor, "b n c"],
        allowed: Bool[Tensor, "b 1 q n"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """Attend where `allowed` (shared by the heads) is True; everywhere without it."""
        q, k, v = (
            linear(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for linear, tokens in ((self.query, queries), (self.key, keys), (self.value, values))
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.output(attended.transpose(1, 2).flatten(2))


def attention_mask(
    mask_embeddings: Float[Tensor, "b q c"], mask_features: Float[Tensor, "b c n"]
) -> Bool[Tensor, "b 1 q n"]:
    """Where each query may not look: outside its predicted mask.

    Source:
        The release compares the sigmoid with 0.5, not the logit with 0: a logit of -1e-8 has a
        sigmoid of exactly 0.5 and is not blocked.
    """
    blocked = torch.bmm(mask_embeddings, mask_features).sigmoid() < 0.5
    return reopen_empty_rows(blocked)[:, None]


def reopen_empty_rows(blocked: Bool[Tensor, "b q n"]) -> Bool[Tensor, "b q n"]:
    """Let a query look everywhere when its predicted mask is empty.

    A row that blocks all n positions leaves softmax nothing to normalize: the plain formula gives
    NaN, fused kernels give zeros.
    """
    return blocked & ~blocked.all(dim=-1, keepdim=True)
