"""What the columns of a Hugging Face data set hold, and what its classes are called."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mask2former.data.class_tables import class_table, find_class_table
from mask2former.data.formats.arrow_tables import Header
from mask2former.data.formats.class_list import find_class_list, read_class_list
from mask2former.data.formats.listing import is_file
from mask2former.data.formats.text_files import read_json
from mask2former.types import Classes

Kind: TypeAlias = Literal["panoptic", "instance", "semantic", "numbered"]
"""Masks with a table of segments; polygons or run lengths; class masks; masks in colour whose red
is a class and whose green is the number of an object."""

IMAGE_COLUMNS = ("image", "img", "picture", "photo", "pixel_values", "rgb", "input")
MASK_COLUMNS = (
    "label",
    "labels",
    "annotation",
    "annotations",
    "mask",
    "masks",
    "segmentation",
    "segmentation_mask",
    "semantic",
    "semantic_mask",
    "semantic_segmentation",
    "panoptic",
    "panoptic_map",
    "label_map",
    "seg_map",
    "ground_truth",
    "target",
    "gt",
)
SEGMENT_COLUMNS = ("segments_info", "segments")
OBJECT_COLUMNS = ("objects", "instances", "annotations")
OBJECT_MASKS = ("segmentation", "segmentations", "mask", "masks", "polygons", "rle")
CATEGORY_NAMES = (
    "category_id",
    "category",
    "categories",
    "label",
    "labels",
    "class_id",
    "class",
)
ID_COLUMNS = ("image_id", "id")
NAME_TABLE = "semantic_class_to_id"
"""A column that maps class names to the values of red."""


@dataclass(frozen=True)
class Columns:
    """Which column is what; none: there is no such column."""

    image: str
    mask: str | None
    segments: str | None
    objects: str | None
    image_id: str | None
    name_table: str | None
    size: bool
    """Whether there are columns `height` and `width`."""

    @property
    def images(self) -> tuple[str, ...]:
        return (self.image,) if self.mask is None else (self.image, self.mask)

    @property
    def others(self) -> tuple[str, ...]:
        names = (self.segments, self.objects, self.image_id, self.name_table)
        sizes = ("height", "width") if self.size else ()
        return (*(name for name in names if name is not None), *sizes)


def find_columns(header: Header) -> Columns | None:
    """By type and usual names; none if there is no image or nothing is segmented."""
    masks = [name for name in header.images if name.lower() in MASK_COLUMNS]
    images = [name for name in header.images if name.lower() in IMAGE_COLUMNS]
    images += [name for name in header.images if name not in (*images, *masks)]
    if not images:
        return None
    if not masks and len(header.images) == 2:
        masks = [name for name in header.images if name != images[0]]
    objects = [
        name
        for name in OBJECT_COLUMNS
        if not set(OBJECT_MASKS).isdisjoint(header.fields.get(name, ()))
    ]
    if not masks and not objects:
        return None
    return Columns(
        image=images[0],
        mask=masks[0] if masks else None,
        segments=_first(SEGMENT_COLUMNS, header.fields) if masks else None,
        objects=objects[0] if objects else None,
        image_id=_first(ID_COLUMNS, header.fields),
        name_table=_first((NAME_TABLE,), header.fields),
        size={"height", "width"} <= header.fields.keys(),
    )


def known_names(folder: Path, header: Header, columns: Columns, row: dict) -> dict[int, str] | None:
    """Class names by category id, from the first place that has them; none if none has.

    Looked at are `categories.json`, `id2label.json`, a class list, the class labels of the
    columns, and a column of names.

    Args:
        folder: Of the data set.
        header: Of one of its files.
        columns: From `find_columns`.
        row: Any row.

    Raises:
        ValueError: A file is damaged.
    """
    listed = read_categories(folder)
    if listed is not None:
        return {category["id"]: str(category["name"]) for category in listed}
    id2label = folder / "id2label.json"
    path = id2label if is_file(id2label) else find_class_list(folder)
    if path is not None:
        return dict(read_class_list(path).names)
    for name in (columns.objects, columns.segments):
        labels = next(_class_labels(header.features.get(name or "")), None)
        if labels is not None:
            return dict(enumerate(labels))
    table = row.get(columns.name_table or "")
    if isinstance(table, dict) and table:
        return {int(value): name for name, value in table.items() if value is not None}
    return None


def read_categories(folder: Path) -> list[dict[str, Any]] | None:
    """What `categories.json` lists: id, name and maybe isthing; none without the file.

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / "categories.json"
    if not is_file(path):
        return None
    content = read_json(path)
    try:
        listed = content["categories"] if isinstance(content, dict) else content
        return [{**entry, "id": int(entry["id"]), "name": entry["name"]} for entry in listed]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"cannot read {path} ({type(error).__name__}: {error}); write a list of categories, "
            f"each with id, name and isthing"
        ) from error


def panoptic_things(
    folder: Path, names: Mapping[int, str], images: Iterable[Collection[int]]
) -> tuple[dict[int, bool], str]:
    """Which categories are things, and a sentence that tells how this was found out.

    Args:
        folder: Of the data set.
        names: By category id.
        images: The categories of the segments of each image, crowds left out.
    """
    listed = read_categories(folder)
    if listed is not None and all("isthing" in category for category in listed):
        things = {category["id"]: bool(category["isthing"]) for category in listed}
        return things, "categories.json says which classes are things."
    table = find_class_table(list(names.values()))
    if table is not None and any(class_table(table).is_thing):
        things = dict(zip(names, class_table(table).is_thing, strict=True))
        return things, f"The classes are those of {table}, which says which are things."
    several = {c for image in images for c in image if list(image).count(c) > 1}
    return {c: c in several for c in names}, (
        "Nothing says which classes are things, so those are of which some image shows two "
        "segments; write categories.json with id, name and isthing to tell."
    )


def make_classes(names: Mapping[int, str], things: Mapping[int, bool] | bool) -> Classes:
    """Classes in the order of category ids."""
    ids = sorted(names)
    return Classes(
        names=tuple(names[i] for i in ids),
        category_ids=tuple(ids),
        is_thing=tuple(things if isinstance(things, bool) else things.get(i, False) for i in ids),
    )


def as_objects(value: Any) -> list[dict[str, Any]]:
    """The objects or segments of one image, whichever way round the table nests them.

    Raises:
        ValueError: They are no objects.
    """
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, dict):
        lists = {key: entry for key, entry in value.items() if isinstance(entry, list)}
        lengths = {key: len(entry) for key, entry in lists.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the lists of objects have different lengths: {lengths}")
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    if value is None:
        return []
    if not isinstance(value, list) or any(not isinstance(entry, dict) for entry in value):
        raise ValueError(f"{type(value).__name__} is no list of objects with names and values")
    return value


def category_of(entry: Mapping[str, Any]) -> int | str | None:
    """The category of an object or segment as the table says it: an id or a name."""
    return next((entry[name] for name in CATEGORY_NAMES if entry.get(name) is not None), None)


def _first(names: Iterable[str], present: Collection[str]) -> str | None:
    return next((name for name in names if name in present), None)


def _class_labels(feature: Any, key: str = "") -> Iterator[list[str]]:
    """Names of the class labels that lie under a key for categories."""
    if isinstance(feature, list):
        for entry in feature:
            yield from _class_labels(entry, key)
    elif isinstance(feature, dict):
        if feature.get("_type") == "ClassLabel" and key in CATEGORY_NAMES:
            yield feature["names"]
            return
        for name, entry in feature.items():
            inner = key if name in ("feature", "_type") else name
            yield from _class_labels(entry, inner)
