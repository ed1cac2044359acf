"""The data set for another task, and its annotations as evaluators want them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from mask2former.data.annotations import (
    Annotations,
    AsRead,
    Box,
    Instance,
    Instances,
    Layered,
    SegmentLabel,
    SegmentMap,
)
from mask2former.data.class_tables import plain_name
from mask2former.data.dataset import Dataset, Record, TaskDataset
from mask2former.data.overlaps import join_layers, paint_classes, resolve_overlaps
from mask2former.masks.id_maps import compact_ids
from mask2former.masks.id_runs import id_map_rles
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import rle_area, rle_box
from mask2former.tasks import Task
from mask2former.types import Classes

NOT_SCORED = -1
BACKGROUND = "background"
OVERLAP_NOTE = (
    "where objects overlap, the smaller one lies above the larger one and crowds below all"
)
UNLABELLED_NOTE = "pixels of no object are unlabelled"


class TrueObject(NamedTuple):
    """One annotated object of an image."""

    class_id: int
    rle: dict
    is_crowd: bool
    area: float
    """In pixels: the file's for polygons and run lengths, counted for id maps."""
    box: Box
    """The file's, else the tight one around the mask; zeros when that is empty."""


def for_task(dataset: Dataset, task: Task) -> TaskDataset:
    """The same images, annotated for one task.

    Panoptic annotations serve all tasks: for semantic segmentation the segments of one class, and
    crowds, become one; for instance segmentation stuff becomes unlabelled and the things are
    numbered anew. Objects serve all tasks as well: small ones lie above large ones, and for
    semantic segmentation the pixels of no object become a class of their own. Of annotations in
    layers, each task takes its layer; panoptic takes the objects, and the stuff around them.
    Applied twice, nothing changes.

    Raises:
        ValueError: The annotations cannot serve the task.
    """
    if isinstance(dataset, TaskDataset) and dataset.tasks == (task,):
        return dataset
    if not dataset.tasks:
        raise ValueError(
            f"split {dataset.split!r} of {dataset.folder} has no annotations; it can be predicted, "
            f"not trained or scored"
        )
    if task not in dataset.tasks:
        raise ValueError(
            f"{dataset.folder} ({dataset.format}) is annotated for "
            f"{', '.join(dataset.tasks)}, not for {task}; choose one of these tasks, or give "
            f"panoptic annotations, which serve all"
        )
    # with stuff among the classes, the annotations are layers, or maps without a background
    is_of_objects = dataset.tasks[0] == "instance" and all(dataset.classes.is_thing)
    if task == "semantic":
        return _semantic(dataset, is_of_objects)
    if task == "panoptic":
        decode = PanopticDecoder(dataset.decode, dataset.classes.is_thing)
        notes = (*_overlap_notes(dataset), UNLABELLED_NOTE) if is_of_objects else ()
        return _task_dataset(dataset, task, decode, notes)
    things = tuple(np.flatnonzero(dataset.classes.is_thing).tolist())
    if not things:
        raise ValueError(
            f"{dataset.folder} has no thing classes; instance segmentation needs categories with "
            f"isthing 1"
        )
    dataset = replace(dataset, classes=_select(dataset.classes, things))
    return _task_dataset(dataset, task, ThingDecoder(dataset.decode, things))


def _semantic(dataset: Dataset, is_of_objects: bool) -> TaskDataset:
    if not is_of_objects:
        return _task_dataset(dataset, "semantic", SemanticDecoder(dataset.decode))
    classes = with_background(dataset.classes)
    background = background_of(classes)
    added = ", which was added" if len(classes) > len(dataset.classes) else ""
    assert background is not None
    note = (
        f"pixels of no object are class {classes.names[background]!r} (category id "
        f"{classes.category_ids[background]}){added}"
    )
    notes = (*_overlap_notes(dataset), note)
    dataset = replace(dataset, classes=classes)
    return _task_dataset(dataset, "semantic", SemanticDecoder(dataset.decode, background), notes)


def _overlap_notes(dataset: Dataset) -> tuple[str, ...]:
    """What becomes of overlaps, of data sets whose annotations can overlap: of no id maps."""
    try:
        is_map = len(dataset) > 0 and isinstance(dataset.annotations(0), SegmentMap)
    except (ValueError, OSError):  # named when the image is read
        is_map = False
    return () if is_map else (OVERLAP_NOTE,)


def _task_dataset(
    dataset: Dataset,
    task: Task,
    decode: Callable[[Record], Annotations],
    notes: tuple[str, ...] = (),
) -> TaskDataset:
    return TaskDataset(
        dataset.format,
        dataset.folder,
        dataset.split,
        dataset.classes,
        (task,),
        dataset.records,
        decode,
        (*dataset.notes, *notes),
    )


def background_of(classes: Classes) -> int | None:
    """Class id of the class of that name, if there is one."""
    names = list(map(plain_name, classes.names))
    return names.index(BACKGROUND) if BACKGROUND in names else None


def with_background(classes: Classes) -> Classes:
    """The classes, and behind them one for pixels of no object, unless they have it.

    Its category id is the smallest that is free, from 0.
    """
    if background_of(classes) is not None:
        return classes
    free = next(i for i in count() if i not in classes.category_ids)
    return Classes(
        names=(*classes.names, BACKGROUND),
        category_ids=(*classes.category_ids, free),
        is_thing=(*classes.is_thing, False),
    )


@dataclass(frozen=True)
class SemanticDecoder:
    """Reads a record as one segment a class."""

    decode: Callable[[Record], AsRead]
    background: int | None = None
    """Class id of pixels without object, of data sets of objects: those of no object, or of id 0
    where the file has an id map."""

    def __call__(self, record: Record) -> SegmentMap:
        annotations = self.decode(record)
        if isinstance(annotations, Layered):
            return annotations.semantic
        if isinstance(annotations, SegmentMap):
            return _join_classes(annotations, self.background)
        return paint_classes(annotations, self.background)


@dataclass(frozen=True)
class PanopticDecoder:
    """Reads a record as segments that do not overlap."""

    decode: Callable[[Record], AsRead]
    is_thing: tuple[bool, ...]

    def __call__(self, record: Record) -> SegmentMap:
        annotations = self.decode(record)
        if isinstance(annotations, SegmentMap):
            return annotations
        try:
            if isinstance(annotations, Instances):
                return resolve_overlaps(annotations).segments
            return join_layers(annotations, self.is_thing)
        except ValueError as error:
            raise ValueError(f"image {record.image_id} ({record.image}): {error}") from error


@dataclass(frozen=True)
class ThingDecoder:
    """Reads a record as its things alone, with class ids 0.. for the given ones."""

    decode: Callable[[Record], AsRead]
    things: tuple[int, ...]

    def __call__(self, record: Record) -> Annotations:
        annotations = self.decode(record)
        if isinstance(annotations, Layered):
            annotations = annotations.objects
        new_ids = {class_id: i for i, class_id in enumerate(self.things)}
        if isinstance(annotations, Instances):
            if all(new_ids.get(item.class_id) == item.class_id for item in annotations.items):
                return annotations  # the usual case: all classes are things
            items = tuple(
                replace(item, class_id=new_ids[item.class_id])
                for item in annotations.items
                if item.class_id in new_ids
            )
            return replace(annotations, items=items)
        segments = tuple(
            replace(segment, class_id=new_ids[segment.class_id])
            for segment in annotations.segments
            if segment.class_id in new_ids
        )
        return SegmentMap(annotations.ids, segments)


def _join_classes(annotations: SegmentMap, background: int | None) -> SegmentMap:
    """Segments of one class as one, in the order of class ids."""
    segments = annotations.segments
    present = {segment.class_id for segment in segments}
    is_joined = len(present) == len(segments) and not any(s.is_crowd for s in segments)
    if is_joined and background is None:
        return annotations
    compact = compact_ids(annotations.ids, [segment.id for segment in segments])
    # id 0 stays unlabelled, class c has id c + 1
    table = np.array([0, *(segment.class_id + 1 for segment in segments)], np.int32)
    ids = table[compact]
    if background is not None and not annotations.ids.all():
        ids[annotations.ids == 0] = background + 1
        present.add(background)
    return SegmentMap(ids, tuple(SegmentLabel(c + 1, c) for c in sorted(present)))


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


def instance_rles(annotations: Annotations) -> list[TrueObject]:
    """Every object with a mask of its own, in file order."""
    if isinstance(annotations, Instances):
        height, width = annotations.height, annotations.width
        return [_true_object(item, height, width) for item in annotations.items]
    segments = annotations.segments
    rles = id_map_rles(annotations.ids, [segment.id for segment in segments])
    return [
        TrueObject(s.class_id, rle, s.is_crowd, float(rle_area(rle)), rle_box(rle))
        for s, rle in zip(segments, rles, strict=True)
    ]


def _true_object(item: Instance, height: int, width: int) -> TrueObject:
    rle = mask_to_rle(item.mask, height, width)
    box = rle_box(rle) if item.box is None else item.box
    return TrueObject(item.class_id, rle, item.is_crowd, item.area, box)


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
