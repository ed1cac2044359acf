"""The annotations of Hugging Face data sets as they are decoded: masks and objects of one image."""

import io

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray
from PIL import Image

from mask2former.data.annotations import Instance, Instances, SegmentLabel, SegmentMap
from mask2former.data.dataset import Record
from mask2former.data.formats.huggingface_columns import Kind
from mask2former.data.images import (
    read_image_size,
    read_label_map,
    read_panoptic_ids,
)
from mask2former.data.sources import Source
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import canonical_rle, rle_area

COLORED = ("RGB", "RGBA")


def decode(
    record: Record, *, kind: Kind, category_ids: tuple[int, ...], ignored: int | None
) -> Instances | SegmentMap:
    """The annotations of one image.

    Args:
        record: From `read`.
        kind: Of the data set.
        category_ids: By class id.
        ignored: Value of class masks that is not scored, besides 0 where 0 is no class.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: An image is damaged or has values that are no classes.
    """
    if kind == "instance":
        return _instances(record)
    mask, segments = record.annotation
    if kind == "panoptic":
        ids = read_panoptic_ids(mask) if is_colored(mask) else read_label_map(mask)
        labels = tuple(SegmentLabel(*segment) for segment in segments)
        return SegmentMap(ids.astype(np.int32), labels)
    class_ids = {category_id: i for i, category_id in enumerate(category_ids)}
    if kind == "numbered":
        return _numbered_objects(mask, class_ids)
    return _class_mask(mask, class_ids, ignored)


def is_colored(mask: Source) -> bool:
    """Whether pixels have three channels, from the head of the file."""
    try:
        with Image.open(io.BytesIO(mask.read_bytes())) as image:
            return image.mode in COLORED
    except (OSError, SyntaxError, ValueError):
        return False  # whoever reads all of it tells what is wrong


def is_numbered(mask: Source) -> bool:
    """Whether a mask has classes in red and numbers of objects in green, as far as it shows."""
    if not is_colored(mask):
        return False
    colors = read_panoptic_ids(mask)
    return not (colors >> 16).any() and bool((colors >> 8).any())


def mask_values(mask: Source) -> list[int]:
    """Values of a class mask.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or in colours.
    """
    return np.unique(_read_classes(mask)).tolist()


def object_values(mask: Source) -> list[int]:
    """Values of red where green numbers an object.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged.
    """
    colors = read_panoptic_ids(mask)
    return np.unique(colors[colors >> 8 & 255 > 0] & 255).tolist()


def _instances(record: Record) -> Instances:
    height, width = record.height, record.width
    if height is None or width is None:
        height, width = read_image_size(record.image)
    items = []
    for packed in record.annotation:
        mask = packed.mask
        if isinstance(mask, dict):
            try:
                mask = canonical_rle(mask, height, width)
            except ValueError as error:
                raise ValueError(f"{record.image}: {error}") from error
        else:
            mask = tuple(np.reshape(part, (-1, 2)) for part in mask)
        area = packed.area
        if area is None:
            area = float(rle_area(mask_to_rle(mask, height, width)))
        items.append(Instance(packed.class_id, mask, packed.is_crowd, area))
    return Instances(height, width, tuple(items))


def _read_classes(mask: Source) -> NDArray[np.integer]:
    """Values of a class mask; grey masks that were saved in colour are understood."""
    if not is_colored(mask):
        return read_label_map(mask)
    colors = read_panoptic_ids(mask)
    grey = colors & 255
    if (colors != grey * 0x010101).any():
        raise ValueError(
            f"mask {mask} is in colours, which have no classes; give masks whose one channel holds "
            f"class ids, or red = class and green = number of the object"
        )
    return grey


def _class_mask(mask: Source, class_ids: dict[int, int], ignored: int | None) -> SegmentMap:
    values = _read_classes(mask)
    present = np.unique(values).tolist()
    table: Int32[np.ndarray, " values"] = np.zeros(max(present) + 1, np.int32)
    unscored = {ignored} if 0 in class_ids else {ignored, 0}
    for value in present:
        if value in class_ids and value != ignored:
            table[value] = class_ids[value] + 1
        elif value not in unscored:
            raise ValueError(
                f"mask {mask} has value {value}, but the classes have the values "
                f"{min(class_ids)} to {max(class_ids)} and {ignored} is ignored; add the class to "
                f"id2label.json or set the ignore index"
            )
    labels = (SegmentLabel(int(id_), int(id_) - 1) for id_ in np.unique(table[table > 0]))
    return SegmentMap(table[values], tuple(labels))


def _numbered_objects(mask: Source, class_ids: dict[int, int]) -> SegmentMap:
    """Ids are the numbers in green; red is the class."""
    colors = read_panoptic_ids(mask)
    numbers = colors >> 8 & 255
    segments: dict[int, SegmentLabel] = {}
    for pair in np.unique(colors & 0xFFFF).tolist():
        number, value = divmod(pair, 256)
        if number == 0:
            continue
        if value not in class_ids or number in segments:
            raise ValueError(
                f"mask {mask}: object {number} (green) has "
                f"{'two classes' if number in segments else f'class {value}'} (red), but the "
                f"classes have the values {min(class_ids)} to {max(class_ids)}; correct the mask"
            )
        segments[number] = SegmentLabel(number, class_ids[value])
    return SegmentMap(numbers, tuple(segments.values()))
