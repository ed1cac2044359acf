"""Batch norm with statistics, scales and shifts that stay as they are."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """A scale and a shift per channel, kept as batch norm's four buffers.

    They are applied in the precision of the features, so that half precision stays half.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        """Take over a batch norm, and what timm may have put behind it.

        A scale of 0, with which some residual branches start, becomes 1: frozen, they would never
        leave it.
        """
        super().__init__()
        is_unknown = norm.weight.is_meta
        scale = norm.weight if is_unknown or norm.weight.any() else torch.ones_like(norm.weight)
        self.register_buffer("weight", scale.detach().clone())
        self.register_buffer("bias", norm.bias.detach().clone())
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.register_buffer("running_mean", norm.running_mean.clone())
        self.register_buffer("running_var", norm.running_var.clone())
        self.eps = norm.eps
        self.drop = getattr(norm, "drop", nn.Identity())
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Scale and shift; then timm's dropout and activation, if there are any.

        Source:
            detectron2's FrozenBatchNorm2d: scale = weight / sqrt(variance + eps), shift = bias -
            mean x scale, cast to the features' type.
        """
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        scale, shift = (x[:, None, None].to(features.dtype) for x in (scale, shift))
        return self.act(self.drop(features * scale + shift))


def freeze_batch_norms(module: nn.Module) -> None:
    """Replace all batch norms inside a module; names of tensors stay, counters vanish."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child))
        else:
            freeze_batch_norms(child)
