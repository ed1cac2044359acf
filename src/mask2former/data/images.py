"""Reading image files: pictures as upright RGB, label files as the numbers they hold."""

import io
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from mask2former.data.sources import Source
from mask2former.masks.id_maps import rgb_to_ids

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
SIXTEEN_BIT_MODES = ("I", "I;16", "I;16L", "I;16B")
QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""
GREY_STEPS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies grey PNG values of 2 and 4 bits with, to spread them over 0..255."""
BROKEN_FILE_ERRORS = (OSError, SyntaxError, EOFError, ValueError, struct.error)
"""What Pillow raises for damaged files."""


def read_image(
    source: Source, annotated_size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture as RGB, upright.

    The camera's orientation tag (EXIF) is applied, unless only the stored pixels have the size
    that the annotations were drawn at. 16-bit grey is scaled so that 65535 is white; transparency
    is dropped.

    Args:
        source: Any format that Pillow reads.
        annotated_size: (height, width) in pixels as the annotations say; none skips the check.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, no picture, or of another size than its annotations.
    """
    stored = _load(source)
    is_tagged = stored.getexif().get(ExifTags.Base.Orientation, 1) != 1
    upright = ImageOps.exif_transpose(stored) if is_tagged else stored
    if annotated_size is None or _size(upright) == annotated_size:
        return _to_rgb(upright, source)
    if _size(stored) == annotated_size:
        return _to_rgb(stored, source)
    turned = f" ({_size(stored)} before its orientation tag)" if upright.size != stored.size else ""
    raise ValueError(
        f"{source} has size (h, w) = {_size(upright)}{turned} but its annotations were made at "
        f"{annotated_size}; give the image that was annotated, or correct the annotations"
    )


def read_image_size(source: Source) -> tuple[int, int]:
    """(height, width) of the upright picture in pixels, from the head of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no picture.
    """
    with _open(source) as image:
        # the method of PNG files would decode all of the picture, to look for a tag behind it
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        # Pillow turns TIFF files itself, and gives their size accordingly
        is_turned = orientation in QUARTER_TURNS and image.format != "TIFF"
        return (image.width, image.height) if is_turned else (image.height, image.width)


def read_label_map(source: Source) -> NDArray[np.integer]:
    """Read one number per pixel as stored: palette indices and 16-bit values stay what they are.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or has more than one channel.
    """
    image = _open(source)
    step = GREY_STEPS.get(_raw_mode(image), 1)
    image = _finish(image, source)
    if image.mode not in LABEL_MODES:
        raise ValueError(
            f"mask {source} has colour mode {image.mode}; a mask has one channel that holds class "
            f"ids (8-bit grey, 8-bit palette or 16-bit PNG), so save it as one of these"
        )
    values = np.asarray(image)
    if image.mode == "1":
        return values.astype(np.uint8)
    if image.mode == "L":
        return values // step
    return values


def read_panoptic_ids(source: Source) -> Int32[np.ndarray, "h w"]:
    """Read a panoptic PNG: the segment id of every pixel, coded in its colour.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or not in colour.
    """
    image = _load(source)
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(
            f"panoptic PNG {source} has colour mode {image.mode}; segment ids are coded as "
            f"red + 256 green + 65536 blue, so save it as 8-bit RGB"
        )
    return rgb_to_ids(np.asarray(image))


def _load(source: Source) -> Image.Image:
    return _finish(_open(source), source)


def _finish(image: Image.Image, source: Source) -> Image.Image:
    """Decode what was opened."""
    try:
        with image:
            image.load()
            return image
    except BROKEN_FILE_ERRORS as error:
        raise _broken(source, error) from error


def _open(source: Source) -> Image.Image:
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"no image file at {source}; restore it or correct the path")
    file = source if isinstance(source, Path) else io.BytesIO(source.read_bytes())
    try:
        return Image.open(file)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{source} is too large to read at once ({error}); cut it into tiles"
        ) from error
    except BROKEN_FILE_ERRORS as error:
        raise _broken(source, error) from error


def _broken(source: Source, error: Exception) -> ValueError:
    # Pillow names the path again, or the address of the bytes in memory
    is_unknown = isinstance(error, UnidentifiedImageError)
    reason = "its first bytes are of no known format" if is_unknown else error
    return ValueError(
        f"cannot read {source} as an image ({reason}); it is damaged or not an image: "
        f"replace it or take it out of the data set"
    )


def _size(image: Image.Image) -> tuple[int, int]:
    return (image.height, image.width)


def _to_rgb(image: Image.Image, source: Source) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode in SIXTEEN_BIT_MODES:  # Pillow's own conversion cuts off above 255
        grey = (np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError(
            f"{source} holds floating-point pixels, whose white is unknown; save it with 8 or 16 "
            f"bits a channel"
        )
    return np.asarray(image.convert("RGB"))


def _raw_mode(image: Image.Image) -> str:
    """How the pixels are stored, known until they are decoded."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return next((tile[3] for tile in tiles if isinstance(tile[3], str)), "")
