"""Shards as TensorFlow reads them: one `tf.train.Example` a record.

Names are those of the TensorFlow Object Detection API and the Model Garden, and of DeepLab for maps
of classes; `docs/shards.md` lists them. What those cannot hold without loss (polygons, tracks, ids
of segments) is in `mask2former/...`, which is what our own reader reads.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mask2former.data.annotations import Instances, Layered, SegmentMap
from mask2former.data.shards.hashed import HashedFile
from mask2former.data.shards.png import as_png
from mask2former.data.shards.samples import (
    DATASET,
    IMAGE,
    JSON,
    SEG,
    SEM,
    Part,
    Sample,
    to_json,
)
from mask2former.data.shards.tf_example import Feature, decode_example, encode_example
from mask2former.data.shards.tf_record import HEADER, frame, records_of
from mask2former.masks.id_maps import compact_ids
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import decode_rle, rle_box
from mask2former.types import Classes

ENCODED = "image/encoded"
DESCRIPTION = "mask2former/dataset"
"""In the first record of a shard alone."""
PART_NAMES = {
    IMAGE: ENCODED,
    JSON: "mask2former/json",
    SEG: "mask2former/seg",
    SEM: "mask2former/sem",
    DATASET: DESCRIPTION,
}
CHANNELS = 3
FORMATS = {"jpg": "jpeg", "tif": "tiff"}
OBJECT, CLASS_MAP = "image/object", "image/segmentation/class"
CATEGORY_MASK, INSTANCE_MASK = "image/panoptic/category_mask", "image/panoptic/instance_mask"
MAX_CATEGORY = np.iinfo(np.uint16).max - 1
"""Beside the ignored value, in a PNG of 16 bits."""


class TFRecordShard:
    """Writes samples one after the other; equal samples give equal files."""

    def __init__(self, file: HashedFile, description: dict[str, Any], classes: Classes) -> None:
        self._file = file
        self._first: dict[str, Feature] = {DESCRIPTION: [to_json(description)]}
        self._classes = classes

    def add(self, sample: Sample) -> dict[str, Part]:
        """Write a sample; where each of its parts lies in the file."""
        example = encode_example(features_of(sample, self._classes) | self._first)
        self._first = {}
        parts = parts_of(decode_example(example), self._file.size + HEADER.size)
        parts.pop(DATASET, None)
        self._file.write(frame(example))
        return parts

    def finish(self) -> None:
        """Nothing marks the end of such a file."""


def parts_of(features: dict[str, Any], start: int) -> dict[str, Part]:
    """Where the parts of a sample of ours lie.

    Args:
        features: As from `decode_example`.
        start: Of the Example in its file, in bytes.
    """
    found = {part: features[name][0] for part, name in PART_NAMES.items() if features.get(name)}
    return {part: (start + offset, length) for part, (offset, length) in found.items()}


def scan_records(path: Path) -> Iterator[dict[str, Part]]:
    """Where the parts of each sample of ours lie; others yield their images alone.

    Raises:
        ValueError: The file is no TFRecord file, or is cut off.
    """
    for start, record in records_of(path):
        yield parts_of(decode_example(record), start)


def features_of(sample: Sample, classes: Classes) -> dict[str, Feature]:
    """Everything that is written of a sample.

    Raises:
        ValueError: A category id does not fit a PNG.
    """
    record, suffix = sample.record, sample.suffix.removeprefix(".")
    features: dict[str, Feature] = {
        ENCODED: [sample.image],
        "image/format": [FORMATS.get(suffix, suffix).encode()],
        "image/filename": [record.image.name.encode()],
        "image/source_id": [str(record.image_id).encode()],
        "image/key/sha256": [hashlib.sha256(sample.image).hexdigest().encode()],
        "image/height": _integers([record.height]),
        "image/width": _integers([record.width]),
        "image/channels": _integers([CHANNELS]),
        PART_NAMES[JSON]: [sample.json],
    }
    features |= {PART_NAMES[part]: [png] for part, png in sample.maps.items()}
    annotations = sample.annotations
    if isinstance(annotations, Layered):
        features |= _map_features(annotations.semantic, classes)
        annotations = annotations.objects
    if isinstance(annotations, Instances):
        return features | _object_features(annotations, classes)
    return _map_features(annotations, classes) | features


def _object_features(annotations: Instances, classes: Classes) -> dict[str, Feature]:
    items, size = annotations.items, (annotations.height, annotations.width)
    rles = [mask_to_rle(item.mask, *size) for item in items]
    boxes = np.array([rle_box(rle) for rle in rles], np.float64).reshape(-1, 4)
    low = boxes[:, :2] / size[::-1]
    high = (boxes[:, :2] + boxes[:, 2:]) / size[::-1]
    class_ids = [item.class_id for item in items]
    return {
        f"{OBJECT}/bbox/xmin": low[:, 0].astype(np.float32),
        f"{OBJECT}/bbox/xmax": high[:, 0].astype(np.float32),
        f"{OBJECT}/bbox/ymin": low[:, 1].astype(np.float32),
        f"{OBJECT}/bbox/ymax": high[:, 1].astype(np.float32),
        f"{OBJECT}/class/text": [classes.names[i].encode() for i in class_ids],
        f"{OBJECT}/class/label": _integers([classes.category_ids[i] for i in class_ids]),
        f"{OBJECT}/is_crowd": _integers([item.is_crowd for item in items]),
        f"{OBJECT}/area": np.array([item.area for item in items], np.float32),
        f"{OBJECT}/mask": [as_png(decode_rle(rle).astype(np.uint8)) for rle in rles],
    }


def _map_features(annotations: SegmentMap, classes: Classes) -> dict[str, Feature]:
    """Category per pixel and, where there are things, number of the object per pixel."""
    segments = annotations.segments
    compact = compact_ids(annotations.ids, [segment.id for segment in segments])
    ignored = ignored_category(classes)
    categories = [classes.category_ids[segment.class_id] for segment in segments]
    category_map = _as_smallest_png(np.array([ignored, *categories], np.int64)[compact])
    features: dict[str, Feature] = {
        f"{CLASS_MAP}/encoded": [category_map],
        f"{CLASS_MAP}/format": [b"png"],
        "mask2former/ignored_category": _integers([ignored]),
    }
    if any(classes.is_thing):
        is_thing = [classes.is_thing[segment.class_id] for segment in segments]
        numbers = np.array([0, *(np.cumsum(is_thing) * is_thing)], np.int64)
        features[CATEGORY_MASK] = [category_map]
        features[INSTANCE_MASK] = [_as_smallest_png(numbers[compact])]
    return features


def ignored_category(classes: Classes) -> int:
    """The value of unlabelled pixels: 0 where no category has it, else 255 or 65535.

    Raises:
        ValueError: A category id does not fit a PNG.
    """
    ids = classes.category_ids
    wrong = [i for i in ids if not 0 <= i <= MAX_CATEGORY]
    if wrong:
        raise ValueError(
            f"category id {wrong[0]} does not fit the maps of a TFRecord, whose pixels are "
            f"0..{MAX_CATEGORY}; give the category another id, or pack as webdataset"
        )
    largest_byte = int(np.iinfo(np.uint8).max)
    return 0 if 0 not in ids else largest_byte if max(ids) < largest_byte else MAX_CATEGORY + 1


def _as_smallest_png(values: NDArray[np.int64]) -> bytes:
    if values.max(initial=0) <= np.iinfo(np.uint8).max:
        return as_png(values.astype(np.uint8))
    return as_png(values.astype(np.uint16))


def _integers(values: list) -> NDArray[np.int64]:
    return np.array(values, np.int64)
