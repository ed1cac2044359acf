"""A small data set of each kind of annotation, in memory but for its images."""

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import (
    AsRead,
    Instance,
    Instances,
    Layered,
    Mask,
    SegmentLabel,
    SegmentMap,
)
from mask2former.data.dataset import Dataset, Record
from mask2former.masks.rle import encode_mask
from mask2former.tasks import Task
from mask2former.types import Classes

HEIGHT, WIDTH = 9, 13
CLASSES = Classes(("cat", 'a "b" \\ ü'), (3, 70), (True, False))
INSTANCE: tuple[Task, ...] = ("instance", "panoptic", "semantic")
PANOPTIC: tuple[Task, ...] = ("panoptic", "semantic", "instance")

Make = Callable[..., Dataset]


def square() -> np.ndarray:
    return np.array([[1.25, 1.5], [8.1, 1.5], [8.1, 6.7], [1.25, 6.7]])


@pytest.fixture
def objects() -> Instances:
    """Two polygons that are one object with a track, a crowd, and regions to be ignored."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:, 2:5] = True
    items = (
        Instance(0, (square(), square() + 3.3), False, 51.123456789, 4, (1.1, 1.25, 11.0, 7.5)),
        Instance(1, encode_mask(mask), True, 15.0),
    )
    return Instances(HEIGHT, WIDTH, items, ((square() + 0.7,), encode_mask(~mask)))


@pytest.fixture
def id_map() -> Callable[[int], SegmentMap]:
    return make_id_map


@pytest.fixture
def assert_equal() -> Callable[[AsRead, AsRead], None]:
    return compare


def make_id_map(largest: int) -> SegmentMap:
    """A segment with id 0, one with the largest, a crowd, and unlabelled pixels."""
    ids = np.zeros((HEIGHT, WIDTH), np.int32)
    ids[1:3] = largest
    ids[3:5, 4:] = 7
    ids[6] = 9
    segments = (SegmentLabel(0, 1), SegmentLabel(largest, 0), SegmentLabel(7, 0, is_crowd=True))
    return SegmentMap(ids, segments)


def compare(ours: AsRead, expected: AsRead) -> None:
    """Equal in every bit."""
    assert type(ours) is type(expected)
    if isinstance(ours, Layered) and isinstance(expected, Layered):
        compare(ours.objects, expected.objects)
        compare(ours.semantic, expected.semantic)
    elif isinstance(ours, SegmentMap) and isinstance(expected, SegmentMap):
        assert ours.segments == expected.segments
        assert ours.ids.dtype == expected.ids.dtype
        np.testing.assert_array_equal(ours.ids, expected.ids)
    elif isinstance(ours, Instances) and isinstance(expected, Instances):
        assert (ours.height, ours.width) == (expected.height, expected.width)
        for mine, theirs in zip(ours.items, expected.items, strict=True):
            assert [mine.class_id, mine.is_crowd, mine.area, mine.track_id, mine.box] == [
                theirs.class_id,
                theirs.is_crowd,
                theirs.area,
                theirs.track_id,
                theirs.box,
            ]
            compare_masks(mine.mask, theirs.mask)
        for region, other in zip(ours.ignored, expected.ignored, strict=True):
            compare_masks(region, other)


def compare_masks(ours: Mask, expected: Mask) -> None:
    if isinstance(ours, dict):
        assert ours == expected
    else:
        for part, other in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(part, other)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a data set of these annotations, image i of which is `images/{i}.png`."""

    def make_dataset(
        *annotations: AsRead,
        tasks: tuple[Task, ...] = INSTANCE,
        video: tuple[tuple[str, int], ...] | None = None,
        classes: Classes = CLASSES,
    ) -> Dataset:
        folder = tmp_path / "loose"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        records = []
        for i, annotation in enumerate(annotations):
            path = folder / f"Bild {i}.ü.png"
            if not path.exists():
                pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
            group, frame = video[i] if video else (None, None)
            counted = len(annotation.items) if isinstance(annotation, Instances) else None
            records.append(
                Record(f"v1.2/{i}" if i else 12, path, annotation, num_objects=counted,
                       group=group, frame=frame)
            )  # fmt: skip
        notes = ("Pixel value 255 is ignored.",)
        decode = attrgetter("annotation")
        return Dataset("fake", folder, "train", classes, tasks, records, decode, notes)

    return make_dataset
