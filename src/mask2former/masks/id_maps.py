"""Maps of ids: one segment per pixel, and how PNG files hold them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int32, UInt8, UInt16
from numpy.typing import NDArray
from torch import Tensor

from mask2former.masks.rle import MASKS_PER_WORD, word_type, words_to_bytes

MAX_ID = 256**3 - 1
"""The largest id that three bytes hold."""


def rgb_to_ids(rgb: UInt8[np.ndarray, "h w 3"]) -> Int32[np.ndarray, "h w"]:
    """Ids of a panoptic PNG: red + 256 green + 65536 blue.

    Source:
        COCO panoptic format (panopticapi `rgb2id`).
    """
    red, green, blue = (rgb[..., i].astype(np.int32) for i in range(3))
    return red | green << 8 | blue << 16


def ids_to_rgb(ids: NDArray[np.integer]) -> UInt8[np.ndarray, "h w 3"]:
    """The inverse of `rgb_to_ids`.

    Raises:
        ValueError: An id is negative or needs more than three bytes.
    """
    if ids.size and (ids.min() < 0 or ids.max() > MAX_ID):
        raise ValueError(
            f"ids from {ids.min()} to {ids.max()} do not fit a panoptic PNG; renumber the "
            f"segments within 0..{MAX_ID}"
        )
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)


def compact_ids(
    ids: Int32[np.ndarray, "h w"], segment_ids: Sequence[int]
) -> UInt16[np.ndarray, "h w"]:
    """Position in `segment_ids`, from 1; 0 where no segment is.

    Args:
        ids: In 0..MAX_ID.
        segment_ids: Distinct.
    """
    # The table spans all ids but the system gives memory only to the few pages that are touched.
    size = max([int(ids.max(initial=0)), *segment_ids]) + 1
    table = np.zeros(size, np.uint16)
    table[np.asarray(segment_ids, np.int64)] = np.arange(1, len(segment_ids) + 1)
    return table[ids]


def pack_compact_ids(
    compact: UInt16[np.ndarray, "h w"], positions: Sequence[int]
) -> UInt8[Tensor, "h w bytes"]:
    """What `pack_masks` makes of the masks `compact == positions[i]`.

    Args:
        compact: As from `compact_ids`.
        positions: One per mask, distinct.
    """
    size = max([int(compact.max(initial=0)), *positions]) + 1
    words = []
    for start in range(0, len(positions), MASKS_PER_WORD):
        chunk = list(positions[start : start + MASKS_PER_WORD])
        table = np.zeros(size, word_type(len(chunk)))
        table[chunk] = np.left_shift(table.dtype.type(1), np.arange(len(chunk), dtype=table.dtype))
        words.append(words_to_bytes(table[compact], len(chunk)))
    if not words:
        return torch.zeros(*compact.shape, 0, dtype=torch.uint8)
    return words[0] if len(words) == 1 else torch.cat(words, dim=-1)
