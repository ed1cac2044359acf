"""Training samples of a data set, each a function of (image, seed) and nothing else."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool
from rich.console import Console
from rich.progress import track

from mask2former.data.annotations import Annotations, SegmentMap, annotation_size
from mask2former.data.copy_paste import (
    check_sources,
    choose_objects,
    cut_geometry,
    draw_other,
    paste_objects,
)
from mask2former.data.dataset import Dataset, TaskDataset
from mask2former.data.derive import for_task
from mask2former.data.geometry import Geometry, Size
from mask2former.data.images import read_image, read_image_size
from mask2former.data.records import SelectedRecords
from mask2former.data.sampling import Request
from mask2former.data.transforms import augment_image, make_target
from mask2former.tasks import Task
from mask2former.types import Sample

logger = logging.getLogger(__name__)

D = TypeVar("D", bound=Dataset)


class TrainingData(torch.utils.data.Dataset[Sample]):
    """Reads, augments and converts; indexed by requests from `TrainingBatches`.

    No state and no global random numbers: a resumed run, and any number of loader processes,
    give the same samples. An image that cannot be read stops training with its path.
    """

    def __init__(
        self,
        dataset: Dataset,
        task: Task,
        *,
        draw_geometry: Callable[[Size, np.random.Generator], Geometry],
        color_jitter: bool,
        keep_emptied: bool,
        copy_paste: float = 0.0,
    ) -> None:
        """Derive the task's annotations.

        Args:
            dataset: The training split, as `without_empty_images` leaves it; its annotations are
                converted for `task`.
            task: What is trained.
            draw_geometry: `large_scale_jitter` or `shortest_edge_crop` with its arguments bound.
            color_jitter: Change colours at random.
            keep_emptied: See `transforms.make_target`; `transforms.keeps_emptied` is the authors'.
            copy_paste: The probability that a sample gets objects of another image. Samples that
                get none are those of probability 0.

        Raises:
            ValueError: The data set cannot serve the task, or has no objects to paste.
        """
        self.dataset = for_task(dataset, task)
        self.task: Task = task
        self.draw_geometry = draw_geometry
        self.color_jitter = color_jitter
        self.keep_emptied = keep_emptied
        self.copy_paste = copy_paste
        check_sources(self.dataset, copy_paste)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Request) -> Sample:
        image_index, seed = index
        generator = np.random.default_rng(seed)
        record = self.dataset.records[image_index]
        annotations = self.dataset.decode(record)
        size = annotation_size(annotations)
        image = read_image(record.image, annotated_size=size)
        geometry = self.draw_geometry(size, generator)
        sample = Sample(
            image=augment_image(image, geometry, generator if self.color_jitter else None),
            target=make_target(annotations, geometry, self.task, keep_emptied=self.keep_emptied),
            image_id=record.image_id,
            seed=seed,
        )
        if self.copy_paste > 0 and generator.random() < self.copy_paste:
            source = draw_other(image_index, len(self), generator)
            return self._paste(sample, source, size=geometry.crop, generator=generator)
        return sample

    def _paste(
        self, sample: Sample, source: int, *, size: Size, generator: np.random.Generator
    ) -> Sample:
        """Lay objects of another image over the part of a sample that is no padding.

        Args:
            sample: Without them.
            source: Index of the other image.
            size: (height, width) of that part, at the top left.
            generator: Draws the objects, then what is drawn for any image.
        """
        record = self.dataset.records[source]
        is_thing = self.dataset.classes.is_thing
        objects = choose_objects(self.dataset.decode(record), is_thing, generator)
        annotated = annotation_size(objects)
        geometry = cut_geometry(self.draw_geometry(annotated, generator), size)
        pasted = make_target(objects, geometry, self.task, keep_emptied=False)
        if len(pasted.labels) == 0:
            return sample
        pixels = read_image(record.image, annotated_size=annotated)
        colors = generator if self.color_jitter else None
        moved = augment_image(pixels, geometry, colors)
        image, target = paste_objects(
            sample.image, sample.target, pasted_image=moved, pasted=pasted
        )
        return sample._replace(image=image, target=target)


def without_empty_images(dataset: D) -> D:
    """Leave out the images of an instance data set that show no object, or crowds only.

    Only training does so; evaluation scores every image. Data sets of other formats stay as they
    are, also when they are trained for instances, and so do all that are for semantic segmentation,
    which learns from an empty image that it is background.

    Raises:
        ValueError: No image is left.

    Source:
        detectron2 `filter_images_with_only_crowd_annotations`: COCO's 118287 training images
        become 117266.
    """
    is_semantic = dataset.tasks[0] == "semantic"
    kept = [i for i, r in enumerate(dataset.records) if r.num_objects != 0 or is_semantic]
    if not kept:
        raise ValueError(
            f"split {dataset.split!r} of {dataset.folder} has {len(dataset)} images and none with "
            f"an object; annotate some or choose another split to train on"
        )
    if len(kept) == len(dataset):
        return dataset
    return replace(dataset, records=SelectedRecords(dataset.records, kept))


def landscape_flags(dataset: Dataset) -> Bool[np.ndarray, " images"]:
    """Whether each image is wider than high, by the annotation file or, if it is silent, the image.

    Source:
        detectron2 groups batches by the original size of the data set, not by that of the crop.
    """
    sizes = [
        (record.height, record.width)
        if record.height is not None and record.width is not None
        else read_image_size(record.image)
        for record in dataset.records
    ]
    return np.array([width > height for height, width in sizes], bool)


def classes_per_image(dataset: TaskDataset) -> list[frozenset[int]]:
    """Class ids that occur in each image, crowds aside; reads all annotations once, in threads."""
    logger.info("reading the annotations of %d images once, to count classes", len(dataset))
    with ThreadPoolExecutor() as threads:
        found = threads.map(
            lambda index: _classes_in(dataset.annotations(index)), range(len(dataset))
        )
        return list(
            track(
                found,
                "counting classes",
                total=len(dataset),
                console=Console(stderr=True),
                transient=True,
            )
        )


def _classes_in(annotations: Annotations) -> frozenset[int]:
    is_map = isinstance(annotations, SegmentMap)
    objects = annotations.segments if is_map else annotations.items
    return frozenset(one.class_id for one in objects if not one.is_crowd)
