"""What the network predicts for one image, converted to a semantic, panoptic or instance result.

The decisions are the published system's; the order of the work is not. Queries are picked by class
score first, only those are brought to the original size, one after the other, and the sum over all
queries that the semantic result needs is made in bands of rows (`score_bands`). So memory grows
with the pixels of the image, not with queries or passes x pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from mask2former.inference.passes import Pass
from mask2former.inference.resize import Frame, restore
from mask2former.inference.score_bands import Resized, score_bands
from mask2former.masks.rle import encode_mask, rle_area, rle_box
from mask2former.types import InstanceResult, PanopticResult, Segment, SemanticResult


def semantic(passes: Sequence[Pass], *, resized: Resized) -> SemanticResult:
    """The class with the highest score at every pixel.

    The score of a class is the sum over the queries of class probability x mask probability; of
    several passes, the mean of their scores at the original size.

    Args:
        passes: What the network says of the image, at least once.
        resized: What is brought to the original size. "masks": the mask logits, before scores are
            made of them (models that predict segments as well). "scores": the scores, made at the
            size of the network's input (models trained for semantic segmentation only).

    Source:
        Mask2Former (Cheng et al., 2022), `semantic_inference`; "masks" is the release's
        `SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE`; the mean is its `SemanticSegmentorWithTTA`.
    """
    frame, device = passes[0].frame, passes[0].mask_logits.device
    label_map = torch.empty(frame.original, dtype=torch.int64, device=device)
    start = 0
    for scores in score_bands(passes, resized):
        stop = start + scores.shape[1]
        # `max` gives the first index, as `argmax` does, several times faster on CPUs
        label_map[start:stop] = scores.max(dim=0).indices
        start = stop
    return SemanticResult(label_map)


def panoptic(
    class_logits: Float[Tensor, "q k1"],
    mask_logits: Float[Tensor, "q h w"],
    frame: Frame,
    *,
    is_thing: Sequence[bool],
    score_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
) -> PanopticResult:
    """Segments that share out the pixels; stuff of one class is one segment.

    Args:
        class_logits: Before the softmax; the last entry is "no object".
        mask_logits: At stride 4 of the padded image, before the sigmoid.
        frame: The sizes of the image.
        is_thing: One flag per class.
        score_threshold: A query takes part when its class probability is above this.
        overlap_threshold: A query is dropped when the pixels that it wins, as a share of the
            pixels of its own mask, are below this. The pixels won include those where its mask
            probability is below 0.5, as published, so the share may exceed 1.

    Returns:
        Segments in the order of the queries, numbered from 1. The score of merged stuff is that
        of its first query.

    Source:
        Mask2Former (Cheng et al., 2022), `panoptic_inference`.
    """
    scores, labels = class_logits.float().softmax(dim=-1).max(dim=-1)
    no_object = class_logits.shape[1] - 1
    kept = ((labels != no_object) & (scores > score_threshold)).nonzero().flatten()
    if len(kept) == 0:
        return PanopticResult(
            torch.zeros(frame.original, dtype=torch.int64, device=mask_logits.device), []
        )
    scores, labels = scores[kept], labels[kept]
    contest = _contest(scores, mask_logits[kept], frame)
    segment_ids = _segment_ids(contest, labels.tolist(), is_thing, overlap_threshold)
    lookup = torch.tensor([*segment_ids, 0], device=mask_logits.device)
    segment_map = lookup[contest.owner]
    class_ids, class_scores = labels.tolist(), scores.tolist()
    first_query = {id_: i for i, id_ in reversed(list(enumerate(segment_ids))) if id_}
    extents = _extents(segment_map, max(segment_ids))
    return PanopticResult(
        segment_map,
        [
            Segment(id_, class_ids[i], class_scores[i], *extents[id_])
            for id_, i in sorted(first_query.items())
        ],
    )


class _Contest(NamedTuple):
    """Which of the kept queries has each pixel."""

    owner: Int32[Tensor, "height width"]
    """Index of the query; -1 (the last entry of a lookup) where the winner is below 0.5."""
    won: list[int]
    """Pixels where the query has the highest score x mask probability."""
    claimed: list[int]
    """Pixels where its mask probability is at least 0.5."""
    written: list[int]
    """Pixels where both hold."""


def _contest(
    scores: Float[Tensor, " q"], mask_logits: Float[Tensor, "q h w"], frame: Frame
) -> _Contest:
    device, count = mask_logits.device, len(scores)
    highest = torch.full(frame.original, -1.0, device=device)
    winner = torch.zeros(frame.original, dtype=torch.int32, device=device)
    inside = torch.zeros(frame.original, dtype=torch.bool, device=device)
    claimed = torch.zeros(count, dtype=torch.int64, device=device)
    for i in range(count):
        probs = restore(mask_logits[i].float(), frame).sigmoid()
        claims = probs >= 0.5
        claimed[i] = claims.sum()
        weighted = probs.mul_(scores[i])
        wins = weighted > highest  # strict: the first query keeps a tie
        highest = torch.maximum(highest, weighted, out=highest)
        winner.masked_fill_(wins, i)
        inside = torch.where(wins, claims, inside)
    outcomes = torch.bincount((2 * winner + inside).flatten(), minlength=2 * count)
    outside, written = outcomes.view(count, 2).T
    owner = winner.masked_fill_(~inside, -1)
    return _Contest(owner, (outside + written).tolist(), claimed.tolist(), written.tolist())


def _segment_ids(
    contest: _Contest, labels: list[int], is_thing: Sequence[bool], overlap_threshold: float
) -> list[int]:
    """The segment that each kept query becomes, or 0 when it is dropped."""
    ids, stuff_ids, num_segments = [], {}, 0
    for i, label in enumerate(labels):
        won, claimed, written = contest.won[i], contest.claimed[i], contest.written[i]
        dropped = min(won, claimed, written) == 0 or won / claimed < overlap_threshold
        if not dropped and label not in stuff_ids:
            num_segments += 1
            if not is_thing[label]:
                stuff_ids[label] = num_segments
        ids.append(0 if dropped else stuff_ids.get(label, num_segments))
    return ids


def _extents(
    segment_map: Int64[Tensor, "height width"], num_segments: int
) -> list[tuple[int, tuple[float, float, float, float]]]:
    """Area and box (x, y, width, height) of the segments 0..num_segments."""
    height, width = segment_map.shape
    count = num_segments + 1
    offsets = torch.arange(max(height, width), dtype=torch.int32, device=segment_map.device) * count
    segment_map = segment_map.int()
    in_row = torch.bincount(
        (segment_map + offsets[:height, None]).flatten(), minlength=height * count
    ).view(height, count)
    in_column = torch.bincount(
        (segment_map + offsets[:width]).flatten(), minlength=width * count
    ).view(width, count)
    in_row, in_column = in_row.cpu().numpy(), in_column.cpu().numpy()
    extents = []
    for i in range(count):
        rows, columns = in_row[:, i].nonzero()[0], in_column[:, i].nonzero()[0]
        box = (0.0, 0.0, 0.0, 0.0)
        if len(rows):
            x, y = float(columns[0]), float(rows[0])
            box = (x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y)
        extents.append((int(in_row[:, i].sum()), box))
    return extents


def instances(
    class_logits: Float[Tensor, "q k1"],
    mask_logits: Float[Tensor, "q h w"],
    frame: Frame,
    *,
    max_instances: int = 100,
    is_thing: Sequence[bool] | None = None,
) -> InstanceResult:
    """The most probable pairs of query and class, as objects that may overlap.

    A query may occur several times, with different classes. Nothing is suppressed, and an object
    whose mask is empty stays, with score 0.

    Args:
        class_logits: Before the softmax; the last entry is "no object".
        mask_logits: At stride 4 of the padded image, before the sigmoid.
        frame: The sizes of the image.
        max_instances: Pairs that are kept, of all q x k.
        is_thing: One flag per class; pairs of other classes are left out *after* the
            `max_instances` best are taken, as published. None: every class counts.

    Returns:
        Objects by descending score.

    Source:
        Mask2Former (Cheng et al., 2022), `instance_inference`; its boxes are zeros, these are not.
    """
    num_classes = class_logits.shape[1] - 1
    pair_probs = class_logits.float().softmax(dim=-1)[:, :-1].flatten()
    count = min(max_instances, len(pair_probs))
    probs, pairs = pair_probs.topk(count, sorted=False)
    labels = pairs % num_classes
    if is_thing is not None:
        things = torch.tensor(is_thing, dtype=torch.bool, device=labels.device)[labels]
        probs, pairs, labels = probs[things], pairs[things], labels[things]
    queries, mask_of_pair = torch.unique(pairs // num_classes, return_inverse=True)
    rles, quality = _binary_masks(mask_logits[queries], frame)
    scores = (probs * quality[mask_of_pair]).cpu()
    order = torch.argsort(scores, descending=True, stable=True)
    rles = [rles[i] for i in mask_of_pair.cpu()[order].tolist()]
    found = zip(labels.cpu()[order].tolist(), scores[order].tolist(), rles, strict=True)
    segments = [
        Segment(i, label, score, rle_area(rle), rle_box(rle))
        for i, (label, score, rle) in enumerate(found)
    ]
    return InstanceResult(*frame.original, rles, segments)


def _binary_masks(
    mask_logits: Float[Tensor, "m h w"], frame: Frame
) -> tuple[list[dict], Float[Tensor, " m"]]:
    """The masks as run lengths, and their mean probability inside (0 for an empty one)."""
    rles, quality = [], torch.zeros(len(mask_logits), device=mask_logits.device)
    for i, logits in enumerate(mask_logits):
        logits = restore(logits.float(), frame)
        inside = logits > 0
        quality[i] = (logits.sigmoid() * inside).sum() / (inside.sum() + 1e-6)
        rles.append(_encode(inside))
    return rles, quality


def _encode(mask: Bool[Tensor, "height width"]) -> dict:
    """Run lengths go down the columns; torch transposes several times faster than NumPy."""
    return encode_mask(mask.T.contiguous().cpu().numpy().T)
