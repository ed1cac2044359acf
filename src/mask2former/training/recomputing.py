"""Activations that are computed again in the backward pass instead of being kept."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mask2former.model.depth import find_depth
from mask2former.model.mask2former import Mask2Former
from mask2former.model.simple_pyramid import SingleStrideBackbone


def recompute_activations(model: Mask2Former) -> None:
    """Keep only what goes into a block, for every block that learns: less memory, more time.

    Gradients, the statistics of batch norms and the blocks that are dropped are those of the model
    without it; so are the names of its weights. Nothing changes where no gradient is asked for.

    Args:
        model: Changed in place; its frozen blocks, which keep nothing anyway, are left alone.

    Raises:
        ValueError: The backbone does not show its blocks.
    """
    for block in recomputed_blocks(model):
        norms = [norm for norm in block.modules() if isinstance(norm, _BatchNorm)]
        options = {"context_fn": partial(_passes, norms)} if norms else {}
        # On the module itself: a wrapper around it would change the names of its weights.
        block.__dict__["forward"] = partial(
            checkpoint, block.forward, use_reentrant=False, **options
        )


def recomputed_blocks(model: Mask2Former) -> list[nn.Module]:
    """The `residual_blocks` that learn."""
    return [b for b in residual_blocks(model) if any(p.requires_grad for p in b.parameters())]


def residual_blocks(model: Mask2Former) -> list[nn.Module]:
    """The residual blocks of the backbone, a plain ViT's pyramid, the layers of both decoders."""
    backbone = model.backbone
    blocks = [backbone.get_submodule(path) for path in find_depth(backbone).blocks]
    if isinstance(backbone, SingleStrideBackbone):
        blocks += backbone.pyramid.children()
    blocks += [*model.pixel_decoder.layers, model.pixel_decoder.fuse]
    return [*blocks, *model.transformer_decoder.layers]


def _passes(
    norms: list[_BatchNorm],
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the forward pass, and its repetition."""
    return nullcontext(), _statistics_kept(norms)


@contextmanager
def _statistics_kept(norms: list[_BatchNorm]) -> Iterator[None]:
    """A batch that is seen a second time must not count twice: it goes into copies."""
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
