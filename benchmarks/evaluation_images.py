"""Invented images of 640 x 480 and results for them, as `evaluation.py` scores them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from pycocotools import mask as coco_mask

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Dataset, Record
from mask2former.evaluation.truth import ScoredImages, Truth, scored_images
from mask2former.masks.rle import decode_rle, rle_area, rle_box
from mask2former.tasks import Task
from mask2former.types import InstanceResult, PanopticResult, Result, Segment, SemanticResult

HEIGHT, WIDTH = 480, 640
CLASSES = class_table("coco_panoptic")
THINGS = np.flatnonzero(CLASSES.is_thing)
STUFF = np.flatnonzero(~np.array(CLASSES.is_thing))
STUFF_SEGMENTS, OBJECTS, DETECTIONS = 8, 10, 100


class Case(NamedTuple):
    """One invented image."""

    truth: SegmentMap
    results: dict[Task, Result]


def draw_case(index: int) -> Case:
    """The same image for the same index."""
    generator = np.random.default_rng(index)
    heights = generator.normal(size=(STUFF_SEGMENTS, 4, 5))
    stuff = generator.choice(STUFF, STUFF_SEGMENTS, replace=False)
    things = generator.choice(THINGS, OBJECTS)
    outlines = [draw_outline(generator) for _ in range(OBJECTS)]
    ids = draw_stuff(generator, heights)
    for i, outline in enumerate(outlines, start=STUFF_SEGMENTS + 1):
        ids[decode_rle(fill(outline))] = i
    crowd = STUFF_SEGMENTS + 1 if index % 20 == 0 else None
    labels = tuple(
        SegmentLabel(i, int(class_id), i == crowd)
        for i, class_id in enumerate((*stuff, *things), start=1)
    )
    truth = SegmentMap(ids.astype(np.int32), labels)

    moved = heights + 0.25 * generator.normal(size=heights.shape)
    instances = draw_instances(generator, outlines, things)
    segment_map = draw_stuff(generator, moved)
    classes = list(stuff)
    for segment, rle in zip(instances.segments[:OBJECTS], instances.rles, strict=False):
        classes.append(segment.class_id)
        segment_map[decode_rle(rle)] = len(classes)
    areas = np.bincount(segment_map.ravel(), minlength=len(classes) + 1)
    segments = [
        Segment(i, int(class_id), 0.9, int(areas[i]), (0.0, 0.0, 0.0, 0.0))
        for i, class_id in enumerate(classes, start=1)
        if areas[i]
    ]
    label_map = np.array([0, *classes], np.int64)[segment_map]
    return Case(
        truth,
        {
            "panoptic": PanopticResult(torch.from_numpy(segment_map), segments),
            "instance": instances,
            "semantic": SemanticResult(torch.from_numpy(label_map)),
        },
    )


def draw_stuff(generator: np.random.Generator, heights: np.ndarray) -> Int64[np.ndarray, "h w"]:
    """The highest of several landscapes at each pixel, from 1, with ragged borders."""
    smooth = enlarge(heights.astype(np.float32), HEIGHT // 8, WIDTH // 8)
    ragged = 0.04 * generator.standard_normal(smooth.shape, np.float32)
    highest = enlarge(smooth + ragged, HEIGHT // 2, WIDTH // 2).argmax(axis=0) + 1
    return highest.repeat(2, axis=0).repeat(2, axis=1)


def enlarge(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    batch = torch.from_numpy(maps[None])
    return torch.nn.functional.interpolate(batch, (height, width), mode="bilinear")[0].numpy()


def draw_outline(generator: np.random.Generator) -> np.ndarray:
    """A star around some place, as (x, y)."""
    angles = np.sort(generator.uniform(0, 2 * np.pi, 24))
    radii = generator.uniform(8, 90) * generator.uniform(0.6, 1, 24)
    center = generator.uniform((0, 0), (WIDTH, HEIGHT))
    return center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def fill(outline: np.ndarray) -> dict:
    return coco_mask.frPyObjects([outline.ravel().tolist()], HEIGHT, WIDTH)[0]


def draw_instances(
    generator: np.random.Generator, outlines: list[np.ndarray], things: np.ndarray
) -> InstanceResult:
    """Each true object found well and, with lower scores, found badly; the rest is invented."""
    found = []
    for i in range(DETECTIONS):
        which = i % OBJECTS
        if i < 3 * OBJECTS:
            noise = generator.normal(size=(24, 2)) * (2 + 3 * (i // OBJECTS))
            outline, class_id = outlines[which] + noise, int(things[which])
            score = generator.beta(6, 1 + 2 * (i // OBJECTS))
        else:
            outline, class_id = draw_outline(generator), int(generator.choice(THINGS))
            score = generator.beta(1, 8)
        found.append((round(float(score), 3), class_id, fill(outline)))
    found.sort(key=lambda one: -one[0])
    segments = [
        Segment(i, class_id, score, rle_area(rle), rle_box(rle))
        for i, (score, class_id, rle) in enumerate(found)
    ]
    return InstanceResult(HEIGHT, WIDTH, [rle for *_, rle in found], segments)


class Invented:
    """The images as a data set; the results of the last one lie beside its truth."""

    def __init__(self, count: int) -> None:
        records = [Record(i, Path("invented"), None, HEIGHT, WIDTH) for i in range(count)]
        tasks: tuple[Task, ...] = ("panoptic", "semantic", "instance")
        folder = Path("invented")
        dataset = Dataset("invented", folder, "val", CLASSES, tasks, records, self.decode)
        self.last: tuple[int, Case] | None = None
        self.images: ScoredImages = scored_images(dataset, "panoptic")

    def decode(self, record: Record) -> SegmentMap:
        return self.case(int(record.image_id)).truth

    def case(self, index: int) -> Case:
        if self.last is None or self.last[0] != index:
            self.last = (index, draw_case(index))
        return self.last[1]

    def __iter__(self) -> Iterator[tuple[Truth, dict[Task, Result]]]:
        for index in range(len(self.images)):
            yield self.images.truth(index), self.case(index).results
