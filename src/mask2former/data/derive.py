"""The data set for another task, and its annotations as evaluators want them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32, Int64
from numpy.typing import NDArray

from mask2former.data.annotations import Annotations, Instances, SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.masks.id_maps import compact_ids
from mask2former.masks.polygons import polygons_to_rle
from mask2former.masks.rle import encode_mask, rle_area
from mask2former.tasks import Task
from mask2former.types import Classes

NOT_SCORED = -1


def for_task(dataset: Dataset, task: Task) -> Dataset:
    """The same images, annotated for one task.

    Panoptic annotations serve all tasks: for semantic segmentation the segments of one class, and
    crowds, become one; for instance segmentation stuff becomes unlabelled and the things are
    numbered anew. Applied twice, nothing changes.

    Raises:
        ValueError: The annotations cannot serve the task.
    """
    if task == dataset.tasks[0]:
        return replace(dataset, tasks=(task,))
    if task not in dataset.tasks:
        raise ValueError(
            f"{dataset.folder} ({dataset.format}) is annotated for "
            f"{', '.join(dataset.tasks)}, not for {task}; choose one of these tasks, or give "
            f"panoptic annotations, which serve all"
        )
    if task == "semantic":
        return replace(dataset, tasks=(task,), decode=SemanticDecoder(dataset.decode))
    things = tuple(np.flatnonzero(dataset.classes.is_thing).tolist())
    if not things:
        raise ValueError(
            f"{dataset.folder} has no thing classes; instance segmentation needs categories with "
            f"isthing 1"
        )
    return replace(
        dataset,
        tasks=(task,),
        classes=_select(dataset.classes, things),
        decode=ThingDecoder(dataset.decode, things),
    )


@dataclass(frozen=True)
class SemanticDecoder:
    """Reads a record as one segment a class."""

    decode: Callable[[Record], Annotations]

    def __call__(self, record: Record) -> SegmentMap:
        annotations = _segment_map(self.decode(record))
        segments = annotations.segments
        compact = compact_ids(annotations.ids, [segment.id for segment in segments])
        # id 0 stays unlabelled, class c has id c + 1
        table = np.array([0, *(segment.class_id + 1 for segment in segments)], np.int32)
        present = sorted({segment.class_id for segment in segments})
        return SegmentMap(table[compact], tuple(SegmentLabel(c + 1, c) for c in present))


@dataclass(frozen=True)
class ThingDecoder:
    """Reads a record as its things alone, with class ids 0.. for the given ones."""

    decode: Callable[[Record], Annotations]
    things: tuple[int, ...]

    def __call__(self, record: Record) -> SegmentMap:
        annotations = _segment_map(self.decode(record))
        new_ids = {class_id: i for i, class_id in enumerate(self.things)}
        segments = tuple(
            replace(segment, class_id=new_ids[segment.class_id])
            for segment in annotations.segments
            if segment.class_id in new_ids
        )
        return SegmentMap(annotations.ids, segments)


def semantic_map(annotations: Annotations, num_classes: int) -> Int64[np.ndarray, "h w"]:
    """Class id per pixel, -1 where nothing is labelled and nothing is scored.

    Args:
        annotations: For semantic segmentation.
        num_classes: Class ids are below it.

    Raises:
        ValueError: The annotations are objects, or have a class id out of range.
    """
    annotations = _segment_map(annotations)
    segments = annotations.segments
    wrong = [s.class_id for s in segments if not 0 <= s.class_id < num_classes]
    if wrong:
        raise ValueError(
            f"class id {wrong[0]} is not in 0..{num_classes - 1}; evaluate with the classes of "
            f"the data set"
        )
    compact = compact_ids(annotations.ids, [segment.id for segment in segments])
    table = np.array([NOT_SCORED, *(segment.class_id for segment in segments)], np.int64)
    return table[compact]


def panoptic_map(
    annotations: Annotations,
) -> tuple[Int32[np.ndarray, "h w"], tuple[SegmentLabel, ...]]:
    """Segment id per pixel, 0 where nothing is labelled, and what the ids mean.

    Raises:
        ValueError: The annotations are objects that may overlap.
    """
    annotations = _segment_map(annotations)
    segments = annotations.segments
    compact = compact_ids(annotations.ids, [segment.id for segment in segments])
    table = np.array([0, *(segment.id for segment in segments)], np.int32)
    return table[compact], segments


def instance_rles(annotations: Annotations) -> list[tuple[int, dict, bool, float]]:
    """(class id, RLE, is crowd, area in pixels) of each object, in file order.

    Areas are the file's for polygons and run lengths, and counted for id maps.
    """
    if isinstance(annotations, Instances):
        height, width = annotations.height, annotations.width
        return [
            (
                item.class_id,
                item.mask
                if isinstance(item.mask, dict)
                else polygons_to_rle(item.mask, height, width),
                item.is_crowd,
                item.area,
            )
            for item in annotations.items
        ]
    return [_segment_rle(annotations.ids, segment) for segment in annotations.segments]


def _segment_rle(ids: NDArray[np.int32], segment: SegmentLabel) -> tuple[int, dict, bool, float]:
    rle = encode_mask(ids == segment.id)
    return segment.class_id, rle, segment.is_crowd, float(rle_area(rle))


def _segment_map(annotations: Annotations) -> SegmentMap:
    if isinstance(annotations, Instances):
        raise ValueError(
            "annotations are objects that may overlap, not one segment a pixel; evaluate them as "
            "instances, or give panoptic or semantic annotations"
        )
    return annotations


def _select(classes: Classes, class_ids: tuple[int, ...]) -> Classes:
    return Classes(
        names=tuple(classes.names[i] for i in class_ids),
        category_ids=tuple(classes.category_ids[i] for i in class_ids),
        is_thing=tuple(classes.is_thing[i] for i in class_ids),
    )
