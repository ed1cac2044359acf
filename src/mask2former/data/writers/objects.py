"""Annotations of any kind as objects with masks of their own."""

from mask2former.data.annotations import Annotations, Instance, Instances, SegmentMap
from mask2former.data.writers.losses import Losses
from mask2former.masks.contours import mask_outlines
from mask2former.masks.polygons import Polygons, polygons_to_rle
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


def rle_of(item: Instance, height: int, width: int) -> dict:
    """The mask of an object in an image of that size as an RLE."""
    if isinstance(item.mask, dict):
        return item.mask
    return polygons_to_rle(item.mask, height, width)


def polygons_of(item: Instance) -> Polygons:
    """The polygons of an object: its own, or the outlines of its mask along pixel edges."""
    if isinstance(item.mask, dict):
        return mask_outlines(decode_rle(item.mask))
    return item.mask


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
