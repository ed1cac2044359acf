import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.dataset import Dataset
from mask2former.data.formats import (
    coco_instance,
    coco_panoptic,
    labelme,
    png_masks,
    voc,
    yolo,
    youtube_vis,
)
from mask2former.data.formats.format import Reading
from mask2former.masks.rle import encode_mask

READERS = {
    module.FORMAT.name: module.FORMAT
    for module in (coco_instance, coco_panoptic, labelme, png_masks, voc, yolo, youtube_vis)
}


def open_all(folder: Path, name: str) -> dict[str, Dataset]:
    """Every split of a folder, by the reader of that name."""
    found = READERS[name].find(folder)
    assert found is not None, f"{folder} is not of the format {name}"
    return {s: READERS[name].read(folder, s, found, Reading()) for s in found.splits}


@pytest.fixture
def opened() -> Callable[[Path, str], dict[str, Dataset]]:
    return open_all


def text_rle(mask: np.ndarray) -> dict:
    rle = encode_mask(mask)
    return {**rle, "counts": rle["counts"].decode()}


def objects_of_every_kind(size: tuple[int, int]) -> list[dict]:
    """Polygons, in parts, overlapping, nested and out of the image; a holed mask; a crowd."""
    width = size[1]
    holed = np.zeros(size, bool)
    holed[3:12, 4:15] = True
    holed[5:9, 6:11] = False
    holed[7, 8] = True
    crowd = np.zeros(size, bool)
    crowd[-4:, ::2] = True
    plain = [2.1, 3.3, 11.3, 2.9, 9.7, 10.1]
    parts = [[15.5, 2.25, 20.1, 2.0, 18.3, 9.1], [22.0, 3.0, 27.4, 3.0, 25.0, 8.5]]
    overlapping = [
        [10.0, 10.0, 18.0, 10.0, 18.0, 16.0, 10.0, 16.0],
        [14.0, 8.0, 20.0, 13.0, 14.0, 18.0],
    ]
    nested = [
        [12.0, 1.0, 22.0, 1.0, 22.0, 9.0, 12.0, 9.0],
        [14.0, 3.0, 19.0, 3.0, 19.0, 7.0, 14.0, 7.0],
    ]
    outside = [width - 6.0, 4.0, width + 3.0, 4.0, width + 3.0, 12.0, width - 6.0, 12.0]
    return [
        {"category_id": 7, "segmentation": [plain], "area": 33.5},
        {"category_id": 3, "segmentation": parts, "area": 30},
        {"category_id": 3, "segmentation": overlapping, "area": 60},
        {"category_id": 3, "segmentation": nested, "area": 80},
        {"category_id": 7, "segmentation": [outside], "area": 48.25},
        {"category_id": 90, "segmentation": text_rle(holed), "area": int(holed.sum())},
        {
            "category_id": 90,
            "segmentation": text_rle(crowd),
            "area": int(crowd.sum()),
            "iscrowd": 1,
        },
    ]


def write_coco(folder: Path, splits: dict[str, list[str]], size: tuple[int, int]) -> None:
    """A data set in which every image has every kind of object."""
    (folder / "annotations").mkdir(parents=True)
    first_id = 10
    for split, names in splits.items():
        images, annotations = [], []
        for position, name in enumerate(names):
            image_id = first_id + 5 * position
            path = folder / "images" / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(image_id).integers(0, 255, (*size, 3), np.uint8)
            Image.fromarray(noise).save(path)
            images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
            annotations += [
                {"id": len(annotations) + i, "image_id": image_id, "iscrowd": 0, **entry}
                for i, entry in enumerate(objects_of_every_kind(size), start=1)
            ]
        first_id += 1000
        categories = [{"id": i, "name": name} for i, name in ((3, "a"), (7, "b c"), (90, "d/é"))]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path: Path) -> dict[str, Dataset]:
    write_coco(tmp_path / "coco", {"train": ["1.png", "2.png"], "val": ["3.png"]}, (24, 31))
    return open_all(tmp_path / "coco", "coco-instance")
