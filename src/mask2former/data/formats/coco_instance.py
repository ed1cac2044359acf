"""COCO instance segmentation: one JSON file a split, objects as polygons or run lengths.

Two layouts: `{split}/_annotations.coco.json` beside its images (Roboflow), or
`annotations/instances_{split}*.json` with the images in `{split}*/`, `images/{split}*/` or
`images/`.
"""

import logging
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mask2former.data.annotations import Instance, Instances
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.coco_json import (
    agreed_categories,
    find_image_folder,
    images_by_id,
    read_coco_json,
)
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.records import PackedRecords
from mask2former.masks.polygons import polygons_to_rle
from mask2former.masks.rle import canonical_rle, rle_area
from mask2former.tasks import Task
from mask2former.types import Classes

logger = logging.getLogger(__name__)

TASKS: tuple[Task, ...] = ("instance",)
ROBOFLOW_FILE = "_annotations.coco.json"
FARTHEST_POINT = 1e6
"""Pixels; a coordinate beyond is damage, and would overflow pycocotools' integers."""


def find(folder: Path) -> Found | None:
    """The annotation file of each split in a folder."""
    files = {path.parent.name: path for path in sorted(folder.glob(f"*/{ROBOFLOW_FILE}"))}
    for path in sorted(folder.glob("annotations/instances_*.json")):
        files.setdefault(split_of(path, "instances_"), path)
    return Found(TASKS, files) if files else None


def split_of(path: Path, prefix: str) -> str:
    """`annotations/instances_train2017.json` is the split train."""
    return re.sub(r"_?\d{4}$", "", path.stem.removeprefix(prefix))


def image_folders(folder: Path, split: str, name: str) -> list[Path]:
    """Where images of a split may lie; `name` is the split with its year."""
    below = [folder / name, folder / "images" / name, folder / split, folder / "images" / split]
    return [*below, folder / split / "images", folder / "images", folder]


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:  # noqa: ARG001 one signature for all formats
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
    path = found.splits[split]
    categories = agreed_categories(found.splits)
    content = read_coco_json(path)
    classes = Classes(
        names=tuple(str(category["name"]) for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        is_thing=(True,) * len(categories),
    )
    images = images_by_id(content, path)
    if path.name == ROBOFLOW_FILE:
        candidates = [path.parent]
    else:
        candidates = image_folders(folder, split, path.stem.removeprefix("instances_"))
    root = find_image_folder([i["file_name"] for i in images.values()], candidates, path)
    objects = _group_objects(content["annotations"], images, classes, path)
    records = PackedRecords(
        Record(
            image_id=image_id,
            image=root / image["file_name"],
            annotation=tuple(objects[image_id]),
            height=int(image["height"]),
            width=int(image["width"]),
            num_objects=sum(not is_crowd for _, _, is_crowd, _ in objects[image_id]),
        )
        for image_id, image in images.items()
    )
    return Dataset(FORMAT.name, folder, split, classes, TASKS, records, decode)


def decode(record: Record) -> Instances:
    """The objects of one image.

    Raises:
        ValueError: A coordinate is no number or far outside the image.
    """
    height, width = record.height, record.width
    assert height is not None, "images_by_id checks that every image has a size"
    assert width is not None
    items = []
    for class_id, mask, is_crowd, area in record.annotation:
        if not isinstance(mask, dict):
            mask = tuple(_points(part, record) for part in mask)
        if area is None:
            rle = mask if isinstance(mask, dict) else polygons_to_rle(mask, height, width)
            area = rle_area(rle)
        items.append(Instance(class_id, mask, is_crowd, float(area)))
    return Instances(height, width, tuple(items))


def _group_objects(
    annotations: list[dict], images: dict, classes: Classes, path: Path
) -> dict[int | str, list[tuple]]:
    """(class id, polygons or RLE, is crowd, area) of each object, by image."""
    class_ids: dict[Any, int] = {**classes.class_id_by_category()}
    objects: dict[int | str, list[tuple]] = defaultdict(list)
    num_degenerate = 0
    for annotation in annotations:
        where = f"{path}: annotation {annotation.get('id')}"
        image = images.get(annotation.get("image_id"))
        if image is None:
            raise ValueError(
                f"{where} is for image id {annotation.get('image_id')}, which 'images' does not "
                f"list; add the image or take the annotation out"
            )
        class_id = class_ids.get(annotation.get("category_id"))
        if class_id is None:
            raise ValueError(
                f"{where} has category id {annotation.get('category_id')}, but the categories "
                f"are {_shorten(classes.category_ids)}; correct it or add the category"
            )
        mask, num_dropped = _read_mask(annotation.get("segmentation"), image, where)
        num_degenerate += num_dropped
        if mask:
            crowd = bool(annotation.get("iscrowd", 0))
            objects[image["id"]].append((class_id, mask, crowd, annotation.get("area")))
    if num_degenerate:
        logger.warning("%s: dropped %d polygons with fewer than 3 points", path, num_degenerate)
    return objects


def _read_mask(segmentation: object, image: dict, where: str) -> tuple[list | dict, int]:
    """Polygons or an RLE, and how many polygons of fewer than 3 points were dropped."""
    if isinstance(segmentation, dict):
        try:
            return canonical_rle(segmentation, int(image["height"]), int(image["width"])), 0
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if not segmentation:
        raise ValueError(
            f"{where} has no mask, only a box; give it a 'segmentation' (polygons or run "
            f"lengths), since masks cannot be learnt from boxes"
        )
    if not isinstance(segmentation, list) or not all(isinstance(p, list) for p in segmentation):
        raise ValueError(
            f"{where} has a segmentation that is neither a list of polygons "
            f"[[x1, y1, x2, y2, ...], ...] nor a run-length encoding; write it as one of these"
        )
    for part in segmentation:
        if len(part) % 2:
            raise ValueError(f"{where} has a polygon of {len(part)} numbers; x and y come in pairs")
    parts = [part for part in segmentation if len(part) >= 6]
    return parts, len(segmentation) - len(parts)


def _points(part: list, record: Record) -> NDArray[np.float64]:
    try:
        points = np.asarray(part, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        points = np.array([[np.nan, np.nan]])
    if not (np.abs(points) < FARTHEST_POINT).all():  # also true of NaN
        raise ValueError(
            f"a polygon of image {record.image_id} ({record.image}) has a coordinate that is "
            f"no number or beyond {FARTHEST_POINT:.0f} pixels; correct the annotation"
        )
    return points


def _shorten(ids: tuple[int, ...]) -> str:
    return (
        ", ".join(map(str, ids))
        if len(ids) <= 20
        else f"{len(ids)} ids from {min(ids)} to {max(ids)}"
    )


FORMAT = Format(
    name="coco-instance",
    layouts=("{split}/_annotations.coco.json", "annotations/instances_{split}*.json"),
    find=find,
    read=read,
)
