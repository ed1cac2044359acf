"""What the network says of several views of one image, made into one answer.

Semantic results average class scores over the passes (`postprocess.semantic`). Panoptic and
instance results are made of queries, and query 7 of one pass need not be query 7 of another: here
they are brought together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mask2former.inference.resize import Frame, position_weights

LEAST_OVERLAP = 0.5
"""From which on two masks are of the same segment, as panoptic quality takes it: of segments that
share no pixel, one alone can overlap a mask by more than this."""
SATURATION = 1e-7
"""Mask probabilities keep this distance from 0 and 1, so that their logits are finite."""


class Pass(NamedTuple):
    """What the network says of one view of an image."""

    class_logits: Float[Tensor, "q k1"]
    """Before the softmax; the last entry is "no object"."""
    mask_logits: Float[Tensor, "q h w"]
    """At stride 4 of the padded view, before the sigmoid."""
    frame: Frame
    flipped: bool = False
    """The view was mirrored, and so are the masks."""


@dataclass(frozen=True, eq=False)
class ImagePasses:
    """What the network says of one image."""

    passes: tuple[Pass, ...]

    @cached_property
    def agreed(self) -> Pass:
        """Of what panoptic and instance results are made; see `agree`."""
        return agree(self.passes)


def agree(passes: Sequence[Pass]) -> Pass:
    """The queries of the first pass, with what the others add to them.

    The published system has no test-time augmentation for queries; this is our rule.

    1. The masks of each further pass are read at the cells of the first one's masks.
    2. Its queries are paired with those of the first, one to one, so that the sum over the pairs
       of mask overlap x class agreement is highest. Pairs that overlap by less than
       `LEAST_OVERLAP` are none.
    3. Class probabilities and mask probabilities are averaged over a query of the first pass and
       its partners, masks at the cells of the pass that has most. A query without partners keeps
       its own: that a pass misses it says as much of the pass, since small objects vanish from
       small views.

    Overlap is the Tanimoto coefficient of mask probabilities, which is the IoU where these are 0
    or 1; agreement is the Bhattacharyya coefficient of class probabilities, "no object" included,
    so that of several queries with one mask the one that shows it meets the one that shows it.

    Args:
        passes: At least one; the first is plain. Alone it comes back as it is.

    Returns:
        A plain pass with the frame of the largest one: logits from which softmax and sigmoid make
        the averages.
    """
    first, *others = passes
    if not others:
        return first
    finest = max(passes, key=lambda one: one.mask_logits[0].numel())
    own_class_logits = first.class_logits.float()
    own_mask_logits = first.mask_logits.float() if finest is first else read_at(first, finest)
    class_mean, mask_mean = own_class_logits.softmax(dim=-1), own_mask_logits.sigmoid()
    count = torch.ones(len(class_mean), device=class_mean.device)
    for other in others:
        ours, theirs = _partners(first, other)
        class_mean[ours] += other.class_logits[theirs].float().softmax(dim=-1)
        chosen = other._replace(mask_logits=other.mask_logits[theirs])
        mask_mean[ours] += read_at(chosen, finest).sigmoid()
        count[ours] += 1
    class_mean /= count[:, None]
    mask_mean /= count[:, None, None]
    alone = count == 1
    least = torch.finfo(class_mean.dtype).tiny  # so that logarithms are finite
    return Pass(
        torch.where(alone[:, None], own_class_logits, class_mean.clamp(min=least).log()),
        torch.where(alone[:, None, None], own_mask_logits, mask_mean.logit(SATURATION)),
        finest.frame,
    )


def _partners(first: Pass, other: Pass) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Queries of the first pass and of another that are of the same segment; see `pair`."""
    masks = (_inside(logits, first.frame) for logits in (first.mask_logits, read_at(other, first)))
    ours, theirs = (one.class_logits.float().softmax(dim=-1) for one in (first, other))
    return pair(overlaps(*masks), ours.sqrt() @ theirs.sqrt().T)


def pair(
    overlap: Float[Tensor, "q others"], agreement: Float[Tensor, "q others"]
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Queries that are of the same segment, one to one.

    Args:
        overlap: Of the masks, in [0, 1].
        agreement: Of the classes, in [0, 1].

    Returns:
        Queries of the one side, and those of the other; pairs of least overlap do not exist.
    """
    gain = overlap * agreement
    # also without NaN, which no assignment can have
    gain = torch.where((overlap >= LEAST_OVERLAP) & (gain > 0), gain, 0).cpu()
    ours, theirs = (
        torch.from_numpy(ids) for ids in linear_sum_assignment(gain.numpy(), maximize=True)
    )
    paired = gain[ours, theirs] > 0
    return ours[paired].to(overlap.device), theirs[paired].to(overlap.device)


def read_at(one: Pass, grid: Pass) -> Float[Tensor, "q h w"]:
    """Mask logits of a pass, turned back if it is mirrored, at the centres of another's cells.

    A point keeps its place in the image, whose size differs between the passes; the padding of
    either has no part in it. Between cells it is bilinear, beyond the last ones constant.

    Args:
        one: What is read.
        grid: Where: only its sizes count.
    """
    weights = []
    for axis in (0, 1):
        cells, grid_cells = one.mask_logits.shape[1 + axis], grid.mask_logits.shape[1 + axis]
        centres = torch.arange(0.5, grid_cells, dtype=torch.float64) / grid_cells
        places = centres * grid.frame.padded[axis] / grid.frame.resized[axis]  # in the image: 0..1
        if one.flipped and axis == 1:
            places = 1 - places
        positions = places * one.frame.resized[axis] / one.frame.padded[axis] * cells
        weights.append(position_weights(positions, cells).to(one.mask_logits.device))
    rows, columns = weights
    return rows @ one.mask_logits.float() @ columns.T


def overlaps(
    ours: Float[Tensor, "q n"], theirs: Float[Tensor, "others n"]
) -> Float[Tensor, "q others"]:
    """Tanimoto coefficient of mask probabilities; 0 of empty masks."""
    shared = ours @ theirs.T
    total = ours.square().sum(dim=1)[:, None] + theirs.square().sum(dim=1) - shared
    return shared / total.clamp(min=1e-6)


def _inside(mask_logits: Float[Tensor, "q h w"], frame: Frame) -> Float[Tensor, "q n"]:
    """Mask probabilities of the cells whose centres are not in the padding, of one at least."""
    rows, columns = (
        max(1, math.ceil(resized * cells / padded - 0.5))
        for resized, padded, cells in zip(
            frame.resized, frame.padded, mask_logits.shape[1:], strict=True
        )
    )
    return mask_logits[:, :rows, :columns].float().sigmoid().flatten(1)
