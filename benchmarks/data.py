"""How fast training samples are read, against the detectron2 way of doing it.

Question: 640x480 JPEGs with 10 polygons each, large-scale jitter to 1024x1024: are we at least 2.5
times as fast on one core as a plain transcription of detectron2's mapper, with the same masks?

    python benchmarks/data.py [--images 48] [--repeats 5]

The transcription follows the authors' `coco_instance_lsj` mapper (specification 4.4): decode, flip
all pixels, resize all of them with Pillow, crop or pad, move the polygons, fill each with
pycocotools, and hand over float32 images and one boolean per pixel and object. Two things are left
out in its favour: the polygons are not intersected with the crop, and nothing is logged or copied
between the steps. Both draw the same geometry, so that their masks can be compared bit by bit and
their images within two grey levels. Candidates alternate, one image each; one thread. Prints a
line a candidate and, last, JSON; writes it to benchmarks/results/data.json.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import pycocotools
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from torch import Tensor

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.geometry import Geometry, large_scale_jitter
from mask2former.data.open import open_dataset
from mask2former.data.synthetic import draw_picture
from mask2former.data.training_data import TrainingData
from mask2former.masks.packed import unpack_masks

RESULT = Path(__file__).parent / "results/data.json"
SIZE = (480, 640)
OBJECTS = 10
CROP = (1024, 1024)
JITTER = partial(large_scale_jitter, crop=CROP, min_scale=0.1, max_scale=2.0, flip_probability=0.5)


class PlainSample(NamedTuple):
    """What the plain mapper hands over."""

    image: Tensor
    """(3, 1024, 1024), float32 in 0..255"""
    labels: Tensor
    masks: Tensor
    """(m, 1024, 1024), bool"""


def plain_mapper(dataset: Dataset, index: int, geometry: Geometry) -> PlainSample:
    """One sample the detectron2 way, step by step over all pixels."""
    record = dataset.records[index]
    assert isinstance(record.image, Path)
    with Image.open(record.image) as file:
        image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    objects = dataset.annotations(index)
    assert isinstance(objects, Instances)
    polygons = [item.mask for item in objects.items]
    if geometry.mirrored:
        image = np.flip(image, axis=1).copy()
        polygons = [[_mirror(part, objects.width) for part in parts] for parts in polygons]
    height, width = geometry.resized
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    image = np.asarray(resized)
    scale = np.array([width / objects.width, height / objects.height])
    top, left = geometry.offset
    image = image[top : top + geometry.crop[0], left : left + geometry.crop[1]]
    below, right = CROP[0] - image.shape[0], CROP[1] - image.shape[1]
    image = np.pad(image, ((0, below), (0, right), (0, 0)), constant_values=128)
    moved = [[part * scale - (left, top) for part in parts] for parts in polygons]
    masks = np.stack([_fill(parts) for parts in moved])
    is_present = masks.any(axis=(1, 2))
    labels = np.array([item.class_id for item in objects.items])
    return PlainSample(
        torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)),
        torch.as_tensor(labels[is_present]),
        torch.as_tensor(masks[is_present]),
    )


def _mirror(points: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return np.stack([width - points[:, 0], points[:, 1]], axis=1)


def _fill(parts: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """One object on the whole crop."""
    rles = coco_mask.frPyObjects([part.ravel().tolist() for part in parts], *CROP)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


def write_data(folder: Path, num_images: int) -> None:
    """Drawn pictures as JPEGs, and stars of 24 points as polygons."""
    generator = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "train").mkdir()
    for i in range(num_images):
        picture = draw_picture(generator, SIZE)
        Image.fromarray(picture.image).save(folder / "train" / f"{i}.jpg", quality=92)
        images.append({"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]})
        for _ in range(OBJECTS):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": int(generator.integers(1, 4)),
                    "segmentation": [_star(generator)],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": f"kind {i}"} for i in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(content))


def _star(generator: np.random.Generator) -> list[float]:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = generator.uniform(20, 110) * generator.uniform(0.6, 1.0, 24)
    center = generator.uniform((0, 0), (SIZE[1], SIZE[0]))
    points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.clip(0, (SIZE[1], SIZE[0])).round(2).ravel().tolist()


def check_equal(data: TrainingData, seeds: list[int]) -> float:
    """Masks bit by bit; the largest difference of the images in grey levels.

    Pillow resamples a crop with the filter's phase of the whole image up to rounding.
    """
    worst = 0.0
    for index, seed in enumerate(seeds):
        ours = data[index, seed]
        plain = plain_mapper(data.dataset, index, JITTER(SIZE, np.random.default_rng(seed)))
        assert torch.equal(ours.target.labels, plain.labels)
        masks = unpack_masks(ours.target.masks, len(plain.labels))
        assert torch.equal(masks, plain.masks)
        worst = max(worst, (ours.image.float() - plain.image).abs().max().item())
    assert worst <= 2, worst
    return worst


def measure(candidates: dict[str, Callable[[int, int], Any]], repeats: int, num_images: int):
    """Seconds an image of each candidate, one value a pass over all images."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):  # the first one warms up
        totals = dict.fromkeys(candidates, 0.0)
        for index in range(num_images):
            for name, read in candidates.items():
                start = time.process_time()
                read(index, repeat * num_images + index)
                totals[name] += time.process_time() - start
        if repeat:
            for name, total in totals.items():
                seconds[name].append(total / num_images)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        write_data(Path(name), options.images)
        dataset = open_dataset(Path(name), "train")
        data = TrainingData(
            dataset, "instance", draw_geometry=JITTER, color_jitter=False, keep_emptied=False
        )
        worst = check_equal(data, list(range(options.images)))
        print(f"masks identical, images within {worst:.0f} grey levels")
        candidates = {
            "mask2former": lambda index, seed: data[index, seed],
            "plain mapper": lambda index, seed: plain_mapper(
                data.dataset, index, JITTER(SIZE, np.random.default_rng(seed))
            ),
        }
        seconds = measure(candidates, options.repeats, options.images)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(
            f"{name:14} {1 / medians[name]:6.1f} images/s and core "
            f"({1000 * min(values):.1f} to {1000 * max(values):.1f} ms, {len(values)} passes)"
        )
    result = {
        "ratio": medians["plain mapper"] / medians["mask2former"],
        "images_per_second_and_core": {name: 1 / s for name, s in medians.items()},
        "milliseconds": {n: [round(1000 * s, 3) for s in v] for n, v in seconds.items()},
        "images": options.images,
        "image_size": SIZE,
        "objects": OBJECTS,
        "crop": CROP,
        "device": f"{platform.machine()}, one core",
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "pycocotools": getattr(pycocotools, "__version__", "unknown"),
        "commit": _commit(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=RESULT.parent, capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    main()
