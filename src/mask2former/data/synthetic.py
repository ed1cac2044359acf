"""An invented panoptic data set: textured shapes that hide one another, over three kinds of ground.

It is learnable in minutes by a tiny model, and not by colour: things take any colours and are told
apart by outline and pattern, stuff by texture and place as well.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from numpy.typing import NDArray
from PIL import Image

from mask2former.masks.id_maps import MAX_ID, ids_to_rgb

STUFF = ("sky", "grass", "water")
THINGS = ("disc", "rectangle", "triangle", "star")
NAMES = STUFF + THINGS
MIN_SIDE = 32
MIN_AREA = 24
"""Pixels; what is left of a segment below that is unlabelled."""
STUFF_COLORS = {"sky": (150, 190, 230), "grass": (95, 140, 65), "water": (70, 120, 160)}
NUM_THINGS = (2, 5)
RADII = (0.12, 0.3)
"""Of a shape, in shares of the shorter side."""
STAR_WAIST = 0.42


@dataclass(frozen=True)
class Picture:
    """One drawn image and what is visible on it."""

    image: UInt8[np.ndarray, "h w 3"]
    ids: Int32[np.ndarray, "h w"]
    """0 is unlabelled."""
    class_ids: dict[int, int]
    """Class of each id that occurs, as a position in `NAMES`."""


def write_synthetic(
    folder: Path, *, train_images: int, val_images: int, size: tuple[int, int], seed: int
) -> None:
    """Draw a data set in COCO's panoptic format, with the splits train and val.

    Args:
        folder: New or empty.
        train_images: Number of pictures in train.
        val_images: Number of pictures in val.
        size: (height, width) of every picture in pixels.
        seed: The same seed draws the same pictures.

    Raises:
        ValueError: The folder holds something, or a number is too small.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give a new folder")
    if min(size) < MIN_SIDE:
        raise ValueError(f"size (h, w) = {size} is too small to draw on; give {MIN_SIDE} or more")
    counts = {"train": train_images, "val": val_images}
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f"{count} images in {split}; give at least 1")
    for split_index, (split, count) in enumerate(counts.items()):
        _write_split(folder, split, [(seed, split_index, i) for i in range(count)], size)


def draw_picture(generator: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Draw stuff, then things from back to front; later things hide earlier ones.

    Args:
        generator: Decides everything.
        size: (height, width) in pixels.
    """
    canvas = np.empty((*size, 3), np.float32)
    layers = np.empty(size, np.int32)  # class of the topmost thing, by order of drawing
    class_ids = list(range(len(STUFF)))
    _draw_stuff(canvas, layers, generator)
    for _ in range(generator.integers(*NUM_THINGS, endpoint=True)):
        class_id = int(generator.integers(len(STUFF), len(NAMES)))
        place = _place(generator, size)
        inside = _draw_shape_mask(NAMES[class_id], place, generator, size)
        layers[inside] = len(class_ids)
        class_ids.append(class_id)
        canvas[inside] = _thing_texture(NAMES[class_id], place, generator, size)[inside]
    canvas += generator.normal(0, 4, canvas.shape)
    areas = np.bincount(layers.ravel(), minlength=len(class_ids))
    ids = generator.choice(MAX_ID, len(class_ids), replace=False, shuffle=False) + 1
    ids[areas < MIN_AREA] = 0
    return Picture(
        image=canvas.clip(0, 255).astype(np.uint8),
        ids=ids.astype(np.int32)[layers],
        class_ids={int(i): c for i, c in zip(ids, class_ids, strict=True) if i},
    )


def _write_split(
    folder: Path, split: str, seeds: Sequence[tuple[int, ...]], size: tuple[int, int]
) -> None:
    images = folder / "images" / split
    pngs = folder / "annotations" / f"panoptic_{split}"
    images.mkdir(parents=True)
    pngs.mkdir(parents=True)
    annotations = []
    for image_id, seed in enumerate(seeds):
        picture = draw_picture(np.random.default_rng(seed), size)
        Image.fromarray(picture.image).save(images / f"{image_id:06}.jpg", quality=92)
        Image.fromarray(ids_to_rgb(picture.ids)).save(pngs / f"{image_id:06}.png", compress_level=1)
        annotations.append(_describe(picture, image_id))
    content = {
        "info": {"description": "synthetic shapes"},
        "images": [
            {"id": i, "file_name": f"{i:06}.jpg", "height": size[0], "width": size[1]}
            for i in range(len(seeds))
        ],
        "annotations": annotations,
        "categories": [
            {"id": i + 1, "name": name, "supercategory": "", "isthing": int(name in THINGS)}
            for i, name in enumerate(NAMES)
        ],
    }
    (folder / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))


def _describe(picture: Picture, image_id: int) -> dict:
    segments = []
    for segment_id, class_id in picture.class_ids.items():
        mask = picture.ids == segment_id
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y = int(columns[0]), int(rows[0])
        segments.append(
            {
                "id": segment_id,
                "category_id": class_id + 1,
                "iscrowd": 0,
                "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                "area": int(mask.sum()),
            }
        )
    return {"image_id": image_id, "file_name": f"{image_id:06}.png", "segments_info": segments}


def _draw_stuff(
    canvas: Float32[np.ndarray, "h w 3"],
    layers: Int32[np.ndarray, "h w"],
    generator: np.random.Generator,
) -> None:
    """Sky above a wavy horizon; grass and water below, side by side along a wavy bank."""
    height, width = layers.shape
    horizon = height * generator.uniform(0.25, 0.55) + _wave(generator, width, height * 0.06)
    bank = width * generator.uniform(0.2, 0.8) + _wave(generator, height, width * 0.12)
    is_sky = np.arange(height)[:, None] < horizon
    left, right = generator.permutation([1, 2])
    layers[:] = np.where(np.arange(width) < bank[:, None], left, right)
    layers[is_sky] = 0
    # sky is smooth, grass is grained upright, water lies in bands
    grains = {"sky": (4, 4, 14), "grass": (24, 64, 30), "water": (40, 5, 26)}
    for class_id, name in enumerate(STUFF):
        rows, columns, contrast = grains[name]
        color = np.array(STUFF_COLORS[name]) + generator.uniform(-35, 35, 3)
        texture = _noise(generator, layers.shape, (rows, columns)) * contrast
        inside = layers == class_id
        canvas[inside] = (color + texture[..., None])[inside]


@dataclass(frozen=True)
class Place:
    """Where a thing is."""

    center: NDArray[np.float64]
    """(x, y) in pixels."""
    radius: float
    """In pixels."""
    angle: float
    """In radians, clockwise."""


def _place(generator: np.random.Generator, size: tuple[int, int]) -> Place:
    height, width = size
    return Place(
        radius=generator.uniform(*RADII) * min(size),
        center=generator.uniform(0.05, 0.95, 2) * (width, height),
        angle=generator.uniform(0, 2 * math.pi),
    )


def _draw_shape_mask(
    name: str, place: Place, generator: np.random.Generator, size: tuple[int, int]
) -> NDArray[np.bool_]:
    import cv2

    cos, sin = math.cos(place.angle), math.sin(place.angle)
    outline = _outline(name, generator) * place.radius @ np.array([[cos, sin], [-sin, cos]])
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.round((outline + place.center) * 16).astype(np.int32)], 1, shift=4)
    return mask.view(np.bool_)


def _outline(name: str, generator: np.random.Generator) -> NDArray[np.float64]:
    """Corners (x, y) of a shape around the origin, in units of its radius."""
    if name == "rectangle":
        ratio = generator.uniform(0.35, math.pi / 4)  # half the angle between the diagonals
        corners = np.array([ratio, math.pi - ratio, math.pi + ratio, -ratio])
        return np.stack([np.cos(corners), np.sin(corners)], axis=1)
    num_corners, waist = {"disc": (40, 1.0), "triangle": (3, 1.0), "star": (10, STAR_WAIST)}[name]
    corners = np.arange(num_corners) * 2 * math.pi / num_corners
    radii = np.where(np.arange(num_corners) % 2, waist, 1.0)
    return np.stack([radii * np.cos(corners), radii * np.sin(corners)], axis=1)


def _thing_texture(
    name: str, place: Place, generator: np.random.Generator, size: tuple[int, int]
) -> Float32[np.ndarray, "h w 3"]:
    """Two colours, any two, mixed in the pattern of the class."""
    first = generator.uniform(20, 235, 3)
    second = np.where(first > 128, first - 100, first + 100) + generator.uniform(-20, 20, 3)
    y, x = np.ogrid[: size[0], : size[1]]
    cos, sin = math.cos(place.angle), math.sin(place.angle)
    along = (x - place.center[0]) * cos + (y - place.center[1]) * sin
    across = (y - place.center[1]) * cos - (x - place.center[0]) * sin
    wave_number = 2 * math.pi / generator.uniform(8, 12)
    if name == "disc":  # lit from one side, as a ball
        share = np.hypot(along - 0.4 * place.radius, across) / (1.4 * place.radius)
    elif name == "rectangle":  # striped
        share = 0.5 + 0.5 * np.sin(along * wave_number)
    elif name == "triangle":  # checked
        share = 0.5 + 0.5 * np.sign(np.sin(along * wave_number) * np.sin(across * wave_number))
    else:  # plain
        share = np.full(size, generator.uniform())
    share = share.clip(0, 1).astype(np.float32)[..., None]
    return first.astype(np.float32) + share * (second - first).astype(np.float32)


def _noise(
    generator: np.random.Generator, size: tuple[int, int], grid: tuple[int, int]
) -> Float32[np.ndarray, "h w"]:
    """Smooth random values around 0, about within -2..2, with `grid` grains down and across."""
    import cv2

    coarse = generator.normal(0, 1, grid).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


def _wave(generator: np.random.Generator, length: int, height: float) -> NDArray[np.float64]:
    """A sum of three sines along an axis, within about +-`height`."""
    t = np.linspace(0, 2 * math.pi, length)
    frequencies, phases = generator.uniform(0.5, 3, 3), generator.uniform(0, 2 * math.pi, 3)
    return height * np.sin(t[:, None] * frequencies + phases).mean(axis=1)
