"""LabelMe: a JSON file of polygons beside every image, in a folder for each split.

The parts of an object share a `group_id`; holes are reached by a line there and back. Crowds and
ignored regions are labelled `__ignore__`, which is how LabelMe's own converters leave pixels
unscored.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mask2former.data.annotations import Annotations, Mask
from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.labelme_shapes import (
    BACKGROUND_LABEL,
    HOLE_LABEL,
    IGNORED_LABEL,
    Fault,
    Part,
    object_mask,
    read_region,
)
from mask2former.data.writers.coco_json import write_json
from mask2former.data.writers.conversion import Conversion, Item, Layout
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.names import class_labels, file_names
from mask2former.data.writers.objects import as_objects, polygons_of
from mask2former.data.writers.split_names import found_names
from mask2former.data.writers.telling import (
    tell_areas,
    tell_renumbering,
    tell_stuff,
)
from mask2former.masks.contours import mask_outlines
from mask2former.masks.polygons import Polygons, mask_to_rle
from mask2former.masks.rle import decode_rle
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("instance", "panoptic")
SPECIAL_LABELS = (IGNORED_LABEL, BACKGROUND_LABEL, HOLE_LABEL)
VERSION = "5.5.0"
"""Of LabelMe, whose keys these are."""


def write(conversion: Conversion) -> None:
    """Write all splits; one alone with an unusual name is written without a folder for it.

    Raises:
        ValueError: Several splits have names that LabelMe's readers do not find.
    """
    classes, losses = conversion.classes, conversion.losses
    tell_stuff(classes, losses)
    tell_renumbering(classes, range(1, len(classes) + 1), losses)
    labels = class_labels(classes.names, SPECIAL_LABELS, losses)
    splits = found_names(conversion.splits, losses)
    folders = {split: "" if name == WHOLE else name for split, name in splits.items()}
    layout = Layout(names=file_names(conversion.splits, "nested"), image_folders=folders)
    describe = partial(write_shapes, folder=conversion.folder, folders=folders, labels=labels)
    for _ in conversion.each(layout, describe):
        pass
    lines = [*SPECIAL_LABELS[:2], *labels]
    path = conversion.folder / "labels.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_shapes(
    item: Item,
    annotations: Annotations,
    losses: Losses,
    *,
    folder: Path,
    folders: dict[str, str],
    labels: Sequence[str],
) -> None:
    """Write the JSON file of an image."""
    objects = as_objects(annotations, losses)
    tell_areas(objects, losses)
    height, width = objects.height, objects.width
    shapes = []
    # what is to be ignored cuts the objects that stand before it, and crowds lie below all
    items = sorted(objects.items, key=lambda one: not one.is_crowd)
    for group, one in enumerate(items, start=1):
        parts = _parts(one.mask, height, width, losses)
        label = labels[one.class_id]
        if one.is_crowd:
            losses.add("crowd flags", "crowds are labelled to be ignored and are no objects")
            shapes += [_shape(part, IGNORED_LABEL, f"crowd of {label}") for part in parts]
        else:
            number = group if len(parts) > 1 else None
            shapes += [_shape(part, label, group=number) for part in parts]
    regions = [part for mask in objects.ignored for part in _parts(mask, height, width, losses)]
    shapes += [_shape(part, IGNORED_LABEL) for part in regions]
    content = {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(item.file_name).name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    write_json(folder / folders[item.split] / f"{item.stem}.json", content)


def _parts(mask: Mask, height: int, width: int, losses: Losses) -> Polygons:
    """Polygons that are read as the same mask again."""
    polygons = polygons_of(mask)
    rle = mask_to_rle(mask, height, width)
    if isinstance(mask, tuple) and not _is_read_as(polygons, rle, height, width):
        losses.add(
            "vertices",
            "objects whose polygons would be read otherwise are outlined along pixel edges",
        )
        polygons = mask_outlines(decode_rle(rle))
    elif isinstance(mask, dict):
        losses.add("vertices", "masks are outlined along pixel edges, which fill to the same mask")
    losses.add("empty masks", "objects without a pixel are left out", int(not polygons))
    return polygons


def _is_read_as(polygons: Polygons, rle: dict, height: int, width: int) -> bool:
    regions = [read_region({"points": points.tolist()}, height, width) for points in polygons]
    if any(isinstance(region, Fault) for region in regions):
        return False
    if len(polygons) == 1:
        return True
    mask = object_mask([Part(np.asarray(points)) for points in polygons], height, width)
    return np.array_equal(decode_rle(mask_to_rle(mask, height, width)), decode_rle(rle))


def _shape(
    points: np.ndarray, label: str, description: str = "", *, group: int | None = None
) -> dict:
    return {
        "label": label,
        "points": points.tolist(),
        "group_id": group,
        "description": description,
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }
