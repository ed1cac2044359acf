"""COCO panoptic segmentation: `annotations/panoptic_{split}.json`, PNGs beside it, images."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from mask2former.data.annotations import Annotations, SegmentMap, annotation_size
from mask2former.data.writers.coco_json import (
    category_entries,
    coco_layout,
    image_entry,
    write_json,
)
from mask2former.data.writers.conversion import Conversion, Item
from mask2former.data.writers.losses import Losses
from mask2former.masks.id_maps import MAX_ID, compact_ids, ids_to_rgb
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("panoptic", "semantic")


def write(conversion: Conversion) -> None:
    """Write all splits. Segment ids are kept; one that is not in 1..2^24-1 numbers its image anew.

    Semantic annotations become one segment a class, and all classes stuff.
    """
    classes = conversion.classes
    is_thing = [thing and conversion.task == "panoptic" for thing in classes.is_thing]
    entries: dict[str, list[tuple[dict, dict]]] = {split: [] for split in conversion.splits}
    describe = partial(
        write_segments,
        folder=conversion.folder / "annotations",
        category_ids=classes.category_ids,
    )
    layout = coco_layout(conversion, holds_unlabelled=True)
    for item, (size, annotation) in conversion.each(layout, describe):
        annotation = {"image_id": item.image_id, **annotation}
        entries[item.split].append((image_entry(item, size), annotation))
    for split, pairs in entries.items():
        content = {
            "images": [image for image, _ in pairs],
            "annotations": [annotation for _, annotation in pairs],
            "categories": category_entries(classes, is_thing=is_thing),
        }
        write_json(conversion.folder / "annotations" / f"panoptic_{split}.json", content)


def write_segments(
    item: Item,
    annotations: Annotations,
    losses: Losses,
    *,
    folder: Path,
    category_ids: tuple[int, ...],
) -> tuple[tuple[int, int], dict]:
    """Write the PNG of an image; return the image's size and its annotation, without its id."""
    assert isinstance(annotations, SegmentMap), "the tasks of this format have no objects"
    compact, areas, ids = _number_segments(annotations)
    boxes = ndimage.find_objects(compact.astype(np.int32), max_label=len(ids))
    segments = [
        {
            "id": ids[i],
            "category_id": category_ids[segment.class_id],
            "iscrowd": int(segment.is_crowd),
            "bbox": _box(boxes[i]),
            "area": areas[i],
        }
        for i, segment in enumerate(annotations.segments)
        if areas[i]
    ]
    losses.add("empty masks", "segments without a pixel are left out", areas.count(0))
    path = folder / f"panoptic_{item.split}" / f"{item.stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids_to_rgb(np.array([0, *ids], np.int32)[compact])).save(path)
    entry = {"file_name": f"{item.stem}.png", "segments_info": segments}
    return annotation_size(annotations), entry


def _number_segments(annotations: SegmentMap) -> tuple[np.ndarray, list[int], list[int]]:
    """(position of each pixel's segment from 1, pixels of each segment, ids to write)."""
    ids = [segment.id for segment in annotations.segments]
    compact = compact_ids(annotations.ids, ids)
    areas = np.bincount(compact.ravel(), minlength=len(ids) + 1)[1:].tolist()
    if not all(1 <= i <= MAX_ID for i in ids):
        ids = list(range(1, len(ids) + 1))
    return compact, areas, ids


def _box(place: tuple[slice, slice] | None) -> list[int]:
    """(x, y, width, height) in pixels."""
    if place is None:
        return [0, 0, 0, 0]
    rows, columns = place
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
