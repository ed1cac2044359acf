"""What the numbers in result files mean: the data set's category ids, or others."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mask2former.data.class_tables import class_table, class_table_names, plain_name
from mask2former.data.formats.class_list import read_class_list
from mask2former.data.formats.listing import first_few
from mask2former.data.formats.text_files import read_json
from mask2former.types import Classes

CLASS_LIST = "classes.json"
SHIFTED = "ade20k"
"""The table of a data set whose own PNGs, and results for its benchmark, hold class ids + 1."""


@dataclass(frozen=True)
class Numbering:
    """What the values of a class per pixel mean."""

    name: str
    class_ids: Mapping[int, int]
    """Class id by value."""
    reason: str = ""
    """Why it is this one, where there are several; a sentence to tell."""

    def describe(self) -> str:
        values = sorted(self.class_ids)
        return f"{self.name}, {len(values)} values in {values[0]}..{values[-1]}"


def numberings(classes: Classes) -> list[Numbering]:
    """What values may mean where nothing says it, the likeliest first.

    Category ids are what the data set's own label PNGs hold (Cityscapes: label ids). Class ids are
    what tools number by that know no others (Cityscapes: train ids; Mapillary Vistas: the values
    of its label PNGs; ADE20K: detectron2's PNGs, where both are the same).
    """
    count = range(len(classes))
    candidates = [
        Numbering("category ids", classes.class_id_by_category()),
        Numbering("class ids", {i: i for i in count}),
    ]
    if classes.names == class_table(SHIFTED).names:
        candidates.append(Numbering("ADE20K's own values", {i + 1: i for i in count}))
    tables = [candidate.class_ids for candidate in candidates]
    return [c for i, c in enumerate(candidates) if c.class_ids not in tables[:i]]


def choose_numbering(
    classes: Classes, values: Iterable[tuple[str, Collection[int]]], where: str
) -> Numbering:
    """The numbering that results use, told by the values that they have.

    Args:
        classes: Of the data set.
        values: What names the source of some values, and the values. Read until one numbering is
            left.
        where: Names the results in messages.

    Raises:
        ValueError: No numbering has all values, or several have, of a data set for which tools use
            several.
    """
    left = numberings(classes)
    reason = ""
    for source, some in values:
        if len(left) == 1:
            break
        kept = [numbering for numbering in left if numbering.class_ids.keys() >= set(some)]
        if not kept:
            raise ValueError(f"{source} has {_unknown(some, left)}; {MEND}")
        if len(kept) < len(left):
            others = [numbering for numbering in left if numbering not in kept]
            reason = f", because {source} has {_unknown(some, others)}"
        left = kept
    chosen = left[0]
    if len(left) > 1:
        fitting = " and as ".join(numbering.describe() for numbering in left)
        if _is_published(classes):
            raise ValueError(f"the values of {where} can be read as {fitting}; {MEND}")
        reason = f", which the data set's own labels hold; they can also be read as {fitting}"
    told = f"{where}: values are read as {chosen.describe()}{reason}." if reason else ""
    return Numbering(chosen.name, chosen.class_ids, told)


MEND = (
    f"save category ids of the data set, a class at every pixel, or say what the values mean by a "
    f'{CLASS_LIST} beside the results: {{"classes": [name of value 0, ...], "category_ids": [...]}}'
)


def own_classes(folder: Path) -> Classes | None:
    """The classes whose names and category ids lie beside results that this package wrote.

    Raises:
        ValueError: The list is damaged.
    """
    path = folder / CLASS_LIST
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or "category_ids" not in content:
        return None
    listed, category_ids = read_class_list(path), content["category_ids"]
    is_list = isinstance(category_ids, list) and all(type(i) is int for i in category_ids)
    if not is_list or len(category_ids) != len(listed.names):
        raise ValueError(
            f"{path}: category_ids {json.dumps(category_ids)[:80]} are not one whole number for "
            f"each of the {len(listed.names)} classes; correct them, or take them out"
        )
    return Classes(
        tuple(listed.names.values()),
        tuple(category_ids),
        tuple(value in listed.things for value in listed.names),
    )


def listed_classes(folder: Path, classes: Classes) -> tuple[Classes, Numbering] | None:
    """What the list of classes in or beside a folder of PNGs says; none if there is none.

    Args:
        folder: Of the PNGs.
        classes: Of the data set.

    Returns:
        The classes that are counted, and the numbering of the values.

    Raises:
        ValueError: The list is damaged.
    """
    place = next((p for p in (folder, folder.parent) if (p / CLASS_LIST).is_file()), None)
    if place is None:
        return None
    listed = read_class_list(place / CLASS_LIST)
    own = own_classes(place)
    if own is None:  # values are no category ids, so that the names alone count
        is_thing = tuple(value in listed.things for value in listed.names)
        own = Classes(tuple(listed.names.values()), tuple(listed.names), is_thing)
        counted = own
    else:
        counted = agreed_classes(own, classes)
    class_ids = counted.class_id_by_category()
    values = zip(listed.names, own.category_ids, strict=True)
    by_value = {value: class_ids[category_id] for value, category_id in values}
    return counted, Numbering(f"the values of {place / CLASS_LIST}", by_value)


def classes_of_categories(categories: Any) -> Classes | None:
    """The classes that the categories of a JSON file name; none where they are not complete."""
    entries = categories if isinstance(categories, list) else []
    complete = all(
        isinstance(entry, dict)
        and type(entry.get("id")) is int
        and isinstance(entry.get("name"), str)
        for entry in entries
    )
    ids = [entry["id"] for entry in entries] if complete else []
    if not ids or len(set(ids)) != len(ids):
        return None
    return Classes(
        tuple(entry["name"] for entry in entries),
        tuple(ids),
        tuple(bool(entry.get("isthing")) for entry in entries),
    )


def agreed_classes(own: Classes | None, classes: Classes) -> Classes:
    """The classes that the category ids of a result file count.

    Args:
        own: That the file names; none if it names none.
        classes: Of the data set.

    Returns:
        The data set's if its ids are the same, however names are spelt; else those of the file,
        which are matched by their names.
    """
    if own is None:
        return classes
    by_id = dict(zip(classes.category_ids, map(plain_name, classes.names), strict=True))
    known = set(by_id.values())
    for category_id, name in zip(own.category_ids, map(plain_name, own.names), strict=True):
        is_renamed = by_id.get(category_id) != name and name in known
        if category_id not in by_id or is_renamed:
            return own
    return classes


def _unknown(values: Collection[int], candidates: Collection[Numbering]) -> str:
    """Which values are none of each numbering."""
    parts = []
    for numbering in candidates:
        wrong = sorted(set(values) - numbering.class_ids.keys())
        kind = "value" if len(wrong) == 1 else "values"
        parts.append(f"the {kind} {first_few(wrong)} outside {numbering.describe()}")
    return " and ".join(parts)


def _is_published(classes: Classes) -> bool:
    """Tools number the classes of benchmark data sets in different ways."""
    return any(classes.names == class_table(name).names for name in class_table_names())
