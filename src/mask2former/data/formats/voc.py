"""Pascal VOC's segmentation: a PNG of classes and, where there is one, a PNG of objects.

Layout: `JPEGImages`, `SegmentationClass`, optionally `SegmentationObject` and
`ImageSets/Segmentation/{split}.txt`; in the folder itself or in `VOC2012` or
`VOCdevkit/VOC2012` below. LabelMe and CVAT export the same.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from mask2former.data.annotations import Layered, SegmentLabel, SegmentMap
from mask2former.data.class_tables import Color
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.class_list import find_class_list, read_class_list
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import (
    DEEPEST,
    PNG,
    files_in,
    first_file,
    is_file,
    is_folder,
)
from mask2former.data.formats.mask_values import (
    MaskCoding,
    find_coding,
    present_values,
    read_numbers,
    read_values,
)
from mask2former.data.formats.pairs import files_by_name, pair_by_name
from mask2former.data.formats.text_files import read_lines
from mask2former.data.images import IMAGE_SUFFIXES
from mask2former.data.problems import Problems
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("instance", "panoptic", "semantic")
SEMANTIC_ONLY: tuple[Task, ...] = ("semantic",)
IMAGES = "JPEGImages"
CLASS_FOLDERS = ("SegmentationClass", "SegmentationClassPNG")
OBJECT_FOLDERS = ("SegmentationObject", "SegmentationObjectPNG")
CLASS_FILES = ("class_names.txt", "labelmap.txt", "labels.txt")
BELOW = ("", "VOC2012", "VOCdevkit/VOC2012", "VOC2007", "VOCdevkit/VOC2007")
BACKGROUND = "_background_"
BACKGROUND_NAMES = (BACKGROUND, "background", "__background__")
IGNORED_NAME = "__ignore__"
VOID = 255
"""Value of the border around objects and of what is too difficult: not scored."""
VOID_COLOR = (224, 224, 192)
MEND = "add it, take the image out, or list the images to use in ImageSets/Segmentation/train.txt"
LISTS = frozenset({".txt"})
NAMES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""Of the values 1.. of the Pascal VOC challenge itself."""


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    root: Path
    list_file: Path | None
    """Of the names of its images; none for all that have a class mask."""


def voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """The colour of every value in VOC's PNGs.

    Source:
        VOC development kit: bits 0, 3, 6 of the value are the highest bits of red, bits 1, 4, 7
        those of green, bits 2, 5 those of blue.
    """
    palette = np.zeros((256, 3), np.uint8)
    for value in range(256):
        for bit in range(8):
            palette[value, bit % 3] |= (value >> bit & 1) << (7 - bit // 3)
    return palette


def find(folder: Path) -> Found | None:
    """The list file of each split."""
    for below in BELOW:
        root = folder / below
        classes = _subfolder(root, CLASS_FOLDERS)
        if classes is None or not is_folder(root / IMAGES):
            continue
        if first_file(classes, PNG, depth=DEEPEST) is None:
            continue
        tasks = SEMANTIC_ONLY if _subfolder(root, OBJECT_FOLDERS) is None else TASKS
        lists = files_in(root / "ImageSets" / "Segmentation", LISTS)
        splits = {path.stem: Place(root, path) for path in lists}
        return Found(tasks, splits or {WHOLE: Place(root, None)})
    return None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: What becomes of faults; the format itself fixes that 255 is ignored.

    Raises:
        FileNotFoundError: A listed image or its mask is missing.
        ValueError: The class list is none or, without lists of images, an image has no mask.
    """
    place: Place = found.splits[split]
    classes_folder = _subfolder(place.root, CLASS_FOLDERS)
    assert classes_folder is not None, "find saw it"
    records = _read_records(place, classes_folder, reading.problems)
    path = find_class_list(place.root, folder, names=CLASS_FILES)
    names, colors = _read_classes(path)
    masks = [Path(record.annotation[0]) for record in records]
    palette = {v: (int(r), int(g), int(b)) for v, (r, g, b) in enumerate(voc_palette())}
    coding = find_coding(masks, colors or palette, path or place.root / CLASS_FILES[1])
    classes = Classes(
        names=tuple(names),
        category_ids=tuple(range(len(names))),
        is_thing=(False, *(found.tasks == TASKS for _ in names[1:])),
    )
    source = "Class names are the 20 of Pascal VOC." if path is None else f"Classes are by {path}."
    notes = (
        source,
        coding.note,
        f"Pixel value {VOID} is ignored: it is no class and not scored.",
        f"Pixel value 0 is the background: the class {names[0]!r}, and no object.",
    )
    return Dataset(
        FORMAT.name,
        folder,
        split,
        classes,
        found.tasks,
        PackedRecords(records),
        partial(decode, names=classes.names, coding=coding),
        notes,
    )


def decode(record: Record, *, names: tuple[str, ...], coding: MaskCoding) -> SegmentMap | Layered:
    """Classes of one image and, if they are annotated, its objects.

    An object is of the class that most of its pixels have; void and background do not count. One
    that is void altogether is none.

    Raises:
        FileNotFoundError: A PNG is missing.
        ValueError: A PNG is damaged, has a value that is no class, or an object of no class.
    """
    class_path, object_path = record.annotation
    values = read_values(Path(class_path), coding)
    present = [value for value in present_values(values) if value != VOID]
    if present and present[-1] >= len(names):
        raise ValueError(
            f"mask {class_path} has pixel value {present[-1]}, but the {len(names)} classes have "
            f"the values 0 to {len(names) - 1} and {VOID} is ignored; add the class to "
            f"{' or '.join(CLASS_FILES)}, or correct the mask"
        )
    ids = np.where(values == VOID, 0, values.astype(np.int32) + 1)
    semantic = SegmentMap(ids, tuple(SegmentLabel(value + 1, value) for value in present))
    if object_path is None:
        return semantic
    numbers = read_numbers(Path(object_path), void=VOID_COLOR)
    if numbers.shape != ids.shape:
        raise ValueError(
            f"object mask {object_path} has size (h, w) = {numbers.shape} but class mask "
            f"{class_path} has {ids.shape}; make the two agree"
        )
    return Layered(_label_objects(numbers, ids, Path(object_path)), semantic)


def _label_objects(
    numbers: Int32[np.ndarray, "h w"], class_values: Int32[np.ndarray, "h w"], path: Path
) -> SegmentMap:
    """Give every object its class.

    Args:
        numbers: 0 and `VOID` are no object.
        class_values: Class ids + 1; 0 is void.
        path: Of the object mask, for messages.
    """
    segments = []
    for number in np.unique(numbers):
        if number in (0, VOID):
            continue
        _, on_background, *counts = np.bincount(
            class_values[numbers == number], minlength=2
        ).tolist()
        if any(counts):
            segments.append(SegmentLabel(int(number), counts.index(max(counts)) + 1))
        elif on_background:
            raise ValueError(
                f"object {number} of {path} has {on_background} pixels, all of them background "
                f"in the class mask; give them a class, or take the object out"
            )
    return SegmentMap(numbers, tuple(segments))


def _read_records(place: Place, classes: Path, problems: Problems) -> list[Record]:
    images = files_by_name(place.root / IMAGES, IMAGE_SUFFIXES, problems)
    objects = _subfolder(place.root, OBJECT_FOLDERS)
    if place.list_file is None:
        masks = files_by_name(classes, PNG, problems)
        names = list(pair_by_name(images, masks, classes, problems, mend=MEND))
    else:
        # names with spaces may be quoted
        names = list(dict.fromkeys(line.strip('"') for line in read_lines(place.list_file)))
    records = []
    for name in names:
        mask = classes / f"{name}.png"
        object_mask = None if objects is None else objects / f"{name}.png"
        missing = [path for path in (mask, object_mask) if path is not None and not is_file(path)]
        if name not in images:
            problems.error(
                "missing image",
                f"no image {name!r} in {place.root / IMAGES}, but {place.list_file} names it; add "
                f"the image or take the name out",
                file=place.root / IMAGES / name,
                image_id=name,
            )
        elif missing:
            problems.error(
                "missing annotation",
                f"no mask {missing[0]} for {images[name]}; add it, or take {name!r} out of "
                f"{place.list_file or classes}",
                file=missing[0],
                image_id=name,
            )
        else:
            paths = (str(mask), None if object_mask is None else str(object_mask))
            records.append(Record(image_id=name, image=images[name], annotation=paths))
    return records


def _read_classes(path: Path | None) -> tuple[list[str], dict[int, Color]]:
    """Names by value, the background first; and colours by value, if the file has them."""
    if path is None:
        return [BACKGROUND, *NAMES], {}
    listed = read_class_list(path)
    entries = [(name, listed.colors.get(value)) for value, name in listed.names.items()]
    entries = [entry for entry in entries if entry[0] != IGNORED_NAME]
    background = next((e for e in entries if e[0].lower() in BACKGROUND_NAMES), None)
    if background is not None:
        entries.remove(background)
    entries.insert(0, background or (BACKGROUND, (0, 0, 0)))
    if not listed.colors:
        return [name for name, _ in entries], {}
    colors = {value: color for value, (_, color) in enumerate(entries) if color is not None}
    if VOID_COLOR not in colors.values():
        colors[VOID] = VOID_COLOR
    return [name for name, _ in entries], colors


def _subfolder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if is_folder(root / name)), None)


FORMAT = Format(
    name="voc",
    layouts=(
        "JPEGImages + SegmentationClass (+ SegmentationObject), lists in "
        "ImageSets/Segmentation/{split}.txt",
    ),
    find=find,
    read=read,
)
