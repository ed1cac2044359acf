"""What COCO's instance, panoptic and video annotation files have in common."""

import json
import mmap
import re
from pathlib import Path
from typing import Any, Literal

from mask2former.data.formats.listing import first_few
from mask2former.data.formats.splits import in_order
from mask2former.data.formats.text_files import read_json_object
from mask2former.data.problems import Problems

UNSPLIT = ("", "default")
"""Names that stand for no split: CVAT writes "default"."""
SNIFFED = 1 << 20
"""Bytes at either end of a file that are looked at to tell its kind."""


def split_of(stem: str) -> str:
    """`train2017` and `train_2017` are the split train."""
    return re.sub(r"_?\d{4}$", "", stem)


def sniff(path: Path) -> Literal["objects", "panoptic", "videos"] | None:
    """What an annotation file describes, told from its two ends; none: nothing of COCO's kinds.

    Files of hundreds of megabytes are common, so that a folder cannot be looked over by parsing.
    """
    try:
        with path.open("rb") as file:
            text = file.read(SNIFFED)
            file.seek(max(len(text), path.stat().st_size - SNIFFED))
            text += file.read()
    except OSError:
        return None
    if b'"file_names"' in text or b'"segmentations"' in text:
        return "videos"
    is_panoptic = b'"isthing"' in text and b'"segmentation"' not in text
    if b'"segments_info"' in text or is_panoptic:
        return "panoptic"
    has_images = any(key in text for key in (b'"images"', b'"image_id"', b'"segmentation"'))
    has_classes = b'"categories"' in text or b'"category_id"' in text
    return "objects" if has_images and has_classes else None


def read_coco_json(path: Path) -> dict:
    """Read an annotation file and check that it has images, annotations and categories.

    Raises:
        ValueError: It is no such file.
    """
    content = read_json_object(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise ValueError(
                f"{path} has no list {key!r}; a COCO annotation file has the lists 'images', "
                f"'annotations' and 'categories'"
            )
    return content


def agreed_categories(files: dict[str, Path]) -> list[dict]:
    """The categories of all splits, in the order of the training file.

    Category 0 of supercategory "none" or of the name "background" is left out when no object or
    segment has it: Roboflow writes the one as the parent of the others, labelme2coco the other.

    Args:
        files: Annotation file of each split.

    Raises:
        ValueError: Two files differ in a category, or a category is incomplete.
    """
    names = in_order(files)
    reference = files[names[0]]
    categories = read_categories(reference)
    for name in names[1:]:
        _check_same_categories(categories, reference, read_categories(files[name]), files[name])
    placeholder = next((c for c in categories if _may_be_placeholder(c)), None)
    if placeholder and len(categories) > 1 and not any(map(_has_category_0, files.values())):
        categories.remove(placeholder)
    return categories


def read_categories(path: Path) -> list[dict]:
    """The categories alone, without parsing the hundreds of megabytes around them.

    Raises:
        ValueError: There are none, or one has no id or name, or an id occurs twice.
    """
    categories = _scan_categories(path)
    if categories is None:
        categories = read_json_object(path).get("categories")
    if not categories or not isinstance(categories, list):
        raise ValueError(f"{path} has no categories; list the classes in 'categories'")
    for category in categories:
        if not isinstance(category, dict) or not {"id", "name"} <= set(category):
            raise ValueError(f"{path}: category {category} needs an 'id' and a 'name'")
        if type(category["id"]) is not int:
            raise ValueError(
                f"{path}: category {category['name']!r} has the id {category['id']!r}; category "
                f"ids are whole numbers, so renumber the categories and their annotations"
            )
    ids = [category["id"] for category in categories]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise ValueError(f"{path}: category id {twice[0]} occurs twice; give each its own id")
    return categories


def left_out_note(content: dict, categories: list[dict], path: Path) -> tuple[str, ...]:
    """What to tell about categories of the file that are no classes."""
    ids = {category["id"] for category in categories}
    left_out = [category for category in content["categories"] if category["id"] not in ids]
    return tuple(
        f"Category {category['id']} ({category['name']!r}) of {path.name} is no class: no "
        f"object has it, and tools write such a one as the parent of the others or the background."
        for category in left_out
    )


def images_by_id(content: dict, path: Path, problems: Problems) -> dict[int | str, dict]:
    """The image entries of an annotation file that are complete; the others are told.

    Raises:
        ValueError: None is left.
    """
    images: dict[int | str, dict] = {}
    for image in content["images"]:
        wrong = _wrong_image(image)
        if wrong:
            problems.error(
                "unreadable annotation", f"{path}: image {image} {wrong}; correct it", file=path
            )
        elif image["id"] in images:
            problems.error(
                "duplicate id",
                f"{path}: image id {image['id']} occurs twice, as "
                f"{images[image['id']]['file_name']} and {image['file_name']}; give each its own",
                file=path,
                image_id=image["id"],
            )
        else:
            images[image["id"]] = image
    if not images:
        raise ValueError(
            f"{path} lists no images; an empty split can be neither trained nor scored"
        )
    return images


def warn_repeated_ids(annotations: list[Any], path: Path, problems: Problems) -> None:
    """Tell of annotation ids that occur twice: we do not need them, other tools go by them."""
    seen: set = set()
    repeated: dict = {}
    for annotation in annotations:
        annotation_id = annotation.get("id") if isinstance(annotation, dict) else None
        if annotation_id is None or not isinstance(annotation_id, int | str):
            continue
        if annotation_id in seen:
            repeated[annotation_id] = None
        seen.add(annotation_id)
    if repeated:
        problems.warn(
            "duplicate id",
            f"{path}: {len(repeated)} annotation ids occur more than once: "
            f"{first_few(list(repeated))}; pycocotools keeps one object of "
            f"each id, so number the annotations anew",
            file=path,
        )


def whole_number(value: Any) -> int | None:
    """A positive number of pixels or frames; none when it is none."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number > 0 else None


def _wrong_image(image: Any) -> str | None:
    """What is wrong with an entry of "images"."""
    if not isinstance(image, dict):
        return "is no JSON object"
    missing = [key for key in ("id", "file_name", "height", "width") if key not in image]
    if missing:
        return f"has no {missing[0]!r}"
    if not isinstance(image["id"], int | str):
        return f"has the id {image['id']!r}, which is neither a number nor a text"
    if not isinstance(image["file_name"], str) or not image["file_name"]:
        return f"has the file_name {image['file_name']!r}"
    sizes = [key for key in ("height", "width") if whole_number(image[key]) is None]
    return (
        f"has the {sizes[0]} {image[sizes[0]]!r}, which is no number of pixels" if sizes else None
    )


def _scan_categories(path: Path) -> list[dict] | None:
    """Parse only what follows the key "categories"; none when that is no list."""
    if path.stat().st_size == 0:
        return None  # cannot be mapped; reading it gives the message
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        key = text.rfind(b'"categories"')
        start = text.find(b"[", key) if key >= 0 else -1
        if start < 0 or text[key + len('"categories"') : start].strip() != b":":
            return None
        length = 1 << 16
        while True:
            try:
                chunk = text[start : start + length].decode(errors="ignore")
                return json.JSONDecoder().raw_decode(chunk)[0]
            except json.JSONDecodeError:
                if start + length >= len(text):
                    return None
                length *= 4


def _may_be_placeholder(category: dict) -> bool:
    is_background = str(category["name"]).strip("_ ").casefold() == "background"
    return category["id"] == 0 and (category.get("supercategory") == "none" or is_background)


def _has_category_0(path: Path) -> bool:
    annotations = read_json_object(path).get("annotations") or []
    entries = [annotation for annotation in annotations if isinstance(annotation, dict)]
    for lists in (entry.get("segments_info") for entry in tuple(entries)):
        entries += lists if isinstance(lists, list) else []
    return any(isinstance(entry, dict) and entry.get("category_id") == 0 for entry in entries)


def _check_same_categories(
    categories: list[dict], path: Path, others: list[dict], other_path: Path
) -> None:
    ours, theirs = (
        {c["id"]: (c["name"], c.get("isthing")) for c in cs} for cs in (categories, others)
    )
    for category_id in [*ours, *theirs]:
        if ours.get(category_id) != theirs.get(category_id):
            raise ValueError(
                f"category {category_id} is {_describe(ours.get(category_id))} in {path} but "
                f"{_describe(theirs.get(category_id))} in {other_path}; all splits need the same "
                f"categories"
            )


def _describe(category: tuple | None) -> str:
    if category is None:
        return "missing"
    name, is_thing = category
    return repr(name) if is_thing is None else f"{name!r} (isthing {is_thing})"
