"""Run lengths of every segment of an id map, found in one pass over its pixels."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from mask2former.masks.rle import coco_mask
from mask2former.masks.runs import find_runs


def id_map_rles(ids: Int32[np.ndarray, "h w"], segment_ids: Sequence[int]) -> list[dict]:
    """What `encode_mask(ids == segment_id)` makes of each segment.

    Args:
        ids: One a pixel.
        segment_ids: In any order; of those that no pixel has, the mask is empty.
    """
    height, width = ids.shape
    flat = ids.T.ravel()  # down the columns, as run lengths go
    starts, lengths = find_runs(flat)
    ends = starts + lengths
    by_id = np.argsort(flat[starts], kind="stable")
    sorted_ids = flat[starts][by_id]
    firsts = np.searchsorted(sorted_ids, segment_ids, side="left")
    lasts = np.searchsorted(sorted_ids, segment_ids, side="right")
    rles = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        runs = by_id[first:last]
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size).tolist()
        if runs.size and counts[-1] == 0:  # the segment reaches the last pixel
            counts.pop()
        rles.append({"size": [height, width], "counts": counts})
    return coco_mask.frPyObjects(rles, height, width) if rles else []
