"""Putting images into a converted data set: copied, hard-linked or left where they are."""

import io
import os
import struct
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from PIL import ExifTags, Image

from mask2former.data.dataset import Record
from mask2former.data.images import QUARTER_TURNS, read_image, read_image_size
from mask2former.data.sources import Source
from mask2former.data.writers.losses import Losses

ImageMode: TypeAlias = Literal["copy", "link", "none"]
IMAGE_MODES: tuple[ImageMode, ...] = get_args(ImageMode)
UPRIGHT = 1
"""EXIF orientation of an image that is shown as it is stored."""
EXIF_HEADER = b"Exif\0\0"


def place_image(
    record: Record, target: Path, mode: ImageMode, size: tuple[int, int], losses: Losses
) -> None:
    """Put the image of a record at a path.

    An image that was annotated as stored, though its camera's orientation tag turns it, loses the
    tag, so that every reader sees what was annotated.

    Args:
        record: Whose image.
        target: New file.
        mode: How.
        size: (height, width) in pixels of its annotations.
        losses: Is told of links that had to be copies, and of tags.

    Raises:
        FileNotFoundError: The image is missing.
        ValueError: The image is damaged, or of another size than its annotations.
    """
    if mode == "none":
        return
    source = record.image
    target.parent.mkdir(parents=True, exist_ok=True)
    if read_image_size(source) != size:
        target.write_bytes(_without_turn(source, size))
        losses.add(
            "orientation tags",
            "images were annotated as stored, before their orientation tag turns them: the copies "
            "have no tag",
        )
    elif mode == "link" and isinstance(source, Path):
        try:
            os.link(source.resolve(), target)
        except OSError:
            target.write_bytes(source.read_bytes())
            losses.add(
                "hard links", "images lie on another file system or allow no links: copied instead"
            )
    else:
        target.write_bytes(source.read_bytes())
        if mode == "link":
            losses.add("hard links", "images lie in archives and cannot be linked: written out")


def _without_turn(source: Source, size: tuple[int, int]) -> bytes:
    """The image with its orientation tag set to upright; nothing is decoded and coded again."""
    read_image(source, annotated_size=size)  # says what is wrong unless the tag explains it
    content = source.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        turns = image.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS
    start = content.find(EXIF_HEADER)
    if not turns or start < 0:
        raise ValueError(
            f"{source} is turned by its orientation tag but was annotated as stored, and the tag "
            f"of such a file cannot be taken out; save the image without it"
        )
    return _set_orientation(content, start + len(EXIF_HEADER))


def _set_orientation(content: bytes, start: int) -> bytes:
    """Write the tag's value in place.

    Source:
        TIFF 6.0: byte order, 42, offset of the directory; a count of entries, each of 12 bytes with
        tag, type, count and value.
    """
    order = "<" if content[start : start + 2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", content, start + 4)
    (num_entries,) = struct.unpack_from(f"{order}H", content, start + directory)
    changed = bytearray(content)
    for i in range(num_entries):
        entry = start + directory + 2 + 12 * i
        if struct.unpack_from(f"{order}H", content, entry)[0] == ExifTags.Base.Orientation:
            struct.pack_into(f"{order}H", changed, entry + 8, UPRIGHT)
    return bytes(changed)
