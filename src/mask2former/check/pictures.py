"""Pictures for the report: samples, what a problem looks like, what training sees."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mask2former.check.findings import Box, Finding, Place
from mask2former.check.survey import Split
from mask2former.config import Data
from mask2former.data.annotations import annotation_size
from mask2former.data.augmentation import geometry_drawer
from mask2former.data.geometry import Geometry, Size
from mask2former.data.images import read_image
from mask2former.data.training_data import TrainingData, without_empty_images
from mask2former.data.transforms import augment_image, keeps_emptied, make_target
from mask2former.inference.draw import draw_target
from mask2former.tasks import Task
from mask2former.types import Classes, Target

LONG_SIDE = 512
"""Pixels of a picture's longer side."""
QUALITY = 80
"""Of JPEG."""
SAMPLES_A_SPLIT = 6
AUGMENTED_SAMPLES = 8
OFFENDERS = 4
"""Pictures a kind of problem."""
ATTEMPTS = 4
"""Times as many images are tried as pictures are wanted, since some cannot be drawn."""
MOST_DRAWN = 200
"""Masks on a picture, a multiple of 8; the others would take memory and hide the picture."""
MOST_NAMED = 40
"""Masks up to which all of them are named; names of more hide one another."""
MARK = (255, 40, 40)
MARK_MARGIN = 4
"""Pixels between what is marked and the frame around it."""


@dataclass(frozen=True)
class Picture:
    """A drawn image, compressed."""

    caption: str
    jpeg: bytes
    width: int
    height: int
    """In pixels."""


def random_samples(split: Split, task: Task, seed: int) -> list[Picture]:
    """Some images of a split with their masks; the same seed shows the same ones."""
    readable = [i.index for i in split.images if i.size is not None and i.is_annotated]
    order = np.random.default_rng(seed).permutation(len(readable))[:SAMPLES_A_SPLIT]
    indices = [readable[i] for i in sorted(order.tolist())]
    drawn = (draw_record(split, index, task) for index in indices)
    return [picture for picture in drawn if picture is not None]


def offenders(
    findings: Sequence[Finding], splits: Mapping[str, Split], task: Task
) -> list[Picture]:
    """The images of the worst findings, with a frame around what is wrong."""
    boxes: dict[Place, Box | None] = {}
    for found in findings[: OFFENDERS * ATTEMPTS]:
        for place in found.places:
            boxes.setdefault(place, found.box if place == found.places[-1] else None)
    drawn = (draw_record(splits[p.split], p.index, task, box) for p, box in boxes.items())
    return list(islice((picture for picture in drawn if picture is not None), OFFENDERS))


def augmented_samples(split: Split, task: Task, data: Data, seed: int) -> list[Picture]:
    """Images after augmentation, with their targets, before `data.copy_paste` adds to them."""
    augmentation = data.augmentation
    try:
        samples = TrainingData(
            without_empty_images(split.dataset),
            task,
            draw_geometry=geometry_drawer(data.augmentation),
            color_jitter=augmentation.color_jitter,
            keep_emptied=keeps_emptied(task, augmentation.kind),
        )
    except ValueError:
        return []  # nothing to train on, which the findings say
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(samples))[: AUGMENTED_SAMPLES * ATTEMPTS].tolist()
    drawn = (_draw_augmented(samples, index, seed) for index in order)
    return list(islice((picture for picture in drawn if picture is not None), AUGMENTED_SAMPLES))


def draw_record(split: Split, index: int, task: Task, box: Box | None = None) -> Picture | None:
    """One image with its masks, and a frame around a box in pixels of the image.

    Returns:
        None when the image or its annotations cannot be read.
    """
    record = split.dataset.records[index]
    try:
        annotations = split.dataset.decode(record)
        size = annotation_size(annotations)
        pixels = read_image(record.image, size)
    except (ValueError, OSError):
        return None
    geometry = shrinking(size, LONG_SIDE)
    image = augment_image(pixels, geometry).permute(1, 2, 0).contiguous().numpy()
    target = make_target(annotations, geometry, task, keep_emptied=False)
    picture = _draw(image, target, split.dataset.classes)
    if box is not None:
        _mark(picture, box, picture.width / size[1])
    caption = f"{split.name}: {record.image.name}, {size[1]} x {size[0]}"
    return _compress(picture, caption)


def shrinking(size: Size, long_side: int) -> Geometry:
    """Scales a large image down to a long side, and leaves others as they are."""
    factor = min(1.0, long_side / max(size))
    small = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    return Geometry(source=size, resized=small, offset=(0, 0), crop=small, padded=small)


def _draw_augmented(samples: TrainingData, index: int, seed: int) -> Picture | None:
    record = samples.dataset.records[index]
    try:
        sample = samples[index, seed + index]
    except (ValueError, OSError):
        return None
    pixels = sample.image.permute(1, 2, 0).contiguous().numpy()
    picture = _draw(pixels, sample.target, samples.dataset.classes)
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    return _compress(picture, f"{record.image.name}, {len(sample.target.labels)} masks")


def _draw(image: NDArray[np.uint8], target: Target, classes: Classes) -> Image.Image:
    """The target over the image, without names where they would be too many."""
    shown = Target(target.labels[:MOST_DRAWN], target.masks[..., : MOST_DRAWN // 8])
    if len(shown.labels) > MOST_NAMED:
        classes = replace(classes, names=("",) * len(classes))
    return draw_target(image, shown, classes)


def _mark(picture: Image.Image, box: Box, scale: float) -> None:
    x, y, width, height = (side * scale for side in box)
    left, top = max(0.0, x - MARK_MARGIN), max(0.0, y - MARK_MARGIN)
    right = min(picture.width - 1.0, x + width + MARK_MARGIN)
    bottom = min(picture.height - 1.0, y + height + MARK_MARGIN)
    if left <= right and top <= bottom:  # else it lies outside altogether
        ImageDraw.Draw(picture).rectangle((left, top, right, bottom), outline=MARK, width=2)


def _compress(picture: Image.Image, caption: str) -> Picture:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return Picture(caption, file.getvalue(), picture.width, picture.height)
