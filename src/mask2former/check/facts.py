"""What one look at an image and its annotations tells, as a few numbers and what is wrong."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mask2former.check.findings import Finding, Place, finding
from mask2former.check.objects import (
    NO_OBJECTS,
    Objects,
    ObjectTable,
    look_at_objects,
    overlap_of,
)
from mask2former.data.annotations import Layered, annotation_size
from mask2former.data.dataset import Dataset, Record, TaskDataset
from mask2former.data.geometry import Size
from mask2former.data.images import read_image
from mask2former.data.problems import FaultError, Kind
from mask2former.data.sources import InMemory

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
    findings: tuple[Finding, ...]
    """What is wrong with its files and outlines."""

    @property
    def place(self) -> Place:
        return Place(self.split, self.index)

    @property
    def num_objects(self) -> int:
        """That are no crowds."""
        return int((~self.objects["is_crowd"]).sum())


def look_at(raw: Dataset, derived: TaskDataset, index: int) -> ImageFacts:
    """Read an image and its annotations once, and keep what the checks need.

    Args:
        raw: The split as it was opened.
        derived: The same for the task (`derive.for_task`).
        index: Of the record.
    """
    record = derived.records[index]
    found: list[Finding] = []
    objects, annotated_size = _look_at_annotations(raw, derived, record, found)
    loaded = _load(record, found)
    pixels = None if loaded is None else _read(loaded, annotated_size, found)
    can_be_shown = pixels is not None and annotated_size is not None
    places = (Place(derived.split, index),) if can_be_shown else ()
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
        findings=tuple(_of_image(one, record, places) for one in found),
    )


def _of_image(found: Finding, record: Record, places: tuple[Place, ...]) -> Finding:
    file = found.problem.file or str(record.image)
    problem = replace(found.problem, file=file, image_id=record.image_id)
    return replace(found, problem=problem, places=places)


def digest_of(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def thumbnail_of(pixels: NDArray[np.uint8]) -> bytes:
    """Grey means over a grid of `THUMBNAIL_SIDE` squared cells."""
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    image = Image.fromarray(pixels)
    small = image.resize(side, Image.Resampling.BILINEAR, reducing_gap=3.0)
    return small.convert("L").tobytes()


def _look_at_annotations(
    raw: Dataset, derived: TaskDataset, record: Record, found: list[Finding]
) -> tuple[Objects, Size | None]:
    """The objects and the size that they were annotated at; no size when they cannot be read."""
    try:
        annotations = derived.decode(record)
        objects = look_at_objects(annotations, derived.classes, str(record.image))
        found.extend(objects.findings)
        if raw.tasks[0] == "instance" and derived.tasks[0] != "instance":
            # the map that is made of the objects tells no overlaps
            before = raw.decode(record)
            overlap = overlap_of(before.objects if isinstance(before, Layered) else before)
            objects = objects._replace(overlap=overlap)
    except (ValueError, OSError) as error:
        file = str(record.annotation) if isinstance(record.annotation, str | Path) else None
        found.append(finding(_kind_of(error), str(error), is_error=True, file=file))
        return NO_OBJECTS, None
    return objects, annotation_size(annotations)


def _kind_of(error: Exception) -> Kind:
    if isinstance(error, FaultError):
        return error.kind
    is_missing = isinstance(error, FileNotFoundError)
    return "missing annotation" if is_missing else "unreadable annotation"


def _load(record: Record, found: list[Finding]) -> InMemory | None:
    image = record.image
    try:
        return InMemory(image.name, str(image), image.read_bytes())
    except FileNotFoundError:
        message = f"{image} is not there; restore it or take it out of the annotations"
        found.append(finding("missing image", message, is_error=True))
    except (ValueError, OSError) as error:
        found.append(finding("unreadable image", str(error), is_error=True))
    return None


def _read(
    loaded: InMemory, annotated_size: Size | None, found: list[Finding]
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
            found.append(finding("size mismatch", first, is_error=True))
            return pixels
    found.append(finding("unreadable image", first, is_error=True))
    return None
