"""What the numbers in result files mean: the data set's category ids, or others."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
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
    nothing: frozenset[int] = frozenset()
    """Values of pixels in which nothing was predicted."""
    reason: str = ""
    """Why it is this one, where there are several; a sentence to tell."""

    def describe(self) -> str:
        return f"{self.name} ({self.span()})"

    def span(self) -> str:
        """The values, as short as can be: `1 to 7`."""
        values = sorted(self.class_ids)
        first, last = values[0], values[-1]
        if first == last:
            return str(first)
        has_gaps = len(values) < last - first + 1
        return f"{len(values)} values from {first} to {last}" if has_gaps else f"{first} to {last}"

    def unknown(self, values: Collection[int]) -> set[int]:
        """Which of some values are no class and do not mean that nothing was predicted."""
        return set(values) - self.class_ids.keys() - self.nothing


def numberings(classes: Classes) -> list[Numbering]:
    """What values may mean where nothing says it, the likeliest first.

    Category ids are what the data set's own label PNGs hold (Cityscapes: label ids). Class ids are
    what tools number by that know no others (Cityscapes: train ids; Mapillary Vistas: the values
    of its label PNGs; ADE20K: detectron2's PNGs, where both are the same).
    """
    count = range(len(classes))
    by_category = classes.class_id_by_category()
    # of benchmark data sets tools use several numberings, which 0 tells apart
    nothing = nothing_of(by_category, may_be_zero=not _is_published(classes))
    candidates = [
        Numbering("category ids", by_category, nothing),
        Numbering("class ids", {i: i for i in count}, nothing_of(count)),
    ]
    if classes.names == class_table(SHIFTED).names:
        own = {i + 1: i for i in count}
        candidates.append(Numbering("ADE20K's own values", own, nothing_of(own)))
    tables = [candidate.class_ids for candidate in candidates]
    return [c for i, c in enumerate(candidates) if c.class_ids not in tables[:i]]


def nothing_of(values: Collection[int], *, may_be_zero: bool = False) -> frozenset[int]:
    """The values that mean that nothing was predicted: 255, and 0 where classes count from 1.

    Args:
        values: Of the classes.
        may_be_zero: Whether 0 may mean it.
    """
    counts_from_1 = may_be_zero and min(values, default=0) == 1
    return frozenset({255, 0} if counts_from_1 else {255}).difference(values)


def choose_numbering(
    classes: Classes, values: Iterable[tuple[str, Collection[int]]], where: str
) -> Numbering:
    """The numbering that results use, told by the values that they have.

    Values that mean that nothing was predicted fit; a numbering that needs no such goes before
    one that does.

    Args:
        classes: Of the data set.
        values: What names the source of some values, and the values. Read until one numbering is
            left.
        where: Names the results in messages.

    Raises:
        ValueError: No numbering has all values, or several have, of a data set for which tools use
            several.
    """
    left = candidates = numberings(classes)
    met: set[int] = set()
    for source, some in values:
        if len(left) == 1:
            break
        met.update(some)
        kept = [numbering for numbering in left if not numbering.unknown(some)]
        if not kept:
            raise ValueError(f"{source} has {_unknown(some, left)}; {MEND}")
        left = kept
    left = _fewest_without(left, met)
    if len(left) > 1 and _is_published(classes):
        fitting = " and as ".join(numbering.describe() for numbering in left)
        raise ValueError(f"the values of {where} can be read as {fitting}; {MEND}")
    chosen = left[0]
    others = " and ".join(f"{c.name} would be {c.span()}" for c in candidates if c is not chosen)
    told = (
        f"{where}: values {_range(met - chosen.nothing)} are {chosen.name} ({others})"
        if others
        else ""
    )
    return replace(chosen, reason=told)


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
    name = f"the values of {place / CLASS_LIST}"
    return counted, Numbering(name, by_value, nothing_of(by_value, may_be_zero=True))


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
    """Which values are no class, by the numbering that knows most of them."""
    wrong = min((sorted(c.unknown(values)) for c in candidates), key=len)
    accepted = " or ".join(numbering.describe() for numbering in candidates)
    if len(wrong) == 1:
        return f"the value {wrong[0]}, which is no class: values are {accepted}"
    return f"the values {first_few(wrong)}, which are no classes: values are {accepted}"


def _fewest_without(candidates: list[Numbering], values: Collection[int]) -> list[Numbering]:
    """The numberings in which the fewest values mean that nothing was predicted."""
    counts = [len(candidate.nothing.intersection(values)) for candidate in candidates]
    return [c for c, count in zip(candidates, counts, strict=True) if count == min(counts)]


def _range(values: Collection[int]) -> str:
    low, high = min(values, default=0), max(values, default=0)
    return str(low) if low == high else f"{low} to {high}"


def _is_published(classes: Classes) -> bool:
    """Tools number the classes of benchmark data sets in different ways."""
    return any(classes.names == class_table(name).names for name in class_table_names())
