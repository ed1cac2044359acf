"""What several formats cannot hold, put into sentences."""

from collections.abc import Sequence

import numpy as np

from mask2former.data.annotations import Annotations, AsRead, Instances, Layered, SegmentMap
from mask2former.data.overlaps import resolve_overlaps
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.objects import rle_of
from mask2former.masks.id_maps import compact_ids
from mask2former.masks.rle import rle_area
from mask2former.tasks import Task
from mask2former.types import Classes


def tell_flattening(source: AsRead, task: Task, losses: Losses) -> None:
    """What objects, or segments, lose when annotations are made to serve another task."""
    if isinstance(source, Layered):
        source = source.objects
    if task == "semantic":
        _tell_joining(source, losses)
    elif task == "panoptic" and isinstance(source, Instances):
        _tell_overlaps(source, losses)


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


def tell_areas(objects: Instances, losses: Losses) -> None:
    """Of formats whose readers count the pixels of masks."""
    size = objects.height, objects.width
    other = sum(rle_area(rle_of(item, *size)) != item.area for item in objects.items)
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


def _tell_overlaps(source: Instances, losses: Losses) -> None:
    resolved = resolve_overlaps(source)
    pairs = list(zip(resolved.areas, resolved.lost, strict=True))
    hidden = sum(area > 0 and area == lost for area, lost in pairs)
    losses.add("hidden pixels", "pixels of objects lie under other objects", sum(resolved.lost))
    losses.add("hidden objects", "objects lie wholly under others and are left out", hidden)
    losses.add("empty masks", "objects without a pixel are left out", resolved.areas.count(0))
