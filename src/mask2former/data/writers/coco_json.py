"""What the JSON files of COCO's formats have in common."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mask2former.data.writers.conversion import Conversion, Item, Layout
from mask2former.data.writers.names import file_names
from mask2former.types import Classes


def coco_layout(conversion: Conversion, *, holds_unlabelled: bool) -> Layout:
    """Images in `images/{split}`, with the folders that tell them apart."""
    return Layout(
        names=file_names(conversion.splits, "nested"),
        image_folders={split: f"images/{split}" for split in conversion.splits},
        image_ids=_image_ids(conversion),
        holds_unlabelled=holds_unlabelled,
    )


def image_entry(item: Item, size: tuple[int, int]) -> dict:
    """An entry of `images`; the size is (height, width) in pixels."""
    return {
        "id": item.image_id,
        "file_name": item.file_name,
        "height": size[0],
        "width": size[1],
    }


def category_entries(
    classes: Classes,
    category_ids: Sequence[int] | None = None,
    *,
    is_thing: Sequence[bool] | None = None,
) -> list[dict]:
    """The list `categories`.

    Args:
        classes: Their names.
        category_ids: Their ids in the target; none for those in the data set.
        is_thing: Of panoptic files, each class's `isthing`.
    """
    ids = classes.category_ids if category_ids is None else category_ids
    entries: list[dict] = [
        {"id": category_id, "name": name, "supercategory": ""}
        for category_id, name in zip(ids, classes.names, strict=True)
    ]
    for entry, thing in zip(entries, is_thing or (), strict=False):
        entry["isthing"] = int(thing)
    return entries


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write an object that programs read: without spaces, one entry of its lists a line.

    Lists are encoded entry by entry: as a whole they may take gigabytes of text, and `json.dump`
    is slow.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for i, (key, value) in enumerate(content.items()):
            file.write(f"{',' if i else '{'}{_encode(key)}:")
            if isinstance(value, list):
                file.writelines(_encode_list(value))
            else:
                file.write(_encode(value))
        file.write("}")


def write_json_list(path: Path, entries: list) -> None:
    """Write a list, one entry a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(_encode_list(entries)), encoding="utf-8")


def _encode_list(entries: list) -> Iterator[str]:
    yield "["
    for i, entry in enumerate(entries):
        yield f"{',' if i else ''}\n{_encode(entry)}"
    yield "]"


def _encode(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _image_ids(conversion: Conversion) -> dict[str, list[int]]:
    """The data set's own if all are numbers, else counted from 1."""
    ids = {
        split: [image_id for r in data.records if type(image_id := r.image_id) is int]
        for split, data in conversion.splits.items()
    }
    sizes = {split: len(data) for split, data in conversion.splits.items()}
    if all(len(set(ids[split])) == size for split, size in sizes.items()):
        return ids
    count = sum(sizes.values())
    conversion.losses.add("image ids", "images are numbered from 1: ids are numbers here", count)
    numbers = iter(range(1, count + 1))
    return {split: [next(numbers) for _ in range(size)] for split, size in sizes.items()}
