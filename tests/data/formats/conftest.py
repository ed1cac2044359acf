"""The smallest data set of every format: what each reader must find and read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mask2former.data.formats import coco_instance
from mask2former.data.formats.format import Reading
from mask2former.data.shards.index import Kind
from mask2former.data.shards.pack import pack
from mask2former.data.shards.plan import make_plan
from mask2former.masks.id_maps import ids_to_rgb
from mask2former.masks.rle import encode_mask

SIZE = (6, 8)
SQUARE = [1, 1, 5, 1, 5, 4, 1, 4]
CATEGORIES = [{"id": 3, "name": "cat", "isthing": 1}]
IMAGE = {"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}
MAPILLARY_KEY = "__CRyFzoDOXn6unQ6a3DnQ"


def save(path: Path, content: int | np.ndarray | str | dict | list) -> None:
    """A PNG of one value, or of these; or a text; or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, int):
        content = np.full(SIZE, content, np.uint8)
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def save_image(path: Path) -> None:
    save(path, np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8))


def square() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[1:4, 1:5] = 1
    return mask


def cityscapes(folder: Path) -> None:
    save_image(folder / "leftImg8bit/train/bonn/bonn_000000_000019_leftImg8bit.png")
    ids = (7 + square().astype(np.uint16) * (26_000 - 7)).astype(np.uint16)
    save(folder / "gtFine/train/bonn/bonn_000000_000019_gtFine_instanceIds.png", ids)


def mapillary(folder: Path, version: str) -> None:
    save_image(folder / "training" / "images" / f"{MAPILLARY_KEY}.png")
    save(folder / "training" / version / "labels" / f"{MAPILLARY_KEY}.png", square())


def ade20k_full(folder: Path) -> None:
    save_image(folder / "images_detectron2/training/a.png")
    save(folder / "annotations_detectron2/training/a.tif", square().astype(np.uint16))


def ade20k(folder: Path) -> None:
    save_image(folder / "images/training/ADE_train_00000001.png")
    save(folder / "annotations/training/ADE_train_00000001.png", 1 + square())


def youtube_vis(folder: Path) -> None:
    save_image(folder / "train/JPEGImages/v/a.png")
    rle = encode_mask(square().astype(bool))
    track = {"id": 1, "video_id": 1, "category_id": 3, "iscrowd": 0}
    mask = {**rle, "counts": rle["counts"].decode()}
    video = {"id": 1, "file_names": ["v/a.png"], "height": SIZE[0], "width": SIZE[1], "length": 1}
    content = {"videos": [video], "annotations": [{**track, "segmentations": [mask]}]}
    save(folder / "train.json", content | {"categories": CATEGORIES})


def coco_panoptic(folder: Path) -> None:
    save_image(folder / "train/a.png")
    save(folder / "annotations/panoptic_train/a.png", ids_to_rgb(square().astype(np.int32)))
    segments = [{"id": 1, "category_id": 3}]
    annotation = {"image_id": 7, "file_name": "a.png", "segments_info": segments}
    content = {"images": [IMAGE], "annotations": [annotation], "categories": CATEGORIES}
    save(folder / "annotations/panoptic_train.json", content)


def coco_stuff(folder: Path) -> None:
    save_image(folder / "train2017/000000000042.png")
    save(folder / "stuffthingmaps/train2017/000000000042.png", square())


def coco(folder: Path) -> None:
    save_image(folder / "train/a.png")
    entry = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [SQUARE], "area": 12}
    content = {"images": [IMAGE], "annotations": [entry], "categories": CATEGORIES}
    save(folder / "annotations/instances_train.json", content)


def voc(folder: Path) -> None:
    save_image(folder / "JPEGImages/a.png")
    save(folder / "SegmentationClass/a.png", square())
    save(folder / "SegmentationObject/a.png", square())


def davis(folder: Path) -> None:
    save_image(folder / "JPEGImages/480p/bear/00000.png")
    save(folder / "Annotations/480p/bear/00000.png", square())


def yolo(folder: Path) -> None:
    save_image(folder / "images/train/a.png")
    save(folder / "labels/train/a.txt", "0 0.1 0.1 0.6 0.1 0.6 0.6")
    save(folder / "data.yaml", yaml.safe_dump({"train": "images/train", "names": ["cat"]}))


def labelme(folder: Path) -> None:
    save_image(folder / "a.png")
    shapes = [
        {"label": label, "points": points, "shape_type": "rectangle"}
        for label, points in (("cat", [[1, 1], [5, 4]]), ("__ignore__", [[6, 0], [8, 6]]))
    ]
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    save(folder / "a.json", {"imagePath": "a.png", "shapes": shapes, **size})


def instance_png(folder: Path) -> None:
    save_image(folder / "PNGImages/a.png")
    save(folder / "PedMasks/a_mask.png", square())


def png_masks(folder: Path) -> None:
    save_image(folder / "images/a.png")
    save(folder / "masks/a.png", square())


def huggingface(folder: Path) -> None:
    save_image(folder / "train/a.png")
    save(folder / "train/a_label.png", square())
    save(folder / "train/metadata.jsonl", {"file_name": "a.png", "label_file_name": "a_label.png"})


def shards(folder: Path, kind: Kind) -> None:
    loose = folder.parent / "loose"
    coco(loose)
    found = coco_instance.find(loose)
    assert found is not None
    datasets = {"train": coco_instance.read(loose, "train", found, Reading())}
    pack(datasets, make_plan(datasets, kind, num_shards=1), folder)


TINY: dict[str, Callable[[Path], None]] = {
    "webdataset": lambda folder: shards(folder, "webdataset"),
    "tfrecord": lambda folder: shards(folder, "tfrecord"),
    "huggingface": huggingface,
    "cityscapes": cityscapes,
    "mapillary-v1.2": lambda folder: mapillary(folder, "v1.2"),
    "mapillary-v2.0": lambda folder: mapillary(folder, "v2.0"),
    "ade20k-full": ade20k_full,
    "ade20k": ade20k,
    "youtube-vis": youtube_vis,
    "coco-panoptic": coco_panoptic,
    "coco-stuff": coco_stuff,
    "coco-instance": coco,
    "voc": voc,
    "davis": davis,
    "yolo": yolo,
    "labelme": labelme,
    "instance-png": instance_png,
    "png-masks": png_masks,
}


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the smallest data set of a format, given its name, and tells where."""

    def write(name: str) -> Path:
        TINY[name](tmp_path / "data")
        return tmp_path / "data"

    return write
