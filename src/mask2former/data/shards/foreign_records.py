"""TFRecords of other writers: those of the Object Detection API, the Model Garden and DeepLab.

- objects: `image/object/mask` (a PNG each), `image/object/class/{label,text}`, `is_crowd`, `area`
- panoptic pairs: `image/panoptic/category_mask` and `image/panoptic/instance_mask` (PNG)
- panoptic raw: `image/segmentation/class/encoded`, int32 class x divisor + object per pixel
- semantic: `image/segmentation/class/encoded`, PNG of category ids

Source:
    tensorflow/models, official/vision/data/create_coco_tf_record.py and
    research/object_detection/dataset_tools/create_coco_tf_record.py; google-research/deeplab2,
    data/data_utils.py and common.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mask2former.data.annotations import Annotations, Instance, Instances
from mask2former.data.dataset import Record
from mask2former.data.images import read_image_size, read_label_map
from mask2former.data.shards.class_maps import panoptic_segments, semantic_segments
from mask2former.data.shards.tf_example import FeatureSpans, decode_example, take
from mask2former.data.shards.tf_record import records_of
from mask2former.data.shards.tf_shard import (
    CATEGORY_MASK,
    CLASS_MAP,
    ENCODED,
    INSTANCE_MASK,
    OBJECT,
)
from mask2former.data.sources import FileSlice, InMemory
from mask2former.masks.rle import encode_mask, rle_area

Layout: TypeAlias = Literal["objects", "boxes", "pairs", "raw", "semantic"]
PAIR_DIVISOR = 1 << 8
SEQUENCE, FRAME = "video/sequence_id", "video/frame_id"
"""DeepLab2's names for videos."""
MASK, LABEL, TEXT = f"{OBJECT}/mask", f"{OBJECT}/class/label", f"{OBJECT}/class/text"


@dataclass
class FileScan:
    """What one file holds."""

    records: list[Record] = field(default_factory=list)
    """Their `annotation` is a slice: the whole Example."""
    names: dict[int, str | None] = field(default_factory=dict)
    """Of the objects' classes by label."""
    texts: set[str] = field(default_factory=set)
    """Names of classes, which may come without labels."""
    values: set[int] = field(default_factory=set)
    """Of the maps: category, or category x divisor + object."""


@dataclass(frozen=True)
class ExampleDecoder:
    """Reads the annotations of an Example."""

    layout: Layout
    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    things: frozenset[int] = frozenset()
    """Category ids."""
    ignored: frozenset[int] = frozenset()
    divisor: int = 1

    def __call__(self, record: Record) -> Annotations:
        where = str(record.annotation)
        content = record.annotation.read_bytes()
        features = decode_example(content)
        class_ids = {category_id: i for i, category_id in enumerate(self.category_ids)}
        if self.layout == "objects":
            size = _size(record)
            ids = _object_classes(content, features, class_ids, self.names, where)
            return Instances(*size, tuple(_objects(content, features, ids, size, where)))
        values = read_values(content, features, self.layout, where)
        if self.layout == "semantic":
            return semantic_segments(values, class_ids, self.ignored, where)
        return panoptic_segments(values, self.divisor, class_ids, self.things, where)


def layout_of(features: Mapping[str, FeatureSpans], content: bytes | memoryview) -> Layout | None:
    """How an Example is annotated; none: not at all, or without pixels of any object."""
    if features.get(CATEGORY_MASK) and features.get(INSTANCE_MASK):
        return "pairs"
    if MASK in features:
        return "objects"
    if features.get(f"{CLASS_MAP}/encoded"):
        return "raw" if _text(features, f"{CLASS_MAP}/format", content) == "raw" else "semantic"
    return "boxes" if f"{OBJECT}/bbox/xmin" in features else None


def find_layout(path: Path) -> Layout | None:
    """The first that tells: images without objects have no features of objects."""
    for _, record in records_of(path):
        features = decode_example(record)
        layout = layout_of(features, record)
        if layout is not None:
            return layout
    return None


def scan_file(path: Path, layout: Layout, *, with_values: bool) -> FileScan:
    """Look through a file; the result is kept while the file stays the same.

    Args:
        path: Of the file.
        layout: Of the data set.
        with_values: Decode all maps to see which values occur.

    Raises:
        ValueError: The file is damaged.
    """
    status = path.stat()
    return _scan(path, layout, with_values, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1024)
def _scan(path: Path, layout: Layout, with_values: bool, stamp: tuple[int, int]) -> FileScan:  # noqa: ARG001 the stamp is part of the key
    found = FileScan()
    for start, example in records_of(path):
        features = decode_example(example)
        if not features.get(ENCODED):
            continue
        whole = FileSlice(path, start, len(example), f"the Example at byte {start}")
        found.records.append(_record(example, features, whole, layout))
        _note_classes(found, example, features)
        if with_values and layout_of(features, example) == layout:
            values = read_values(example, features, layout, str(whole))
            found.values |= set(np.unique(values).tolist())
    return found


def read_values(
    content: bytes | memoryview, features: Mapping[str, Any], layout: Layout, where: str
) -> NDArray[np.int64]:
    """Category, or category x divisor + object, of every pixel; pairs have `PAIR_DIVISOR`.

    Raises:
        ValueError: A map is damaged, or pairs have too many objects.
    """
    if layout == "raw":
        span = features[f"{CLASS_MAP}/encoded"][0]
        values = np.frombuffer(take(content, span), "<i4").astype(np.int64)
        height, width = (int(features[f"image/{side}"][0]) for side in ("height", "width"))
        if len(values) != height * width:
            raise ValueError(
                f"{where} has a raw map of {len(values)} values for {height} x {width} pixels; "
                f"write it again as int32"
            )
        return values.reshape(height, width)
    if layout == "semantic":
        return _png(content, features[f"{CLASS_MAP}/encoded"][0], where)
    categories = _png(content, features[CATEGORY_MASK][0], where)
    numbers = _png(content, features[INSTANCE_MASK][0], where)
    if numbers.shape != categories.shape or numbers.max(initial=0) >= PAIR_DIVISOR:
        raise ValueError(
            f"{where} has masks of categories and objects that differ in size, or objects "
            f"numbered beyond {PAIR_DIVISOR - 1}; write it again"
        )
    return categories * PAIR_DIVISOR + numbers


def _record(
    example: memoryview, features: Mapping[str, Any], whole: FileSlice, layout: Layout
) -> Record:
    offset, length = features[ENCODED][0]
    named = _text(features, "image/filename", example)
    name = named or f"{whole.offset}.jpg"
    image = FileSlice(whole.path, whole.offset + offset, length, name)
    source = _text(features, "image/source_id", example)
    sequence, frame = (_text(features, key, example) for key in (SEQUENCE, FRAME))
    height, width = (features.get(f"image/{side}") for side in ("height", "width"))
    if height is None or width is None or not len(height) or not len(width):
        height, width = ([side] for side in read_image_size(image))
    crowds = features.get(f"{OBJECT}/is_crowd")
    count = len(features.get(MASK, ())) - (0 if crowds is None else int(np.sum(crowds)))
    unnumbered = f"{sequence}/{name}".lstrip("/") if named else f"{whole.path.name}/{name}"
    is_number = source.isascii() and source.isdigit() and str(int(source)) == source
    return Record(
        image_id=int(source) if is_number else source or unnumbered,
        image=image,
        annotation=whole,
        height=int(height[0]),
        width=int(width[0]),
        num_objects=count if layout == "objects" else None,
        group=sequence or None,
        frame=int(frame) if sequence and frame.isdigit() else None,
    )


def _note_classes(found: FileScan, example: memoryview, features: Mapping[str, Any]) -> None:
    texts = [take(example, span).decode() for span in features.get(TEXT, ())]
    labels = [int(label) for label in features.get(LABEL, ())]
    found.texts.update(texts)
    for label, text in zip(labels, texts or [None] * len(labels), strict=False):
        found.names[label] = text or found.names.get(label)


def _objects(
    content: bytes,
    features: Mapping[str, Any],
    class_ids: list[int],
    size: tuple[int, int],
    where: str,
) -> list[Instance]:
    masks = features.get(MASK, [])
    crowds = features.get(f"{OBJECT}/is_crowd", np.zeros(len(masks)))
    areas = features.get(f"{OBJECT}/area")
    if not len(masks) == len(class_ids) == len(crowds):
        raise ValueError(
            f"{where} has {len(masks)} masks, {len(class_ids)} classes and {len(crowds)} crowd "
            f"flags; write one of each per object"
        )
    items = []
    for i, span in enumerate(masks):
        mask = _png(content, span, where) > 0
        if mask.shape != size:
            raise ValueError(
                f"{where} has a mask of size (h, w) = {mask.shape} for an image of {size}; write "
                f"masks as large as the image"
            )
        rle = encode_mask(mask)
        area = float(rle_area(rle)) if areas is None or not len(areas) else float(areas[i])
        items.append(Instance(class_ids[i], rle, bool(crowds[i]), area))
    return items


def _object_classes(
    content: bytes,
    features: Mapping[str, Any],
    class_ids: Mapping[int, int],
    names: tuple[str, ...],
    where: str,
) -> list[int]:
    labels = [int(label) for label in features.get(LABEL, ())]
    texts = [take(content, span).decode() for span in features.get(TEXT, ())]
    unknown = [i for i in labels if i not in class_ids] or [t for t in texts if t not in names]
    if labels and not unknown:
        return [class_ids[label] for label in labels]
    if texts and not [t for t in texts if t not in names]:
        return [names.index(text) for text in texts]
    if unknown:
        raise ValueError(
            f"{where} has class {unknown[0]!r}, which the label map does not list; add it there"
        )
    return []


def _png(content: bytes | memoryview, span: tuple[int, int], where: str) -> NDArray[np.int64]:
    return read_label_map(InMemory("map.png", where, take(content, span))).astype(np.int64)


def _size(record: Record) -> tuple[int, int]:
    assert record.height is not None, "_record sets the size"
    assert record.width is not None
    return record.height, record.width


def _text(features: Mapping[str, Any], name: str, content: bytes | memoryview) -> str:
    spans = features.get(name)
    return take(content, spans[0]).decode(errors="replace") if spans else ""
