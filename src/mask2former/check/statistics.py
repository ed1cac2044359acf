"""The numbers of a data set, for tables."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mask2former.check.sizes import Vanishing, evaluation_scales, training_scales, vanishing
from mask2former.check.survey import Split
from mask2former.config import Data


@dataclass(frozen=True)
class Spread:
    """Of some numbers."""

    least: float
    median: float
    most: float

    @staticmethod
    def of(values: np.ndarray) -> "Spread | None":
        """None of no numbers."""
        if not len(values):
            return None
        least, median, most = np.quantile(values, [0, 0.5, 1]).tolist()
        return Spread(least, median, most)


@dataclass(frozen=True)
class SplitStatistics:
    """Of one split."""

    images: int
    objects: int
    """That are no crowds; segments where every pixel has one."""
    crowds: int
    empty: int
    """Images without an object."""
    unreadable: int
    """Images or annotations."""
    groups: int
    """Videos or scenes."""
    heights: Spread | None
    widths: Spread | None
    """Of images, in pixels."""
    objects_per_image: Spread | None
    object_sides: Spread | None
    """Square roots of the areas, in pixels."""
    unlabelled: float | None
    """Share of the pixels that no segment covers; none where objects may overlap."""
    overlapping: float | None
    """Share of the pixels that belong to several objects."""
    vanishing_in_test: Vanishing
    vanishing_in_training: Vanishing

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "vanishing_in_test": self.vanishing_in_test.as_json(),
            "vanishing_in_training": self.vanishing_in_training.as_json(),
        }


@dataclass(frozen=True)
class ClassStatistics:
    """Of one class in one split."""

    images: int
    objects: int
    area: float
    """Share of the area of all objects, in [0, 1]."""


def split_statistics(split: Split, data: Data) -> SplitStatistics:
    """Count what a split holds; `data` says how images are resized."""
    objects = split.objects
    counted = objects[~objects["is_crowd"]]
    sizes = np.array([image.size for image in split.images if image.size is not None], np.int64)
    sizes = sizes.reshape(-1, 2)
    pixels = float(sizes.prod(axis=1).sum())
    unlabelled = sum(image.unlabelled for image in split.images)
    overlap = sum(image.overlap for image in split.images)
    readable = [image for image in split.images if image.is_annotated]
    counts = split.counts
    return SplitStatistics(
        images=len(split.images),
        objects=len(counted),
        crowds=len(objects) - len(counted),
        empty=sum(not image.num_objects for image in readable),
        unreadable=sum(image.size is None or not image.is_annotated for image in split.images),
        groups=len({image.group for image in split.images} - {None}),
        heights=Spread.of(sizes[:, 0]),
        widths=Spread.of(sizes[:, 1]),
        objects_per_image=Spread.of(counts),
        object_sides=Spread.of(np.sqrt(counted["area"])),
        unlabelled=unlabelled / pixels if pixels and unlabelled else None,
        overlapping=overlap / pixels if pixels and overlap else None,
        vanishing_in_test=vanishing(split, evaluation_scales(data)),
        vanishing_in_training=vanishing(split, training_scales(data)),
    )


def class_statistics(splits: Mapping[str, Split]) -> dict[str, list[ClassStatistics]]:
    """One entry a class, in their order, for each split."""
    return {name: _of_classes(split) for name, split in splits.items()}


def _of_classes(split: Split) -> list[ClassStatistics]:
    num_classes = len(split.dataset.classes)
    objects = split.objects
    counted = objects[~objects["is_crowd"]]
    areas = np.bincount(counted["class_id"], counted["area"], minlength=num_classes)
    images = np.zeros(num_classes, np.int64)
    for image in split.images:
        shown = image.objects["class_id"][~image.objects["is_crowd"]]
        images[np.unique(shown)] += 1
    total = max(float(areas.sum()), 1.0)
    rows = zip(images.tolist(), split.class_counts.tolist(), areas.tolist(), strict=True)
    return [ClassStatistics(i, count, area / total) for i, count, area in rows]
