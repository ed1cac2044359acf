"""The classes of the benchmark data sets, with which the authors' models were trained.

A table is a JSON file beside this one: names in the order of class ids, category ids, what is a
thing, colours. Its key "ids" says what the category ids are. The instance tables are the things of
another table.
"""

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

from mask2former.suggestions import did_you_mean
from mask2former.types import Classes

Color: TypeAlias = tuple[int, int, int]
"""RGB in 0..255"""

_FILES = (
    "coco_panoptic",
    "ade20k",
    "cityscapes",
    "mapillary_vistas",
    "youtube_vis_2019",
    "youtube_vis_2021",
    "ade20k_full",
    "coco_stuff_10k",
)
_THINGS_OF = {
    "coco_instance": "coco_panoptic",
    "ade20k_instance": "ade20k",
    "cityscapes_instance": "cityscapes",
}


def class_table_names() -> tuple[str, ...]:
    """Every table, those in files first."""
    return (*_FILES, *_THINGS_OF)


@cache
def class_table(name: str) -> Classes:
    """The classes of a benchmark data set.

    Args:
        name: One of `class_table_names`.

    Returns:
        In the order of the authors' class logits. Without things where the data set has none, as
        the 847 classes of ADE20K.

    Raises:
        ValueError: There is no such table.
    """
    entries = _entries(name)
    return Classes(
        names=tuple(entry["name"] for entry in entries),
        category_ids=tuple(entry["id"] for entry in entries),
        is_thing=tuple(entry.get("isthing", False) for entry in entries),
    )


def class_colors(name: str) -> tuple[Color | None, ...]:
    """The data set's own colour of every class of a table; none where it has none.

    Raises:
        ValueError: There is no such table.
    """
    return tuple(_color(entry) for entry in _entries(name))


def plain_name(name: str) -> str:
    """The name of a class without case, underscores and blanks around it: what is compared."""
    return name.replace("_", " ").strip().casefold()


def synonyms(name: str) -> set[str]:
    """The plain names of a class that has several, with commas or semicolons between them."""
    return {plain_name(word) for word in re.split("[,;]", name)} - {""}


def find_class_table(names: Sequence[str]) -> str | None:
    """The table of these classes in this order; none if there is none.

    Args:
        names: Compared by `synonyms`. Implementations shorten the names of
            some classes ("road" for "road, route"), so one synonym is enough, and one class in
            ten may have a name of its own. Where names were given, the table therefore tells ids,
            things and colours, but no names.
    """
    wanted = [synonyms(name) for name in names]
    for table in class_table_names():
        known = [synonyms(name) for name in class_table(table).names]
        if len(known) == len(wanted):
            same = sum(
                not ours.isdisjoint(theirs) for ours, theirs in zip(known, wanted, strict=True)
            )
            if same >= 0.9 * len(known):
                return table
    return None


def _color(entry: dict[str, Any]) -> Color | None:
    if "color" not in entry:
        return None
    red, green, blue = entry["color"]
    return red, green, blue


@cache
def _entries(name: str) -> tuple[dict[str, Any], ...]:
    if name in _THINGS_OF:
        return tuple(entry for entry in _entries(_THINGS_OF[name]) if entry["isthing"])
    if name not in _FILES:
        raise ValueError(f"no class table {name}; {did_you_mean(name, class_table_names())}")
    file = files("mask2former.data").joinpath("classes", f"{name}.json")
    return tuple(json.loads(file.read_text(encoding="utf-8"))["classes"])
