"""One record with its annotations as the parts of a shard: JSON, and id maps as PNG.

The JSON speaks COCO's language, with the category ids of the data set's own files:

- always: `image_id`, `file_name`, `height`, `width`, `num_objects`, `group`, `frame`, `position`
  (place in the split, from 0)
- objects: `annotations`, each with `category_id`, `iscrowd`, `area`, `track_id`, `bbox` where its
  file has one, and `segmentation`, which is polygons or a compressed run-length encoding; where
  there are any, `ignored_regions`: such segmentations of regions that are nobody's
- an id map `seg`: `segments_info`, each with `id`, `category_id`, `iscrowd`
- a class per pixel apart from objects, `sem`: `semantic_info`, as `segments_info`
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mask2former.data.annotations import (
    AsRead,
    Instance,
    Instances,
    Layered,
    Mask,
    SegmentLabel,
    SegmentMap,
    annotation_size,
)
from mask2former.data.dataset import Record
from mask2former.data.formats.coco_masks import known_box
from mask2former.data.images import (
    IMAGE_SUFFIXES,
    read_image,
    read_image_size,
    read_label_map,
    read_panoptic_ids,
)
from mask2former.data.shards.png import as_png
from mask2former.data.sources import FileSlice, InMemory, Source
from mask2former.masks.id_maps import MAX_ID, ids_to_rgb
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import canonical_rle, rle_area

Part: TypeAlias = tuple[int, int]
"""(offset, length) in bytes, in the shard."""

IMAGE, JSON, SEG, SEM = "image", "json", "seg", "sem"
"""The parts of a sample; the last two are id maps, where there are any."""
DATASET = "dataset"
"""The part of the first sample of a shard that describes the data set."""
PNG_COLOR_TYPE = 25
"""Byte of a PNG file that says whether it is grey (0) or RGB (2)."""
STARTS = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


ENDS = (b"\xff\xd9", b"\0\0\0\0IEND\xaeB`\x82")
"""The last bytes of whole JPEG and PNG files."""


@dataclass(frozen=True)
class Sample:
    """What a shard holds of one image."""

    key: str
    """Its name in the shard, without dots."""
    record: Record
    """With the size, if the annotations tell it."""
    annotations: AsRead
    image: bytes
    suffix: str
    """Of the image, such as .jpg."""
    content: dict[str, Any]
    """The JSON part."""
    maps: dict[str, bytes]
    """Id maps as PNG."""

    @property
    def json(self) -> bytes:
        return to_json(self.content)


def to_json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def make_sample(
    record: Record,
    position: int,
    decode: Callable[[Record], AsRead],
    category_ids: Sequence[int],
) -> Sample:
    """Read an image and its annotations.

    Args:
        record: Of the image.
        position: Its place in the split.
        decode: Of its data set.
        category_ids: By class id.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, an image is of another size than its annotations, or ids are
            too large for a PNG.
    """
    annotations = decode(record)
    height, width = annotation_size(annotations)
    image = _read_image_file(record.image, (height, width))
    record = replace(record, height=record.height or height, width=record.width or width)
    content, maps = _annotation_parts(annotations, category_ids, record)
    return Sample(
        key=key_of(record),
        record=record,
        annotations=annotations,
        image=image,
        suffix=_suffix(record, image),
        content=_record_part(record, position) | content,
        maps=maps,
    )


def _read_image_file(source: Source, annotated_size: tuple[int, int]) -> bytes:
    """The bytes of an image of the size of its annotations.

    Pixels are decoded only where the end of the file does not show that it is whole.
    """
    size = read_image_size(source)
    content = source.read_bytes()
    if size != annotated_size or not content.endswith(ENDS):
        # says what is wrong, unless the camera's orientation tag explains the size
        read_image(InMemory(source.name, str(source), content), annotated_size)
    return content


def key_of(record: Record) -> str:
    """The image id, or video/frame; what WebDataset takes for a suffix is escaped."""
    if record.group is None or record.frame is None:
        return _escaped(str(record.image_id))
    return f"{_escaped(record.group)}/{record.frame:06d}"


@dataclass(frozen=True)
class Decoder:
    """Reads the annotations of a record whose `annotation` is (shard, parts)."""

    category_ids: tuple[int, ...]
    """By class id."""

    def __call__(self, record: Record) -> AsRead:
        shard, parts = record.annotation
        content = json.loads(_slice(shard, parts[JSON], record).read_bytes())
        class_ids = {category_id: i for i, category_id in enumerate(self.category_ids)}
        maps = {
            part: _read_ids(_slice(shard, parts[part], record))
            for part in (SEG, SEM)
            if part in parts
        }
        where = f"{shard}: annotations of {record.image.name}"
        return read_annotations(content, maps, class_ids, where)


def read_annotations(
    content: dict[str, Any],
    maps: dict[str, NDArray[np.int32]],
    class_ids: dict[int, int],
    where: str,
) -> AsRead:
    """What the JSON part and the id maps say.

    Args:
        content: The JSON part.
        maps: Ids per pixel by the name of their part.
        class_ids: By category id.
        where: For messages.

    Raises:
        ValueError: Something is missing, or a category is unknown.
    """
    try:
        objects = (
            SegmentMap(maps[SEG], _segments(content["segments_info"], class_ids))
            if SEG in maps
            else _instances(content, class_ids)
        )
        if SEM not in maps:
            return objects
        return Layered(
            objects, SegmentMap(maps[SEM], _segments(content["semantic_info"], class_ids))
        )
    except KeyError as error:
        raise ValueError(
            f"{where} lack {error}, or have a category that the classes do not list; write the "
            f"shard as documented, with the classes of its data set"
        ) from error


def _slice(shard: str, part: Part, record: Record) -> FileSlice:
    offset, length = part
    return FileSlice(Path(shard), offset, length, f"annotations of {record.image.name}")


def _instances(content: dict[str, Any], class_ids: dict[int, int]) -> Instances:
    height, width = content["height"], content["width"]
    items = []
    for entry in content["annotations"]:
        mask = _mask(entry["segmentation"], height, width)
        crowd = bool(entry.get("iscrowd", 0))
        class_id = class_ids[entry["category_id"]]
        area = entry.get("area")
        if area is None:  # other writers leave it out
            area = rle_area(mask_to_rle(mask, height, width))
        track_id, box = entry.get("track_id"), known_box(entry.get("bbox"))
        items.append(Instance(class_id, mask, crowd, float(area), track_id, box))
    ignored = tuple(_mask(region, height, width) for region in content.get("ignored_regions", ()))
    return Instances(height, width, tuple(items), ignored)


def _mask(segmentation: dict | list, height: int, width: int) -> Mask:
    if isinstance(segmentation, dict):
        return canonical_rle(segmentation, height, width)
    return tuple(np.asarray(part, np.float64).reshape(-1, 2) for part in segmentation)


def _segments(entries: list[dict], class_ids: dict[int, int]) -> tuple[SegmentLabel, ...]:
    return tuple(
        SegmentLabel(entry["id"], class_ids[entry["category_id"]], bool(entry.get("iscrowd", 0)))
        for entry in entries
    )


def _read_ids(source: FileSlice) -> NDArray[np.int32]:
    head = replace(source, length=min(source.length, PNG_COLOR_TYPE + 1)).read_bytes()
    if head[PNG_COLOR_TYPE:] == b"\2":
        return read_panoptic_ids(source)
    return read_label_map(source).astype(np.int32)


def _record_part(record: Record, position: int) -> dict[str, Any]:
    return {
        "image_id": record.image_id,
        "file_name": record.image.name,
        "height": record.height,
        "width": record.width,
        "num_objects": record.num_objects,
        "group": record.group,
        "frame": record.frame,
        "position": position,
    }


def _annotation_parts(
    annotations: AsRead, category_ids: Sequence[int], record: Record
) -> tuple[dict[str, Any], dict[str, bytes]]:
    if isinstance(annotations, Layered):
        content, maps = _annotation_parts(annotations.objects, category_ids, record)
        semantic = annotations.semantic
        content["semantic_info"] = _segment_entries(semantic, category_ids)
        return content, maps | {SEM: _ids_as_png(semantic.ids, record)}
    if isinstance(annotations, SegmentMap):
        entries = _segment_entries(annotations, category_ids)
        return {"segments_info": entries}, {SEG: _ids_as_png(annotations.ids, record)}
    content: dict[str, Any] = {
        "annotations": [_object_entry(item, category_ids) for item in annotations.items]
    }
    if annotations.ignored:
        content["ignored_regions"] = [_segmentation(mask) for mask in annotations.ignored]
    return content, {}


def _object_entry(item: Instance, category_ids: Sequence[int]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "category_id": category_ids[item.class_id],
        "iscrowd": int(item.is_crowd),
        "area": item.area,
        "segmentation": _segmentation(item.mask),
    }
    if item.track_id is not None:
        entry["track_id"] = item.track_id
    if item.box is not None:
        entry["bbox"] = list(item.box)
    return entry


def _segmentation(mask: Mask) -> dict | list:
    if isinstance(mask, dict):
        return {"size": mask["size"], "counts": mask["counts"].decode("ascii")}
    return [part.ravel().tolist() for part in mask]


def _segment_entries(annotations: SegmentMap, category_ids: Sequence[int]) -> list[dict[str, int]]:
    return [
        {"id": int(s.id), "category_id": category_ids[s.class_id], "iscrowd": int(s.is_crowd)}
        for s in annotations.segments
    ]


def _ids_as_png(ids: NDArray[np.int32], record: Record) -> bytes:
    """Grey with 8 or 16 bits where that is enough, else RGB as panoptic PNGs."""
    largest = int(ids.max(initial=0))
    if ids.min(initial=0) < 0 or largest > MAX_ID:
        raise ValueError(
            f"{record.image} has ids from {ids.min()} to {largest}, which a PNG cannot hold; "
            f"renumber its segments within 1..{MAX_ID}"
        )
    if largest <= np.iinfo(np.uint8).max:
        pixels = ids.astype(np.uint8)
    elif largest <= np.iinfo(np.uint16).max:
        pixels = ids.astype(np.uint16)
    else:
        pixels = ids_to_rgb(ids)
    return as_png(pixels)


def _suffix(record: Record, image: bytes) -> str:
    suffix = Path(record.image.name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return suffix
    starts = (s for start, s in STARTS.items() if image.startswith(start))
    return next(starts, ".webp" if image[8:12] == b"WEBP" else ".img")


def _escaped(name: str) -> str:
    """Readable and still one to one: a dot would start the suffix, a first slash the root."""
    escaped = name.replace("%", "%25").replace(".", "%2E").replace("\\", "%5C")
    return f"%2F{escaped[1:]}" if escaped.startswith("/") else escaped
