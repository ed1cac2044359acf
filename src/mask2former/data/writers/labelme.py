"""LabelMe: a JSON file of polygons beside every image, in a folder for each split.

The parts of an object share a `group_id`; holes are reached by a line there and back. Crowds are
labelled `__ignore__`, which is how LabelMe's own converters leave pixels unscored.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mask2former.data.annotations import Annotations, Instance
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
from mask2former.data.writers.names import file_names
from mask2former.data.writers.objects import as_objects, polygons_of, rle_of
from mask2former.data.writers.split_names import found_names
from mask2former.data.writers.telling import (
    tell_areas,
    tell_renumbering,
    tell_stuff,
)
from mask2former.masks.contours import mask_outlines
from mask2former.masks.polygons import Polygons, polygons_to_rle
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
    labels = unique_labels(classes.names)
    renamed = sum(a != b for a, b in zip(labels, classes.names, strict=True))
    losses.add("class names", "classes are renamed: labels tell classes apart", renamed)
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
    labels: tuple[str, ...],
) -> None:
    """Write the JSON file of an image."""
    objects = as_objects(annotations, losses)
    tell_areas(objects, losses)
    height, width = objects.height, objects.width
    shapes = []
    for group, one in enumerate(objects.items, start=1):
        parts = _parts(one, height, width, losses)
        if one.is_crowd:
            losses.add("crowd flags", "crowds are labelled to be ignored and are no objects")
        shapes += [
            _shape(part, labels[one.class_id], one.is_crowd, group if len(parts) > 1 else None)
            for part in parts
        ]
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


def unique_labels(names: Sequence[str]) -> tuple[str, ...]:
    """A label for each class, which is no other's and has no meaning of its own to LabelMe."""
    labels: list[str] = []
    for name in names:
        plain = name.strip() or "class"
        plain = plain.strip("_") if plain in SPECIAL_LABELS else plain
        label, number = plain, 1
        while label in labels:
            number += 1
            label = f"{plain} ({number})"
        labels.append(label)
    return tuple(labels)


def _parts(item: Instance, height: int, width: int, losses: Losses) -> Polygons:
    """Polygons that are read as the mask of the object again."""
    polygons = polygons_of(item)
    rle = rle_of(item, height, width)
    if isinstance(item.mask, tuple) and not _is_read_as(polygons, rle, height, width):
        losses.add(
            "vertices",
            "objects whose polygons would be read otherwise are outlined along pixel edges",
        )
        polygons = mask_outlines(decode_rle(rle))
    elif isinstance(item.mask, dict):
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
    read = mask if isinstance(mask, dict) else polygons_to_rle(mask, height, width)
    return np.array_equal(decode_rle(read), decode_rle(rle))


def _shape(points: np.ndarray, label: str, is_crowd: bool, group: int | None) -> dict:
    return {
        "label": IGNORED_LABEL if is_crowd else label,
        "points": points.tolist(),
        "group_id": group,
        "description": f"crowd of {label}" if is_crowd else "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }
