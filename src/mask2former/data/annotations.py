"""What is annotated on an image, as the file says it: objects that may overlap, or a map of ids."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Mask: TypeAlias = tuple[NDArray[np.float64], ...] | dict
"""Polygons, each (n, 2) as (x, y) in pixels of the upright image, or a compressed RLE."""
Box: TypeAlias = tuple[float, float, float, float]
"""(x, y, width, height) in pixels."""


@dataclass(frozen=True)
class Instance:
    """One object: polygons (several parts are one union) or a COCO run-length encoding."""

    class_id: int
    mask: Mask
    is_crowd: bool
    area: float
    """In pixels, as in the file."""
    track_id: int | None = None
    """The same for one object in all frames of a video; none for single images."""
    box: Box | None = None
    """As in the file; none where it has no right one."""


@dataclass(frozen=True)
class Instances:
    """Objects of one image, in file order."""

    height: int
    width: int
    items: tuple[Instance, ...]
    ignored: tuple[Mask, ...] = ()
    """Regions that are nobody's, neither scored nor background: in maps they are unlabelled, and
    whatever object lies below them is cut. Instance segmentation takes no notice of them."""


@dataclass(frozen=True)
class SegmentLabel:
    """What a value of the id map means."""

    id: int
    """In 1..2^24 - 1; in videos, the same for one object in all frames."""
    class_id: int
    is_crowd: bool = False


@dataclass(frozen=True)
class SegmentMap:
    """One id per pixel. Pixels whose id no segment lists are unlabelled."""

    ids: NDArray[np.int32]
    """(height, width)"""
    segments: tuple[SegmentLabel, ...]


Annotations: TypeAlias = Instances | SegmentMap


@dataclass(frozen=True)
class Layered:
    """Objects and, annotated apart from them, a class per pixel: the two may disagree.

    `derive.for_task` takes from it what a task needs.
    """

    objects: Annotations
    semantic: SegmentMap
    """Ids are class ids + 1; id 0 is unlabelled."""


AsRead: TypeAlias = Instances | SegmentMap | Layered
"""What a format's reader gives; `derive.for_task` makes `Annotations` of it."""


def annotation_size(annotations: AsRead) -> tuple[int, int]:
    """(height, width) in pixels of the image as it was annotated."""
    if isinstance(annotations, Layered):
        return annotation_size(annotations.semantic)
    if isinstance(annotations, Instances):
        return annotations.height, annotations.width
    return annotations.ids.shape[0], annotations.ids.shape[1]
