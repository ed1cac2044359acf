"""YOLO segmentation: `data.yaml` and, for every image, a text file of polygons.

A line is a class and the corners `x y x y ...` in shares of the image's width and height. The
labels of `images/train/a.jpg` are in `labels/train/a.txt`: the last folder called images becomes
labels. An object in two parts is one polygon with a bridge of no width between them, as
Ultralytics writes it; pixels under the bridge are not covered.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mask2former.data.annotations import Instance, Instances
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.formats.listing import files_below, files_in, is_file, is_folder
from mask2former.data.formats.text_files import read_lines, read_yaml
from mask2former.data.formats.yolo_labels import Line, check_labels, parse_line
from mask2former.data.images import IMAGE_SUFFIXES, read_image_size
from mask2former.data.problems import Problems
from mask2former.data.records import PackedRecords
from mask2former.masks.polygons import polygons_to_rle
from mask2former.masks.rle import rle_area
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("instance", "panoptic", "semantic")
USUAL_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
"""These are taken at their word even if the images are missing; others only if they are there."""
SPLITS = ("train", "val", "valid", "test")
YAML = frozenset({".yaml", ".yml"})
LARGEST_YAML = 1_000_000
"""Bytes; longer files are not class lists."""


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    yaml_path: Path
    sources: tuple[str, ...]
    """Folders of images or lists of them, as the YAML file names them."""


def find(folder: Path) -> Found | None:
    """The sources of images of each split, by the YAML file."""
    paths = files_in(folder, YAML)
    usual = [folder / name for name in USUAL_NAMES if folder / name in paths]
    for path in dict.fromkeys([*usual, *paths]):
        content = _try_yaml(path)
        if "names" not in content or "masks_dir" in content:
            continue  # with "masks_dir" the labels are PNGs
        splits = {name: Place(path, _listed(content[name])) for name in SPLITS if content.get(name)}
        there = (_locate(s, path, content) is not None for p in splits.values() for s in p.sources)
        if splits and (path in usual or any(there)):
            return Found(TASKS, splits)
    return None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: What becomes of faults.

    Raises:
        FileNotFoundError: The images are missing.
        ValueError: The YAML file or a label file is wrong.
    """
    place: Place = found.splits[split]
    content = _try_yaml(place.yaml_path)
    names = _read_names(content, place.yaml_path)
    class_ids = {value: i for i, value in enumerate(names)}
    sources = (_images(source, place, content) for source in place.sources)
    images = list(dict.fromkeys(path for source in sources for path in source))
    if not images:
        reading.problems.error(
            "missing image",
            f"{place.yaml_path} gives {', '.join(place.sources)} as split {split!r}, but no image "
            f"is there; correct the path (it is relative to 'path', then to the file's folder)",
            file=place.yaml_path,
        )
    records = _read_records(images, _image_ids(images, folder), class_ids, reading.problems)
    bare = sum(not Path(record.annotation[0]).is_file() for record in records)
    notes = [f"Classes are by {place.yaml_path}."]
    if bare:
        notes.append(f"{bare} of {len(records)} images have no label file: they show no object.")
    classes = Classes(tuple(names.values()), tuple(names), is_thing=(True,) * len(names))
    return Dataset(
        FORMAT.name,
        folder,
        split,
        classes,
        TASKS,
        PackedRecords(records),
        partial(decode, class_ids=class_ids),
        tuple(notes),
    )


def decode(record: Record, *, class_ids: dict[int, int]) -> Instances:
    """The objects of one image.

    Raises:
        FileNotFoundError: The image is missing: coordinates are in shares of its size.
        ValueError: The image is damaged, or the label file was changed after the data set was
            opened.
    """
    path, good = record.annotation
    height, width = read_image_size(record.image)
    lines = Path(path).read_text(encoding="utf-8").splitlines() if good else []
    items = []
    for number in good:
        line = parse_line(lines[number], class_ids) if number < len(lines) else None
        if not isinstance(line, Line):
            raise ValueError(f"{path} was changed while it was in use; open the data set again")
        polygon = (line.points.clip(0, 1) * (width, height),)
        area = float(rle_area(polygons_to_rle(polygon, height, width)))
        items.append(Instance(line.class_id, polygon, is_crowd=False, area=area))
    return Instances(height, width, tuple(items))


def label_path(image: Path) -> Path:
    """Where the labels of an image are looked for.

    Source:
        Ultralytics: the last folder called images becomes labels; without one, the labels lie
        beside the image.
    """
    parts = list(image.parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _read_records(
    images: Sequence[Path], image_ids: Sequence[str], class_ids: dict[int, int], problems: Problems
) -> list[Record]:
    records = []
    for image, image_id in zip(images, image_ids, strict=True):
        if not image.is_file():
            message = f"no image {image}, which the list of the split names; add it or take it out"
            problems.error("missing image", message, file=image, image_id=image_id)
            continue
        label = label_path(image)
        good = check_labels(label, class_ids, image_id, problems)
        records.append(Record(image_id, image, (str(label), good), num_objects=len(good)))
    return records


def _read_names(content: dict[str, Any], path: Path) -> dict[int, str]:
    names = content.get("names")
    try:
        entries = dict(enumerate(names)) if isinstance(names, list) else dict(names or ())
        named = {int(value): str(name) for value, name in sorted(entries.items())}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: 'names' is no list of names and no {{class: name}}; write one of these"
        ) from error
    count = content.get("nc", len(named))
    if not named or count != len(named):
        raise ValueError(
            f"{path}: nc is {count}, but 'names' lists {len(named)} classes; make the two agree"
        )
    return named


def _images(source: str, place: Place, content: dict[str, Any]) -> Iterator[Path]:
    path = _locate(source, place.yaml_path, content)
    if path is None:
        return
    if path.is_dir():
        yield from files_below(path, IMAGE_SUFFIXES)
        return
    for line in read_lines(path):
        beside = path.parent / line
        yield beside if beside.is_file() else _base(place.yaml_path, content) / line


def _locate(source: str, yaml_path: Path, content: dict[str, Any]) -> Path | None:
    """The folder or list that the YAML file means, even after the data set was moved.

    Paths of another machine are tried without their first folder, without their first two, ...

    Source:
        Roboflow writes `../train/images` for a folder beside the file.
    """
    folder = yaml_path.parent
    parts = [part for part in source.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    inside = (folder.joinpath(*parts[i:]) for i in range(len(parts)))
    candidates = (_base(yaml_path, content) / source, folder / source, *inside)
    return next((path for path in candidates if is_file(path) or is_folder(path)), None)


def _base(yaml_path: Path, content: dict[str, Any]) -> Path:
    return yaml_path.parent / str(content.get("path") or "")


def _listed(source: object) -> tuple[str, ...]:
    return tuple(map(str, source)) if isinstance(source, list) else (str(source),)


def _try_yaml(path: Path) -> dict[str, Any]:
    """Empty where the file is no list of classes; `_read_names` tells that."""
    try:
        # parsing is slow, and YAML files are common
        is_long = path.stat().st_size > LARGEST_YAML
        content = None if is_long or b"names" not in path.read_bytes() else read_yaml(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _image_ids(images: Sequence[Path], folder: Path) -> list[str]:
    """Names without suffix; where some repeat, with their folders."""
    stems = [path.stem for path in images]
    if len(set(stems)) == len(stems):
        return stems
    return [Path(os.path.relpath(path, folder)).with_suffix("").as_posix() for path in images]


FORMAT = Format(
    name="yolo",
    layouts=("data.yaml with images/{split} + labels/{split}/*.txt",),
    find=find,
    read=read,
)
