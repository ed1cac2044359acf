"""The panoptic API's two-channel PNGs: red is the category id, green the number in its class.

Each class of an image counts its segments from 0; crowds have number 255; category 0 is
unlabelled. `images_info_{split}.json` and `categories.json` are what its converters ask for
beside them.

Source:
    panopticapi, `2channels2panoptic_coco_format.py` and its sample data.
"""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mask2former.data.annotations import Annotations, SegmentMap, annotation_size
from mask2former.data.formats.voc import voc_palette
from mask2former.data.writers.coco_json import (
    category_entries,
    coco_layout,
    image_entry,
    write_json,
    write_json_list,
)
from mask2former.data.writers.conversion import Conversion, Item
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.telling import tell_renumbering
from mask2former.masks.id_maps import compact_ids
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("panoptic", "semantic")
CROWD = 255
LARGEST = 255


def write(conversion: Conversion) -> None:
    """Write all splits.

    Raises:
        ValueError: There are more classes than a byte can number.
    """
    numbers = category_numbers(conversion.classes)
    tell_renumbering(conversion.classes, numbers, conversion.losses)
    images: dict[str, list[dict]] = {split: [] for split in conversion.splits}
    describe = partial(write_channels, folder=conversion.folder, numbers=numbers)
    layout = coco_layout(conversion, holds_unlabelled=True)
    for item, size in conversion.each(layout, describe):
        images[item.split].append(image_entry(item, size))
    is_thing = [thing and conversion.task == "panoptic" for thing in conversion.classes.is_thing]
    categories = category_entries(conversion.classes, numbers, is_thing=is_thing)
    for category in categories:
        category["color"] = voc_palette()[category["id"]].tolist()
    write_json_list(conversion.folder / "categories.json", categories)
    for split in conversion.splits:
        content = {"images": images[split], "categories": categories}
        write_json(conversion.folder / f"images_info_{split}.json", content)


def category_numbers(classes: Classes) -> tuple[int, ...]:
    """The category ids if all fit in a byte beside 0, else counted from 1.

    Raises:
        ValueError: There are too many classes.
    """
    if all(1 <= i <= LARGEST for i in classes.category_ids):
        return classes.category_ids
    if len(classes) > LARGEST:
        raise ValueError(
            f"{len(classes)} classes do not fit the two-channel format, whose classes are the "
            f"values 1 to {LARGEST} of a byte; convert to coco-panoptic"
        )
    return tuple(range(1, len(classes) + 1))


def write_channels(
    item: Item,
    annotations: Annotations,
    losses: Losses,
    *,
    folder: Path,
    numbers: tuple[int, ...],
) -> tuple[int, int]:
    """Write the PNG of an image; return the image's size."""
    assert isinstance(annotations, SegmentMap), "the tasks of this format have no objects"
    table = [(0, 0, 0)]
    counts: Counter[int] = Counter()
    for segment in annotations.segments:
        number = numbers[segment.class_id]
        if segment.is_crowd:
            table.append((number, CROWD, 0))
        elif counts[number] < CROWD:
            table.append((number, counts[number], 0))
            counts[number] += 1
        else:
            table.append((0, 0, 0))
            losses.add(
                "too many objects", f"objects beyond {CROWD} of one class in an image are left out"
            )
    compact = compact_ids(annotations.ids, [segment.id for segment in annotations.segments])
    path = folder / f"panoptic_2ch_{item.split}" / f"{item.stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(table, np.uint8)[compact]).save(path)
    return annotation_size(annotations)
