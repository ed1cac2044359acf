"""PNG masks: `images/{split}`, `masks/{split}` and `classes.json`.

Pixel values are class ids from 0, and 255 is unlabelled. More than 255 classes need 16 bits: then
65535 is unlabelled and 255, which many programs ignore, is left out. The palette of 8-bit masks is
for looking at them.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mask2former.data.annotations import Annotations
from mask2former.data.derive import semantic_map
from mask2former.data.formats.voc import voc_palette
from mask2former.data.writers.coco_json import write_json
from mask2former.data.writers.conversion import Conversion, Item, Layout
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.names import file_names
from mask2former.data.writers.telling import tell_renumbering
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("semantic",)
UNLABELLED = 255
UNLABELLED_16 = 65535


def write(conversion: Conversion) -> None:
    """Write all splits.

    Raises:
        ValueError: There are more classes than 16 bits can number.
    """
    classes = conversion.classes
    *values, unlabelled = table = pixel_values(len(classes))
    tell_renumbering(classes, values, conversion.losses)
    conversion.losses.add(
        "bits",
        "classes need masks of 16 bits, which not every program reads",
        len(classes) if unlabelled == UNLABELLED_16 else 0,
    )
    layout = Layout(
        names=file_names(conversion.splits, "nested"),
        image_folders={split: f"images/{split}" for split in conversion.splits},
        holds_unlabelled=True,
    )
    describe = partial(write_mask, folder=conversion.folder / "masks", table=table)
    for _ in conversion.each(layout, describe):
        pass
    entries = [
        {"id": value, "name": name, "isthing": int(thing)}
        for value, name, thing in zip(values, classes.names, classes.is_thing, strict=True)
    ]
    content = {"classes": entries, "ignore_label": unlabelled}
    write_json(conversion.folder / "classes.json", content)


def pixel_values(num_classes: int) -> tuple[int, ...]:
    """The value of each class and, at the end, that of unlabelled pixels.

    Raises:
        ValueError: There are more classes than 16 bits can number.
    """
    if num_classes <= UNLABELLED:
        return (*range(num_classes), UNLABELLED)
    if num_classes >= UNLABELLED_16:
        raise ValueError(
            f"{num_classes} classes do not fit PNG masks, whose pixels have at most 16 bits; "
            f"convert to coco-panoptic"
        )
    return (*range(UNLABELLED), *range(UNLABELLED + 1, num_classes + 1), UNLABELLED_16)


def write_mask(
    item: Item,
    annotations: Annotations,
    losses: Losses,  # noqa: ARG001 one signature for all formats
    *,
    folder: Path,
    table: tuple[int, ...],
) -> None:
    """Write the mask of an image."""
    # what is not scored is class -1, so that it takes the last value
    values = np.array(table)[semantic_map(annotations, len(table) - 1)]
    path = folder / item.split / f"{item.stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_values(values, path, is_wide=table[-1] == UNLABELLED_16)


def save_values(values: np.ndarray, path: Path, *, is_wide: bool = False) -> None:
    """Write a PNG of one number a pixel: with VOC's palette, or with 16 bits and none."""
    if is_wide:
        Image.fromarray(values.astype(np.uint16)).save(path)
        return
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(voc_palette().tobytes())
    image.save(path)
