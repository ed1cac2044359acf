"""Objects that may overlap, and layers that may disagree, as one map."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from mask2former.data.annotations import (
    Instance,
    Instances,
    Layered,
    SegmentLabel,
    SegmentMap,
)
from mask2former.masks.id_maps import MAX_ID, compact_ids
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import decode_rle, rle_area, run_lengths


class Resolved(NamedTuple):
    """Objects without overlaps, and what that cost each of them."""

    segments: SegmentMap
    """Id 0 where no object is, another id that is not listed where a region is ignored. An object
    of which no pixel is left is not listed."""
    areas: tuple[int, ...]
    """Pixels of each object before, in file order."""
    lost: tuple[int, ...]
    """How many of them lie under other objects."""


def resolve_overlaps(annotations: Instances) -> Resolved:
    """Give every pixel to one object.

    The largest object is painted first, so that small ones stay visible; of equal ones, the later
    in the file lies above. Crowds are painted before all.

    Returns:
        Segment ids are the track ids if every object has one, else positions in the file, from 1.

    Raises:
        ValueError: Two objects have the same track id, or one is out of range.
    """
    items = annotations.items
    rles = _rles(annotations)
    places = _paint(annotations, rles, range(1, len(items) + 1))
    areas = tuple(map(rle_area, rles))
    above = _count(places, len(items))
    _paint_ignored(annotations, places, len(items) + 1)
    left = _count(places, len(items))
    ids = _segment_ids(items)
    taken = set(ids)
    table = np.array([0, *ids, next(i for i in count(1) if i not in taken)], np.int32)
    labels = tuple(
        SegmentLabel(id_, item.class_id, item.is_crowd)
        for id_, item, pixels in zip(ids, items, left, strict=True)
        if pixels
    )
    lost = tuple(area - pixels for area, pixels in zip(areas, above, strict=True))
    return Resolved(SegmentMap(table[places], labels), areas, lost)


def paint_classes(annotations: Instances, background: int | None) -> SegmentMap:
    """One segment a class, in the order of `resolve_overlaps`; crowds count as their class.

    Args:
        annotations: Objects.
        background: Class id of the pixels without object; none leaves them unlabelled, as those
            of ignored regions always are.
    """
    values = [item.class_id + 1 for item in annotations.items]
    ids = _paint(annotations, _rles(annotations), values)
    if background is not None:
        ids[ids == 0] = background + 1
    _paint_ignored(annotations, ids, 0)
    present = np.flatnonzero(np.bincount(ids.ravel())).tolist()
    return SegmentMap(ids, tuple(SegmentLabel(value, value - 1) for value in present if value))


def join_layers(annotations: Layered, is_thing: Sequence[bool]) -> SegmentMap:
    """Things from the objects, stuff from around them.

    Thing pixels of the semantic layer that no object covers stay unlabelled.

    Source:
        The authors' preparation of ADE20K's panoptic annotations.
    """
    objects = annotations.objects
    if isinstance(objects, Instances):
        items = tuple(item for item in objects.items if is_thing[item.class_id])
        objects = resolve_overlaps(replace(objects, items=items)).segments
    semantic = annotations.semantic
    if objects.ids.shape != semantic.ids.shape:
        raise ValueError(
            f"the objects are annotated at size (h, w) = {objects.ids.shape} and the classes at "
            f"{semantic.ids.shape}; give both the size of the image"
        )
    things = [segment for segment in objects.segments if is_thing[segment.class_id]]
    stuff = [segment for segment in semantic.segments if not is_thing[segment.class_id]]
    taken = {segment.id for segment in things}
    free = (i for i in count(1) if i not in taken)
    stuff_ids = [next(free) for _ in stuff]
    thing_table = np.array([0, *(segment.id for segment in things)], np.int32)
    stuff_table = np.array([0, *stuff_ids], np.int32)
    covered = compact_ids(objects.ids, [segment.id for segment in things])
    around = compact_ids(semantic.ids, [segment.id for segment in stuff])
    around[covered > 0] = 0
    is_seen = np.bincount(around.ravel(), minlength=len(stuff) + 1)[1:] > 0
    labels = tuple(
        SegmentLabel(id_, segment.class_id)
        for id_, segment, seen in zip(stuff_ids, stuff, is_seen, strict=True)
        if seen
    )
    return SegmentMap(thing_table[covered] + stuff_table[around], (*things, *labels))


def _rles(annotations: Instances) -> list[dict]:
    height, width = annotations.height, annotations.width
    return [mask_to_rle(item.mask, height, width) for item in annotations.items]


def _paint(
    annotations: Instances, rles: Sequence[dict], values: Sequence[int]
) -> Int32[np.ndarray, "h w"]:
    """The value of the topmost object at every pixel, 0 without one."""
    items = annotations.items
    order = sorted(range(len(items)), key=lambda i: (not items[i].is_crowd, -rle_area(rles[i])))
    columns = np.zeros((annotations.width, annotations.height), np.int32)
    flat = columns.ravel()
    for i in order:
        flat[_inside(rles[i])] = values[i]
    return np.ascontiguousarray(columns.T)


def _paint_ignored(annotations: Instances, ids: Int32[np.ndarray, "h w"], value: int) -> None:
    for mask in annotations.ignored:
        ids[decode_rle(mask_to_rle(mask, annotations.height, annotations.width))] = value


def _count(places: Int32[np.ndarray, "h w"], num_objects: int) -> list[int]:
    """Pixels of each object, of which places are numbers from 1."""
    return np.bincount(places.ravel(), minlength=num_objects + 1)[1 : num_objects + 1].tolist()


def _inside(rle: dict) -> Int64[np.ndarray, " pixels"]:
    """Pixels inside, counted down the columns: in time of the object's area, not the image's."""
    runs = run_lengths(rle)
    lengths = runs[1::2]
    starts = np.cumsum(runs)[: 2 * len(lengths) : 2]
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _segment_ids(items: Sequence[Instance]) -> Sequence[int]:
    tracks = [item.track_id for item in items if item.track_id is not None]
    if not items or len(tracks) < len(items):
        return range(1, len(items) + 1)
    wrong = [track for track in tracks if not 1 <= track <= MAX_ID]
    if wrong:
        raise ValueError(
            f"track id {wrong[0]} cannot be a segment id; number the tracks from 1 to {MAX_ID}"
        )
    twice = [track for track in tracks if tracks.count(track) > 1]
    if twice:
        raise ValueError(
            f"two objects of one frame have track id {twice[0]}; join them or give each its own"
        )
    return tracks
