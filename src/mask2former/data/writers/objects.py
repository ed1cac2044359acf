"""Annotations of any kind as objects with masks of their own."""

from mask2former.data.annotations import Annotations, Instance, Instances, Mask, SegmentMap
from mask2former.data.writers.losses import Losses
from mask2former.masks.contours import mask_outlines
from mask2former.masks.polygons import Polygons
from mask2former.masks.rle import decode_rle, encode_mask, rle_area


def as_objects(annotations: Annotations, losses: Losses) -> Instances:
    """Every segment as an object; its id is its track id.

    Args:
        annotations: Objects are given back as they are.
        losses: Is told of segments that are listed but have no pixel.
    """
    if isinstance(annotations, Instances):
        return annotations
    height, width = annotations.ids.shape
    items = tuple(_segment_objects(annotations))
    losses.add(
        "empty masks",
        "segments without a pixel are left out",
        len(annotations.segments) - len(items),
    )
    return Instances(height, width, items)


def polygons_of(mask: Mask) -> Polygons:
    """The polygons of a mask, or else its outlines along pixel edges."""
    return mask_outlines(decode_rle(mask)) if isinstance(mask, dict) else mask


def _segment_objects(annotations: SegmentMap) -> list[Instance]:
    objects = []
    for segment in annotations.segments:
        rle = encode_mask(annotations.ids == segment.id)
        area = rle_area(rle)
        if area:
            objects.append(
                Instance(segment.class_id, rle, segment.is_crowd, float(area), segment.id)
            )
    return objects
