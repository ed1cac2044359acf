"""Stochastic depth whose draws belong to images, not to the batch that they happen to be in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import timm.layers
import torch
from jaxtyping import Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Leaves a residual branch out for some images of a training batch, and scales up the others.

    Source:
        Deep Networks with Stochastic Depth (Huang et al., 2016), image by image as in Swin.
    """

    def __init__(self, probability: float) -> None:
        """Say how often.

        Args:
            probability: Of leaving the branch out, in [0, 1).
        """
        super().__init__()
        self.probability = probability
        self.draws: Float[Tensor, " b"] | None = None
        """Uniform in [0, 1), one per image; none: drawn from PyTorch's own generator."""

    def forward(self, branch: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *rest"]:
        """The branch, as it is to be added; unchanged in evaluation."""
        if not self.training or self.probability == 0:
            return branch
        keep = 1 - self.probability
        draws = self.draws
        if draws is None:
            draws = torch.rand(len(branch), device=branch.device)
        elif len(draws) < len(branch):  # windows, which lie image by image
            draws = draws.repeat_interleave(len(branch) // len(draws))
        factors = (draws < keep).to(branch.dtype) / keep
        return branch * factors.view(-1, *[1] * (branch.ndim - 1))


def replace_drop_paths(body: nn.Module) -> None:
    """Put `DropPath` where a timm model has its own, which draws for a whole batch at once.

    Args:
        body: Changed in place; names of weights stay.
    """
    for module in list(body.modules()):
        for name, child in module.named_children():
            if isinstance(child, timm.layers.DropPath) and child.scale_by_keep:
                setattr(module, name, DropPath(child.drop_prob or 0.0))


@contextmanager
def drawn_from(model: nn.Module, generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Within it each image's branches are left out as its own generator says.

    So it does not matter which images go through the model together. Nothing is drawn where nothing
    is left out. A backward pass that computes activations again belongs inside.

    Args:
        model: In training mode.
        generators: One per image of the batch, on the model's device.
    """
    paths = [m for m in model.modules() if isinstance(m, DropPath) and m.probability > 0]
    if paths:
        draws = torch.stack(
            [torch.rand(len(paths), generator=g, device=g.device) for g in generators], dim=1
        )
        for path, own in zip(paths, draws, strict=True):
            path.draws = own
    try:
        yield
    finally:
        for path in paths:
            path.draws = None
