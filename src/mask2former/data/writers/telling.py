"""What several formats cannot hold, put into sentences."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mask2former.data.annotations import Annotations, AsRead, Instances, Layered, SegmentMap
from mask2former.data.overlaps import resolve_overlaps
from mask2former.data.writers.losses import Losses
from mask2former.masks.id_maps import compact_ids
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import decode_rle, rle_area
from mask2former.tasks import Task
from mask2former.types import Classes

IGNORED_PIXELS = "pixels of objects lie in ignored regions, and are unlabelled"


def tell_flattening(source: AsRead, task: Task, losses: Losses) -> None:
    """What objects, or segments, lose when annotations are made to serve another task."""
    objects = source.objects if isinstance(source, Layered) else source
    if task == "semantic":
        _tell_joining(objects, losses)
        if isinstance(source, Instances):
            _tell_classes_above(source, losses)
    elif task == "panoptic" and isinstance(objects, Instances):
        _tell_objects_above(objects, losses)


def tell_stuff(classes: Classes, losses: Losses) -> None:
    """Of formats that know objects alone."""
    losses.add(
        "stuff",
        "classes of stuff are written as classes of objects, one object an image; leave them out "
        "with the task instance",
        classes.is_thing.count(False),
    )


def tell_left_stuff(classes: Classes, losses: Losses) -> None:
    """Of the task instance."""
    losses.add(
        "stuff", "classes of stuff are left out, as the task asks", classes.is_thing.count(False)
    )


def tell_renumbering(classes: Classes, numbers: Sequence[int], losses: Losses) -> None:
    """Of formats that number classes themselves."""
    changed = sum(a != b for a, b in zip(classes.category_ids, numbers, strict=True))
    losses.add("category ids", "classes have another number than in their data set", changed)


def tell_unlabelled(annotations: Annotations, losses: Losses) -> None:
    """Of formats in which what is no object is background."""
    if isinstance(annotations, SegmentMap):
        ids = [segment.id for segment in annotations.segments]
        unlabelled = int(np.count_nonzero(compact_ids(annotations.ids, ids) == 0))
        losses.add(
            "unlabelled pixels",
            "pixels without label are background, as if they had been looked at",
            unlabelled,
        )


def tell_ignored(annotations: Instances, losses: Losses) -> None:
    """Of formats that have no place for regions that are nobody's."""
    losses.add(
        "ignored regions",
        "regions that were to be ignored are background, as if they had been looked at",
        len(annotations.ignored),
    )


def tell_areas(objects: Instances, losses: Losses) -> None:
    """Of formats whose readers count the pixels of masks."""
    size = objects.height, objects.width
    other = sum(rle_area(mask_to_rle(item.mask, *size)) != item.area for item in objects.items)
    losses.add("areas", "objects had an area in their file that differs from their mask's", other)


def _tell_joining(source: Annotations, losses: Losses) -> None:
    if isinstance(source, Instances):
        count = len(source.items)
        num_crowds = sum(item.is_crowd for item in source.items)
    else:
        segments = source.segments
        count = len(segments) - len({segment.class_id for segment in segments})
        num_crowds = sum(segment.is_crowd for segment in segments)
    losses.add("objects", "objects are joined with others of their class and not told apart", count)
    losses.add("crowd flags", "crowds are pixels of their class", num_crowds)


def _tell_objects_above(source: Instances, losses: Losses) -> None:
    resolved = resolve_overlaps(source)
    visible = [area - lost for area, lost in zip(resolved.areas, resolved.lost, strict=True)]
    num_visible = sum(pixels > 0 for pixels in visible)
    hidden = len(visible) - resolved.areas.count(0) - num_visible
    losses.add("hidden pixels", "pixels of objects lie under other objects", sum(resolved.lost))
    losses.add("hidden objects", "objects lie wholly under others and are left out", hidden)
    losses.add("empty masks", "objects without a pixel are left out", resolved.areas.count(0))
    segments = resolved.segments.segments
    kept = compact_ids(resolved.segments.ids, [segment.id for segment in segments])
    losses.add("ignored pixels", IGNORED_PIXELS, sum(visible) - int(np.count_nonzero(kept)))
    losses.add(
        "hidden objects",
        "objects lie wholly in ignored regions and are left out",
        num_visible - len(segments),
    )


def _tell_classes_above(source: Instances, losses: Losses) -> None:
    """Count what objects of another class hide; others of the same class are joined."""
    height, width = source.height, source.width
    # one track may have several parts here, which are joined
    items = tuple(replace(item, track_id=None) for item in source.items)
    resolved = resolve_overlaps(Instances(height, width, items))
    segments = resolved.segments.segments
    compact = compact_ids(resolved.segments.ids, [segment.id for segment in segments])
    classes = np.array([0, *(segment.class_id + 1 for segment in segments)])[compact]
    for item, area, lost in zip(items, resolved.areas, resolved.lost, strict=True):
        if lost:
            inside = decode_rle(mask_to_rle(item.mask, height, width))
            hidden = int(np.count_nonzero(classes[inside] != item.class_id + 1))
            losses.add("hidden pixels", "pixels of objects lie under another class", hidden)
            losses.add("hidden objects", "objects lie wholly under other classes", hidden == area)
    losses.add("empty masks", "objects without a pixel are left out", resolved.areas.count(0))
    is_ignored = np.zeros((height, width), bool)
    for mask in source.ignored:
        is_ignored |= decode_rle(mask_to_rle(mask, height, width))
    losses.add("ignored pixels", IGNORED_PIXELS, int(np.count_nonzero(classes[is_ignored])))
