"""What COCO's instance and panoptic annotation files have in common."""

import json
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

from mask2former.data.formats.splits import in_order

FIRST_FEW = 3


def read_coco_json(path: Path) -> dict:
    """Read an annotation file and check that it has images, annotations and categories.

    Raises:
        ValueError: It is no such file.
    """
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore the file") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(
                f"{path} has no list {key!r}; a COCO annotation file has the lists 'images', "
                f"'annotations' and 'categories'"
            )
    return content


def agreed_categories(files: dict[str, Path]) -> list[dict]:
    """The categories of all splits, in the order of the training file.

    Category 0 of supercategory "none" is left out when no object has it: Roboflow writes it as
    the parent of the others.

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
        categories = read_coco_json(path)["categories"]
    if not categories:
        raise ValueError(f"{path} has no categories; list the classes in 'categories'")
    for category in categories:
        if not isinstance(category, dict) or not {"id", "name"} <= set(category):
            raise ValueError(f"{path}: category {category} needs an 'id' and a 'name'")
    ids = [category["id"] for category in categories]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise ValueError(f"{path}: category id {twice[0]} occurs twice; give each its own id")
    return categories


def images_by_id(content: dict, path: Path) -> dict[int | str, dict]:
    """The image entries of an annotation file.

    Raises:
        ValueError: An entry is incomplete, or an id occurs twice.
    """
    images: dict[int | str, dict] = {}
    for image in content["images"]:
        missing = [key for key in ("id", "file_name", "height", "width") if key not in image]
        if missing:
            raise ValueError(f"{path}: image {image} has no {missing[0]!r}; add it")
        if image["id"] in images:
            raise ValueError(f"{path}: image id {image['id']} occurs twice; give each its own id")
        images[image["id"]] = image
    if not images:
        raise ValueError(
            f"{path} lists no images; an empty split can be neither trained nor scored"
        )
    return images


def find_image_folder(file_names: Sequence[str], candidates: Iterable[Path], path: Path) -> Path:
    """The candidate folder that holds the files, all of which must be there.

    Args:
        file_names: As in the annotation file, relative to the folder looked for; not empty.
        candidates: In order of preference.
        path: The annotation file, for messages.

    Raises:
        FileNotFoundError: No candidate holds the first file, or the folder lacks another one.
    """
    candidates = list(dict.fromkeys(candidates))
    folder = next((c for c in candidates if (c / file_names[0]).is_file()), None)
    if folder is None:
        raise FileNotFoundError(
            f"{file_names[0]}, the first file of {path}, is in none of "
            f"{', '.join(map(str, candidates))}; put the files into one of these folders"
        )
    present = {
        f"{parent}/{file.name}".lstrip("/")
        for parent in {name.rpartition("/")[0] for name in file_names}
        for file in (folder / parent).glob("*")
    }
    missing = [name for name in file_names if name not in present]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(file_names)} files of {path} are not in {folder}, "
            f"first {', '.join(missing[:FIRST_FEW])}; add them or take them out of the file"
        )
    return folder


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
    return category["id"] == 0 and category.get("supercategory") == "none"


def _has_category_0(path: Path) -> bool:
    content = read_coco_json(path)
    return any(annotation.get("category_id") == 0 for annotation in content["annotations"])


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
