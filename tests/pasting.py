"""Geometries and annotations that the tests of copy-paste draw on."""

from functools import partial

import numpy as np

from mask2former.data.annotations import Instance, Instances, SegmentLabel, SegmentMap
from mask2former.data.dataset import Record
from mask2former.data.geometry import large_scale_jitter, shortest_edge_crop
from mask2former.masks.packed import unpack_masks
from mask2former.types import Classes, Target

JITTER = partial(
    large_scale_jitter, crop=(48, 56), min_scale=0.3, max_scale=2.0, flip_probability=0.5
)
SHORTEST = partial(
    shortest_edge_crop,
    short_sides=(30, 44, 60),
    max_long_side=90,
    crop=(48, 56),
    flip_probability=0.5,
    pad_to_crop=False,
)
ROUNDING = 2
"""Grey levels: one between Pillow and torch, of which either may resize a part, and one for where
the part begins."""
CLASSES = Classes(("sky", "cat", "dog"), (1, 2, 3), (False, True, True))


def masks_of(target: Target) -> np.ndarray:
    return unpack_masks(target.masks, len(target.labels)).numpy()


def boxes(flags: list[tuple[int, bool]]) -> Instances:
    """Objects of (class id, whether it is a crowd) in a row."""
    items = []
    for i, (class_id, is_crowd) in enumerate(flags):
        corners = np.array([(5, 4), (15, 4), (15, 22), (5, 22)]) + np.array([11.0 * i, i])
        items.append(Instance(class_id, (corners,), is_crowd, 180.0))
    return Instances(40, 62, tuple(items))


def read_map(record: Record) -> SegmentMap:
    """Sky, a crowd of cats on it, dogs; and pixels of nobody."""
    height, width = record.height or 40, record.width or 62
    ids = np.full((height, width), 5, np.int32)
    ids[: height // 8] = 0
    ids[height // 2 :, : width // 3] = 6
    for i in range(record.annotation):
        ids[8 + 3 * i : 20 + 3 * i, 10 * i + 2 : 10 * i + 14] = 10 + i
    dogs = (SegmentLabel(10 + i, 2) for i in range(record.annotation))
    return SegmentMap(ids, (SegmentLabel(5, 0), SegmentLabel(6, 1, is_crowd=True), *dogs))
