"""From the configuration of an augmentation to the function that draws one."""

from functools import partial

from mask2former.config import LargeScaleJitter, ShortestEdgeCrop
from mask2former.data.geometry import Geometry, large_scale_jitter, shortest_edge_crop


def geometry_drawer(augmentation: LargeScaleJitter | ShortestEdgeCrop) -> partial[Geometry]:
    """`large_scale_jitter` or `shortest_edge_crop` with the configuration's arguments."""
    arguments = augmentation.model_dump(exclude={"kind", "color_jitter"})
    jitters = isinstance(augmentation, LargeScaleJitter)
    return partial(large_scale_jitter if jitters else shortest_edge_crop, **arguments)
