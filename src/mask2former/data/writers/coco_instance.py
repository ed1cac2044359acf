"""COCO instance segmentation: `annotations/instances_{split}.json` and `images/{split}/`.

Polygons stay polygons with the same numbers, run lengths stay run lengths; segments of id maps
become run lengths.
"""

from functools import partial

from mask2former.data.annotations import Annotations, Instance, annotation_size
from mask2former.data.formats.coco_instance import FORMAT
from mask2former.data.writers.coco_json import (
    category_entries,
    coco_layout,
    image_entry,
    write_json,
)
from mask2former.data.writers.conversion import Conversion, Item
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.objects import as_objects
from mask2former.data.writers.telling import tell_ignored, tell_stuff
from mask2former.masks.rle import rle_box
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("instance", "panoptic")


def write(conversion: Conversion) -> None:
    """Write all splits; areas are as they were read, boxes are those of the masks."""
    classes = conversion.classes
    tell_stuff(classes, conversion.losses)
    describe = partial(describe_objects, category_ids=classes.category_ids)
    images: dict[str, list[dict]] = {split: [] for split in conversion.splits}
    annotations: dict[str, list[dict]] = {split: [] for split in conversion.splits}
    layout = coco_layout(conversion, holds_unlabelled=False)
    for item, (size, objects) in conversion.each(layout, describe):
        images[item.split].append(image_entry(item, size))
        numbered = annotations[item.split]
        for entry in objects:
            numbered.append({"id": len(numbered) + 1, "image_id": item.image_id, **entry})
    if any(source.format == FORMAT.name for source in conversion.sources.values()):
        conversion.losses.add(
            "annotation ids",
            "objects are numbered from 1 in each split, whatever ids their annotations had",
            sum(map(len, annotations.values())),
        )
    for split in conversion.splits:
        content = {
            "images": images[split],
            "annotations": annotations[split],
            "categories": category_entries(classes),
        }
        write_json(conversion.folder / "annotations" / f"instances_{split}.json", content)


def describe_objects(
    item: Item,  # noqa: ARG001 one signature for all formats
    annotations: Annotations,
    losses: Losses,
    *,
    category_ids: tuple[int, ...],
) -> tuple[tuple[int, int], list[dict]]:
    """The size of an image and the entries of its objects, without ids."""
    objects = as_objects(annotations, losses)
    tell_ignored(objects, losses)
    return annotation_size(annotations), [_entry(one, category_ids) for one in objects.items]


def _entry(item: Instance, category_ids: tuple[int, ...]) -> dict:
    if isinstance(item.mask, dict):
        segmentation: object = {**item.mask, "counts": item.mask["counts"].decode("ascii")}
        box = rle_box(item.mask)
    else:
        segmentation = [part.ravel().tolist() for part in item.mask]
        left, top = (min(float(part[:, i].min()) for part in item.mask) for i in (0, 1))
        right, bottom = (max(float(part[:, i].max()) for part in item.mask) for i in (0, 1))
        box = (left, top, right - left, bottom - top)
    return {
        "category_id": category_ids[item.class_id],
        "segmentation": segmentation,
        "area": int(item.area) if item.area.is_integer() else item.area,
        "bbox": list(box),
        "iscrowd": int(item.is_crowd),
    }
