"""What one look at an image and its annotations tells, as a few numbers and the faults seen."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mask2former.check.objects import (
    NO_OBJECTS,
    Fault,
    Objects,
    ObjectTable,
    look_at_objects,
    overlap_of,
)
from mask2former.data.annotations import Layered
from mask2former.data.dataset import Dataset, Record, TaskDataset
from mask2former.data.geometry import Size
from mask2former.data.images import read_image
from mask2former.data.sources import Source
from mask2former.data.transforms import annotation_size

THUMBNAIL_SIDE = 16
"""Pixels; small enough that copies agree however they were compressed or resized."""


@dataclass(frozen=True)
class ImageFacts:
    """One image, without its pixels."""

    split: str
    index: int
    """Of the record in the split."""
    image_id: int | str
    file: str
    group: str | None
    size: Size | None
    """Of the upright picture; none when it cannot be read."""
    digest: bytes | None
    """Of the file's bytes."""
    thumbnail: bytes | None
    """Grey, `THUMBNAIL_SIDE` squared, row by row."""
    is_annotated: bool
    """False: its annotations cannot be read."""
    objects: ObjectTable
    """As `objects.OBJECT`."""
    overlap: int
    """Pixels counted once for every object beyond the first that covers them."""
    unlabelled: int
    """Pixels that no segment covers; 0 for objects that may overlap."""
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Loaded:
    """A file that was read already."""

    source: Source
    content: bytes

    @property
    def name(self) -> str:
        """File name with its suffix."""
        return self.source.name

    def read_bytes(self) -> bytes:
        return self.content

    def __str__(self) -> str:
        return str(self.source)


def look_at(raw: Dataset, derived: TaskDataset, index: int) -> ImageFacts:
    """Read an image and its annotations once, and keep what the checks need.

    Args:
        raw: The split as it was opened.
        derived: The same for the task (`derive.for_task`).
        index: Of the record.
    """
    record = derived.records[index]
    faults: list[Fault] = []
    objects, annotated_size = _look_at_annotations(raw, derived, record, faults)
    loaded = _load(record, faults)
    pixels = None if loaded is None else _read(loaded, annotated_size, faults)
    return ImageFacts(
        split=derived.split,
        index=index,
        image_id=record.image_id,
        file=str(record.image),
        group=record.group,
        size=None if pixels is None else (pixels.shape[0], pixels.shape[1]),
        digest=None if loaded is None else digest_of(loaded.content),
        thumbnail=None if pixels is None else thumbnail_of(pixels),
        is_annotated=annotated_size is not None,
        objects=objects.table,
        overlap=objects.overlap,
        unlabelled=objects.unlabelled,
        faults=tuple(faults),
    )


def digest_of(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def thumbnail_of(pixels: NDArray[np.uint8]) -> bytes:
    """Grey means over a grid of `THUMBNAIL_SIDE` squared cells."""
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    image = Image.fromarray(pixels)
    small = image.resize(side, Image.Resampling.BILINEAR, reducing_gap=3.0)
    return small.convert("L").tobytes()


def _look_at_annotations(
    raw: Dataset, derived: TaskDataset, record: Record, faults: list[Fault]
) -> tuple[Objects, Size | None]:
    """The objects and the size that they were annotated at; no size when they cannot be read."""
    try:
        annotations = derived.decode(record)
        objects = look_at_objects(annotations, derived.classes, record)
        faults.extend(objects.faults)
        if raw.tasks[0] == "instance" and derived.tasks[0] != "instance":
            # the map that is made of the objects tells no overlaps
            before = raw.decode(record)
            overlap = overlap_of(before.objects if isinstance(before, Layered) else before)
            objects = objects._replace(overlap=overlap)
    except (ValueError, OSError) as error:
        is_missing = isinstance(error, FileNotFoundError)
        kind = "missing annotation" if is_missing else "unreadable annotation"
        file = record.annotation if isinstance(record.annotation, str | Path) else None
        named = None if file is None else str(file)
        faults.append(Fault(kind, str(error), is_error=True, file=named))
        return NO_OBJECTS, None
    return objects, annotation_size(annotations)


def _load(record: Record, faults: list[Fault]) -> Loaded | None:
    try:
        return Loaded(record.image, record.image.read_bytes())
    except FileNotFoundError:
        faults.append(
            Fault(
                "missing image",
                f"{record.image} is not there; restore it or take it out of the annotations",
                is_error=True,
            )
        )
    except (ValueError, OSError) as error:
        faults.append(Fault("unreadable image", str(error), is_error=True))
    return None


def _read(
    loaded: Loaded, annotated_size: Size | None, faults: list[Fault]
) -> NDArray[np.uint8] | None:
    try:
        return read_image(loaded, annotated_size)
    except (ValueError, OSError) as error:
        first = str(error)
    if annotated_size is not None:
        try:
            pixels = read_image(loaded)
        except (ValueError, OSError):
            pass
        else:
            faults.append(Fault("size mismatch", first, is_error=True))
            return pixels
    faults.append(Fault("unreadable image", first, is_error=True))
    return None
