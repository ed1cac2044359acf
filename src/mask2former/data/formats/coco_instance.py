"""COCO instance segmentation: one JSON file a split, objects as polygons or run lengths.

The layouts are those of COCO itself and of the tools that write its format: a file for each split
in `annotations/` (COCO, CVAT), or a file beside its images or their folder (Roboflow, labelme2coco,
FiftyOne, Label Studio), for the whole or one a split.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.coco_json import (
    UNSPLIT,
    agreed_categories,
    images_by_id,
    left_out_note,
    read_coco_json,
    sniff,
    split_of,
    warn_repeated_ids,
)
from mask2former.data.formats.coco_masks import (
    PackedObject,
    decode_objects,
    known_area,
    known_box,
    parse_segmentation,
)
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import JSON, files_in, first_few, folders_in, is_file
from mask2former.data.formats.named_files import find_files, shortening_note, warn_unnamed
from mask2former.data.formats.splits import SPLIT_NAMES
from mask2former.data.problems import FaultError, Problems
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("instance", "panoptic", "semantic")
ROBOFLOW_FILE = "_annotations.coco.json"
FILES = (ROBOFLOW_FILE, "annotations.json", "labels.json", "result.json", "instances.json")
"""Written beside images or their folder by Roboflow, labelme2coco, FiftyOne, Label Studio."""
IMAGE_FOLDERS = ("images", "JPEGImages", "data")
SURE_START = "instances_"
"""Of the names of files that leave no doubt."""

decode = decode_objects


def find(folder: Path) -> Found | None:
    """The annotation file of each split in a folder."""
    files: dict[str, Path] = {}
    for split, path in _candidates(folder):
        is_new = split not in files and not (split == WHOLE and files)
        if is_new and _is_ours(path):
            files[split] = path
    return Found(TASKS, files) if files else None


def image_folders(folder: Path, split: str, path: Path) -> list[Path]:
    """Where the images of an annotation file may lie, the likeliest first."""
    if path.name in FILES:
        base = path.parent
        return [base, *(base / name for name in IMAGE_FOLDERS)]
    name = path.stem.removeprefix(SURE_START).removeprefix("panoptic_")
    # the folder of `panoptic.json` holds its PNGs, not its images
    names = [split] if name == "panoptic" else list(dict.fromkeys((name, split)))
    return [
        *(place for name in names for place in (folder / name, folder / "images" / name)),
        *(folder / split / inner for inner in IMAGE_FOLDERS),
        *(folder / inner / split for inner in IMAGE_FOLDERS[1:]),
        *(folder / inner for inner in IMAGE_FOLDERS),
        folder,
    ]


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: Conventions, and what becomes of faults.

    Raises:
        ValueError: Something in the annotation file is wrong; the message names it.
        FileNotFoundError: Images are missing.
    """
    path, problems = found.splits[split], reading.problems
    categories = agreed_categories(found.splits)
    content = read_coco_json(path)
    classes = Classes(
        names=tuple(str(category["name"]) for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        is_thing=(True,) * len(categories),
    )
    images = images_by_id(content, path, problems)
    file_names = {image_id: image["file_name"] for image_id, image in images.items()}
    located = find_files(file_names, image_folders(folder, split, path), path, problems)
    if is_own_folder(located.folder, folder, split, found):
        warn_unnamed(located, path, problems)
    objects = read_objects(content["annotations"], images, classes, path, problems)
    records = PackedRecords(
        Record(
            image_id=image_id,
            image=located.path(image_id),
            annotation=tuple(objects[image_id]),
            height=int(images[image_id]["height"]),
            width=int(images[image_id]["width"]),
            num_objects=sum(not item[2] for item in objects[image_id]),
        )
        for image_id in images
        if image_id in located.names
    )
    notes = (*left_out_note(content, categories, path), *shortening_note(located, path))
    return Dataset(FORMAT.name, folder, split, classes, TASKS, records, decode, notes)


def is_own_folder(images: Path, folder: Path, split: str, found: Found) -> bool:
    """Whether a folder of images is for one split alone, so that none may be left over in it."""
    if len(found.splits) == 1:
        return True
    return any(split_of(part) == split for part in images.relative_to(folder).parts)


def read_objects(
    annotations: list[Any],
    images: dict[int | str, dict],
    classes: Classes,
    path: Path,
    problems: Problems,
) -> dict[int | str, list[PackedObject]]:
    """The objects of each image in file order; those that are wrong are told and left out.

    Args:
        annotations: As in the file.
        images: The file's images by id.
        classes: What the category ids mean.
        path: The file, for messages.
        problems: Is told the faults.
    """
    class_ids = classes.class_id_by_category()
    objects: dict[int | str, list[PackedObject]] = defaultdict(list)
    degenerate: list[Any] = []
    for annotation in annotations:
        try:
            image_id, item, num_dropped = _read_object(annotation, images, class_ids)
        except FaultError as fault:
            is_object = isinstance(annotation, dict)
            name = f"annotation {annotation.get('id')}" if is_object else "an annotation"
            image_id = annotation.get("image_id") if is_object else None
            message = f"{path}: {name} {fault}"
            problems.error(fault.kind, message, file=path, image_id=_printable(image_id))
            continue
        degenerate += [annotation.get("id")] * num_dropped
        if item[1]:
            objects[image_id].append(item)
    if degenerate:
        problems.warn(
            "degenerate polygon",
            f"{path}: dropped {len(degenerate)} polygons with fewer than 3 points, of the "
            f"annotations {first_few(list(dict.fromkeys(degenerate)))}; redraw them or take them "
            f"out",
            file=path,
        )
    warn_repeated_ids(annotations, path, problems)
    return objects


def _read_object(
    annotation: Any, images: dict[int | str, dict], class_ids: dict[int, int]
) -> tuple[int | str, PackedObject, int]:
    """(image id, object, number of polygons dropped) of one annotation.

    Raises:
        FaultError: It is wrong.
    """
    if not isinstance(annotation, dict):
        raise FaultError(f"is {annotation!r}, no JSON object; take it out", "unreadable annotation")
    image_id = _printable(annotation.get("image_id"))
    image = None if image_id is None else images.get(image_id)
    if image_id is None or image is None:
        raise FaultError(
            f"is for image id {annotation.get('image_id')}, which 'images' does not list; add the "
            f"image or take the annotation out",
            "annotation without image",
        )
    category_id = annotation.get("category_id")
    class_id = class_ids.get(category_id) if isinstance(category_id, int) else None
    if class_id is None:
        raise FaultError(
            f"has category id {category_id}, but the categories are {shorten(tuple(class_ids))}; "
            f"correct it or add the category",
            "unknown class",
        )
    height, width = int(image["height"]), int(image["width"])
    mask, num_dropped = parse_segmentation(annotation.get("segmentation"), height, width)
    crowd = bool(annotation.get("iscrowd", 0))
    area, box = known_area(annotation.get("area")), known_box(annotation.get("bbox"))
    return image_id, (class_id, mask, crowd, area, None, box), num_dropped


def shorten(ids: tuple[int, ...]) -> str:
    """The ids, or how many there are when they are too many to read."""
    return (
        ", ".join(map(str, ids))
        if len(ids) <= 20
        else f"{len(ids)} ids from {min(ids)} to {max(ids)}"
    )


def _candidates(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file with a name that may be right, the surest names first."""
    children = [path.name for path in folders_in(folder)]
    for child in children:
        yield child, folder / child / ROBOFLOW_FILE
    listed = files_in(folder / "annotations", JSON)
    for path in listed:
        if path.name.startswith(SURE_START):
            split = split_of(path.stem.removeprefix(SURE_START))
            yield WHOLE if split in UNSPLIT else split, path
    for path in (*listed, *files_in(folder, JSON)):
        if split_of(path.stem) in SPLIT_NAMES:
            yield split_of(path.stem), path
    for name in FILES[1:]:
        for child in children:
            if split_of(child) in SPLIT_NAMES:
                yield split_of(child), folder / child / name
    for name in FILES:
        yield WHOLE, folder / name


def _is_ours(path: Path) -> bool:
    if not is_file(path):
        return False
    kind = sniff(path)
    # these names leave no doubt, so that what is wrong inside is told when it is read
    is_sure = path.name == ROBOFLOW_FILE or path.name.startswith(SURE_START)
    return kind == "objects" or (is_sure and kind is None)


def _printable(image_id: Any) -> int | str | None:
    return image_id if isinstance(image_id, int | str) else None


FORMAT = Format(
    name="coco-instance",
    layouts=(
        "annotations/instances_{split}*.json",
        "annotations/{split}*.json",
        "{split}*.json",
        f"[{{split}}/]{'|'.join(FILES)}",
    ),
    find=find,
    read=read,
)
