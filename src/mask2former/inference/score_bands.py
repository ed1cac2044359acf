"""Scores of all classes at every pixel of an image, a few rows at a time."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mask2former.inference.passes import Pass
from mask2former.inference.resize import axis_weights, resize_columns, resize_rows, used_columns

Resized: TypeAlias = Literal["masks", "scores"]

BAND_ELEMENTS = 2**21
"""Floats in one band of rows: 8 MB stay in a CPU's cache and keep a GPU busy."""


def score_bands(
    passes: Sequence[Pass], resized: Resized
) -> Iterator[Float[Tensor, "k rows width"]]:
    """Class scores at the original size, from the top down; of several passes, their mean.

    Args:
        passes: What the network says of the image, at least once.
        resized: What is brought to the original size; see `postprocess.semantic`.

    Returns:
        Bands of as many rows as have `BAND_ELEMENTS`, the last of fewer.
    """
    most = max(_row_elements(one, resized) for one in passes)
    rows = max(1, BAND_ELEMENTS // most)
    make_bands = _bands_of_masks if resized == "masks" else _bands_of_scores
    first, *others = (make_bands(one, rows) for one in passes)
    for scores in first:
        # added up one after the other, so that two bands at a time are in memory
        for bands in others:
            scores += next(bands)
        yield scores.div_(len(passes)) if others else scores


def _row_elements(one: Pass, resized: Resized) -> int:
    """Floats that one row of the result needs: of the classes and of the queries."""
    frame = one.frame
    num_queries, num_outputs = one.class_logits.shape
    elements = (num_queries + num_outputs - 1) * max(frame.original[1], frame.padded[1])
    if resized == "scores":
        elements *= math.ceil(frame.resized[0] / frame.original[0])
    return elements


def _bands_of_masks(one: Pass, rows: int) -> Iterator[Float[Tensor, "k rows width"]]:
    """Class scores made at the original size, some rows at a time."""
    frame, mask_logits = one.frame, one.mask_logits.float()
    height, width = frame.original
    class_probs = _class_probs(one)
    weights = axis_weights(
        mask_logits.shape[1], (frame.padded[0], frame.resized[0]), (height, height)
    )
    for start in range(0, height, rows):
        band = resize_rows(mask_logits, weights[start : start + rows])
        band = resize_columns(band, frame.padded[1])[..., : frame.resized[1]]
        scores = _class_scores(class_probs, resize_columns(band, width))
        yield scores.flip(2) if one.flipped else scores


def _bands_of_scores(one: Pass, rows: int) -> Iterator[Float[Tensor, "k rows width"]]:
    """Class scores made at the size of the input, then resized, some rows at a time."""
    frame, mask_logits = one.frame, one.mask_logits.float()
    height, width = frame.original
    class_probs = _class_probs(one)
    to_input = axis_weights(mask_logits.shape[1], (frame.padded[0], frame.resized[0]))
    to_original = axis_weights(frame.resized[0], (height, height))
    for start in range(0, height, rows):
        of_rows = to_original[start : start + rows]
        first, stop = used_columns(of_rows)
        band = resize_rows(mask_logits, to_input[first:stop])
        band = resize_columns(band, frame.padded[1])[..., : frame.resized[1]]
        scores = resize_rows(_class_scores(class_probs, band), of_rows[:, first:stop])
        scores = resize_columns(scores, width)
        yield scores.flip(2) if one.flipped else scores


def _class_probs(one: Pass) -> Float[Tensor, "k q"]:
    return one.class_logits.float().softmax(dim=-1)[:, :-1].T.contiguous()


def _class_scores(
    class_probs: Float[Tensor, "k q"], mask_logits: Float[Tensor, "q rows width"]
) -> Float[Tensor, "k rows width"]:
    return torch.tensordot(class_probs, mask_logits.sigmoid(), dims=1)
