"""LabelMe: a JSON file of shapes beside every image.

A folder, at any depth, of JSON files with "shapes"; folders called train, val or test in it are
splits. Images are found by `imagePath` or beside the JSON file, or lie in it as `imageData`.
"""

from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mask2former.data.annotations import Instance, Instances
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.class_list import find_class_list
from mask2former.data.formats.faults import tell_fault
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.labelme_groups import Ignored, class_labels, group_shapes
from mask2former.data.formats.labelme_images import find_image
from mask2former.data.formats.labelme_shapes import (
    BACKGROUND_LABEL,
    IGNORED_LABEL,
    SPECIAL_LABELS,
    Part,
    ignored_mask,
    object_mask,
)
from mask2former.data.formats.listing import (
    DEEPEST,
    JSON,
    files_below,
    files_in,
    first_few,
    is_file,
    some_files,
)
from mask2former.data.formats.splits import split_folders
from mask2former.data.formats.text_files import read_json, read_lines
from mask2former.data.images import IMAGE_SUFFIXES, read_image_size
from mask2former.data.problems import Problems
from mask2former.data.records import PackedRecords
from mask2former.data.sources import Source
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import rle_area
from mask2former.suggestions import did_you_mean
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("instance", "panoptic", "semantic")
CLASS_FILES = ("labels.txt", "class_names.txt", "classes.txt")
MARKS = (b'"shapes"', b'"imageData"')
PEEKED = 65536
"""Bytes at either end of a JSON file that are looked into for a mark."""
FILES_TRIED = 20
"""JSON files until a folder is taken to hold none of LabelMe's."""


class _File(NamedTuple):
    """What is kept of one JSON file."""

    path: Path
    image: Source
    size: tuple[int, int]
    """(height, width)"""
    objects: list[tuple[str, tuple[Part, ...]]]
    ignored: list[Ignored]
    labels: set[str]


def find(folder: Path) -> Found | None:
    """The folder of each split."""
    splits = {name: below for name, below in split_folders(folder).items() if _holds_labelme(below)}
    if splits:
        return Found(TASKS, splits)
    return Found(TASKS, {WHOLE: folder}) if _holds_labelme(folder) else None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: What becomes of faults.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: A file is damaged, a shape is wrong, or nothing is annotated.
    """
    root: Path = found.splits[split]
    paths = _labelme_files(root)
    files = [f for path in paths if (f := _read_file(path, root, reading.problems)) is not None]
    _tell_bare_images(root, paths, files, reading.problems)
    others = (place for name, place in found.splits.items() if name != split)
    labels = set().union(*(file.labels for file in files), *map(_labels_in, others))
    classes, source = _find_classes(folder, labels)
    notes = (
        source,
        "Shapes of one label and group_id are one object; inside another shape of it, a hole.",
        f"Shapes labelled {IGNORED_LABEL} are no objects and no background: semantic and panoptic "
        f"segmentation leave them unscored. {BACKGROUND_LABEL} cuts what lies below.",
    )
    records = PackedRecords(_record(file, root, classes, reading.problems) for file in files)
    return Dataset(FORMAT.name, folder, split, classes, TASKS, records, decode, notes)


def decode(record: Record) -> Instances:
    """The objects of one image, and what is to be ignored."""
    height, width = record.height, record.width
    assert height is not None, "every record has the size of its file"
    assert width is not None
    objects, ignored = record.annotation
    items = []
    for class_id, parts in objects:
        mask = object_mask(parts, height, width)
        area = float(rle_area(mask_to_rle(mask, height, width)))
        items.append(Instance(class_id, mask, is_crowd=False, area=area))
    regions = []
    for part, num_below in ignored:
        above = [item.mask for item in items[num_below:]]
        regions.append(ignored_mask(part, above, height, width))
    nobodys = tuple(mask for mask in regions if mask is not None)
    return Instances(height, width, tuple(items), nobodys)


def _read_file(path: Path, root: Path, problems: Problems) -> _File | None:
    image_id = _image_id(path, root)
    try:
        content = read_json(path)
    except ValueError as error:
        problems.error("unreadable annotation", str(error), file=path, image_id=image_id)
        return None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        return None  # of another program
    image = find_image(path, content)
    if image is None:
        problems.error(
            "missing image",
            f"{path} is of the image {content.get('imagePath')!r}, which is not there; put it "
            f"beside the JSON file, or save that with its image data",
            file=path,
            image_id=image_id,
        )
        return None
    try:
        size = _size(content) or read_image_size(image)
    except (FileNotFoundError, ValueError) as error:
        problems.error("unreadable image", str(error), file=image, image_id=image_id)
        return None
    shapes = [shape for shape in content["shapes"] if isinstance(shape, dict)]
    height, width = size
    found = group_shapes(shapes, height, width)
    for fault in found.faults:
        tell_fault(fault, f"{path}:", path, image_id, problems)
    return _File(path, image, size, found.objects, found.ignored, class_labels(shapes))


def _image_id(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _size(content: dict[str, Any]) -> tuple[int, int] | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    return (height, width) if type(height) is int and type(width) is int else None


def _record(file: _File, root: Path, classes: Classes, problems: Problems) -> Record:
    class_ids = {name: i for i, name in enumerate(classes.names)}
    name = _image_id(file.path, root)
    known = []
    num_known = [0]  # before each object
    for label, parts in file.objects:
        num_known.append(num_known[-1] + (label in class_ids))
        if label in class_ids:
            known.append((class_ids[label], parts))
            continue
        message = (
            f"{file.path} has a shape labelled {label!r}, which the class list does not have; "
            f"correct the label or add it to the list ({did_you_mean(label, classes.names)})"
        )
        problems.error("unknown class", message, file=file.path, image_id=name)
    ignored = [Ignored(part, num_known[num_below]) for part, num_below in file.ignored]
    annotation = (tuple(known), tuple(ignored))
    return Record(name, file.image, annotation, *file.size, num_objects=len(known))


def _find_classes(folder: Path, labels: Collection[str]) -> tuple[Classes, str]:
    """The classes, and where they are from. A list above the folder counts if it has all labels."""
    names, source = sorted(labels), "There is no labels.txt: the classes are all labels, sorted."
    for place in (folder, folder.absolute().parent):
        path = find_class_list(place, names=CLASS_FILES)
        if path is None:
            continue
        listed = [name for name in dict.fromkeys(read_lines(path)) if name not in SPECIAL_LABELS]
        if listed and (place == folder or set(labels) <= set(listed)):
            names, source = listed, f"Classes are by {path}."
            break
    if not names:
        raise ValueError(
            f"no file of {folder} has a shape with a label; draw some, or list the classes in "
            f"{folder / CLASS_FILES[0]}"
        )
    category_ids = tuple(range(1, len(names) + 1))
    return Classes(tuple(names), category_ids, is_thing=(True,) * len(names)), source


def _labels_in(root: Path) -> set[str]:
    """Labels of objects; files that cannot be read are told when their split is."""
    labels: set[str] = set()
    for path in _labelme_files(root):
        try:
            labels |= class_labels(read_json(path)["shapes"])
        except (ValueError, KeyError, TypeError):
            continue
    return labels


def _tell_bare_images(
    root: Path, paths: list[Path], files: list[_File], problems: Problems
) -> None:
    """Tell of images that lie among the JSON files but have none."""
    used = {file.image for file in files} | {path.with_suffix("") for path in paths}
    places = sorted({path.parent for path in paths})
    images = [path for place in places for path in files_in(place, IMAGE_SUFFIXES)]
    bare = [path for path in images if not {path, path.with_suffix("")} & used]
    if bare:  # no error: LabelMe writes no file for an image on which nothing was drawn
        problems.warn(
            "image without annotation",
            f"{len(bare)} of {len(images)} images of {root} have no JSON file and are left out: "
            f"{first_few(bare)}; annotate them if they should be used",
            file=root,
        )


def _labelme_files(root: Path) -> list[Path]:
    """Also empty files, which are damage."""
    return [p for p in files_below(root, JSON) if p.stat().st_size == 0 or _is_labelme(p)]


def _holds_labelme(folder: Path) -> bool:
    """Whether one of the first JSON files in a folder, or below, is LabelMe's."""
    return any(map(_is_labelme, islice(some_files(folder, JSON, depth=DEEPEST), FILES_TRIED)))


def _is_labelme(path: Path) -> bool:
    """Whether a JSON file looks like LabelMe's; the image data in it may be long."""
    if not is_file(path):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(PEEKED)
            file.seek(max(0, path.stat().st_size - PEEKED))
            tail = file.read(PEEKED)
    except OSError:
        return False
    return any(mark in head or mark in tail for mark in MARKS)


FORMAT = Format(
    name="labelme",
    layouts=("*.json with 'shapes' beside the images, at any depth", "{split}/*.json"),
    find=find,
    read=read,
)
