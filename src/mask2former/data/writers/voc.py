"""Pascal VOC: class and object PNGs, lists of the splits, and `class_names.txt`.

Value 0 is the background, 255 void. Crowds and ignored regions are void: VOC has no other way to
leave them unscored.
"""

from functools import partial
from pathlib import Path

import numpy as np

from mask2former.data.annotations import Annotations, SegmentMap
from mask2former.data.derive import UNLABELLED_NOTE, background_of
from mask2former.data.formats.voc import BACKGROUND, IGNORED_NAME, VOID
from mask2former.data.writers.conversion import Conversion, Item, Layout
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.names import class_labels, names_across_splits
from mask2former.data.writers.png_masks import save_values
from mask2former.data.writers.telling import tell_renumbering
from mask2former.masks.id_maps import compact_ids
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("panoptic", "semantic")


def write(conversion: Conversion) -> None:
    """Write all splits; objects are of the thing classes, and there are none for semantic ones.

    Raises:
        ValueError: There are more classes than a byte can number.
    """
    classes = conversion.classes
    background = background_of(classes)
    values = _class_values(classes, background)
    tell_renumbering(classes, values, conversion.losses)
    things = tuple(thing and conversion.task == "panoptic" for thing in classes.is_thing)
    if any(things):
        stuff = sum(not thing for i, thing in enumerate(things) if i != background)
        conversion.losses.add(
            "stuff", "classes of stuff are in the class masks alone, without objects", stuff
        )
    layout = Layout(
        names=names_across_splits(conversion.splits),
        image_folders=dict.fromkeys(conversion.splits, "JPEGImages"),
        holds_unlabelled=True,
    )
    # where objects alone were annotated, the rest was looked at and is background
    is_looked_at = conversion.natural_task == "instance" and all(classes.is_thing)
    if is_looked_at and UNLABELLED_NOTE in conversion.notes:
        place = conversion.notes.index(UNLABELLED_NOTE)
        conversion.notes[place] = "pixels of no object are background, which is value 0"
    describe = partial(
        write_masks,
        folder=conversion.folder,
        values=values,
        things=things,
        unlabelled=0 if is_looked_at else VOID,
    )
    stems: dict[str, list[str]] = {split: [] for split in conversion.splits}
    for item, _ in conversion.each(layout, describe):
        stems[item.split].append(item.stem)
    labels = class_labels(classes.names, (IGNORED_NAME,), conversion.losses)
    names = dict(zip(values, labels, strict=True))
    names.setdefault(0, BACKGROUND)
    _write_lines(conversion.folder / "class_names.txt", [names[i] for i in sorted(names)])
    for split, some in stems.items():
        _write_lines(conversion.folder / "ImageSets" / "Segmentation" / f"{split}.txt", some)


def write_masks(
    item: Item,
    annotations: Annotations,
    losses: Losses,
    *,
    folder: Path,
    values: tuple[int, ...],
    things: tuple[bool, ...],
    unlabelled: int,
) -> None:
    """Write the masks of an image: of classes and, if any class is of things, of objects."""
    assert isinstance(annotations, SegmentMap), "the tasks of this format have no objects"
    class_table, object_table, num_objects = [unlabelled], [unlabelled], 0
    for segment in annotations.segments:
        is_object = things[segment.class_id] and not segment.is_crowd
        num_objects += is_object
        is_void = segment.is_crowd or num_objects >= VOID
        class_table.append(VOID if is_void else values[segment.class_id])
        object_table.append(VOID if is_void else num_objects * is_object)
    losses.add(
        "crowd flags",
        "crowds are void, neither objects nor background",
        sum(segment.is_crowd for segment in annotations.segments),
    )
    losses.add(
        "too many objects",
        f"objects beyond {VOID - 1} in an image are void",
        max(0, num_objects - VOID + 1),
    )
    compact = compact_ids(annotations.ids, [segment.id for segment in annotations.segments])
    is_ignored = (compact == 0) & (annotations.ids != 0)
    tables = {"SegmentationClass": class_table}
    if any(things):
        tables["SegmentationObject"] = object_table
    for name, table in tables.items():
        path = folder / name / f"{item.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_values(np.where(is_ignored, np.uint8(VOID), np.array(table, np.uint8)[compact]), path)


def _class_values(classes: Classes, background: int | None) -> tuple[int, ...]:
    """0 for the background, if it is a class; the others from 1."""
    ranked = [i for i in range(len(classes)) if i != background]
    if len(ranked) >= VOID:
        raise ValueError(
            f"{len(ranked)} classes do not fit VOC's masks, whose classes are the values 1 to "
            f"{VOID - 1} of a byte; convert to png-masks or coco-panoptic"
        )
    value_of = {class_id: value for value, class_id in enumerate(ranked, start=1)}
    return tuple(value_of.get(i, 0) for i in range(len(classes)))


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
