"""Reading image files: pictures as upright RGB, label files as the numbers they hold."""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from mask2former.masks.id_maps import rgb_to_ids

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
SIXTEEN_BIT_MODES = ("I", "I;16", "I;16L", "I;16B")
QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""
BROKEN_FILE_ERRORS = (OSError, SyntaxError, EOFError, ValueError, struct.error)
"""What Pillow raises for damaged files."""


def read_image(
    path: Path, annotated_size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture as RGB, upright.

    The camera's orientation tag (EXIF) is applied, unless only the stored pixels have the size
    that the annotations were drawn at. 16-bit grey is scaled so that 65535 is white; transparency
    is dropped.

    Args:
        path: Any format that Pillow reads.
        annotated_size: (height, width) in pixels as the annotations say; none skips the check.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, no picture, or of another size than its annotations.
    """
    stored = _load(path)
    upright = ImageOps.exif_transpose(stored)
    if annotated_size is None or _size(upright) == annotated_size:
        return _to_rgb(upright, path)
    if _size(stored) == annotated_size:
        return _to_rgb(stored, path)
    turned = f" ({_size(stored)} before its orientation tag)" if upright.size != stored.size else ""
    raise ValueError(
        f"{path} has size (h, w) = {_size(upright)}{turned} but its annotations were made at "
        f"{annotated_size}; give the image that was annotated, or correct the annotations"
    )


def read_image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright picture in pixels, from the head of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no picture.
    """
    with _open(path) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        # Pillow turns TIFF files itself, and gives their size accordingly
        is_turned = orientation in QUARTER_TURNS and image.format != "TIFF"
        return (image.width, image.height) if is_turned else (image.height, image.width)


def read_label_map(path: Path) -> NDArray[np.integer]:
    """Read one number per pixel as stored: palette indices and 16-bit values stay what they are.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or has more than one channel.
    """
    image = _load(path)
    if image.mode not in LABEL_MODES:
        raise ValueError(
            f"mask {path} has colour mode {image.mode}; a mask has one channel that holds class "
            f"ids (8-bit grey, 8-bit palette or 16-bit PNG), so save it as one of these"
        )
    values = np.asarray(image)
    if image.mode == "1":
        return values.astype(np.uint8)
    if image.mode == "L":
        return values // _grey_step(path)
    return values


def read_panoptic_ids(path: Path) -> Int32[np.ndarray, "h w"]:
    """Read a panoptic PNG: the segment id of every pixel, coded in its colour.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or not in colour.
    """
    image = _load(path)
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(
            f"panoptic PNG {path} has colour mode {image.mode}; segment ids are coded as "
            f"red + 256 green + 65536 blue, so save it as 8-bit RGB"
        )
    return rgb_to_ids(np.asarray(image))


def _load(path: Path) -> Image.Image:
    image = _open(path)
    try:
        with image:
            image.load()
            return image
    except BROKEN_FILE_ERRORS as error:
        raise _broken(path, error) from error


def _open(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"no image file at {path}; restore it or correct the path")
    try:
        return Image.open(path)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} is too large to read at once ({error}); cut it into tiles"
        ) from error
    except BROKEN_FILE_ERRORS as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"cannot read {path} as an image ({error}); it is damaged or not an image: "
        f"replace it or take it out of the data set"
    )


def _size(image: Image.Image) -> tuple[int, int]:
    return (image.height, image.width)


def _to_rgb(image: Image.Image, path: Path) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode in SIXTEEN_BIT_MODES:  # Pillow's own conversion cuts off above 255
        grey = (np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError(
            f"{path} holds floating-point pixels, whose white is unknown; save it with 8 or 16 "
            f"bits a channel"
        )
    return np.asarray(image.convert("RGB"))


def _grey_step(path: Path) -> int:
    """What Pillow multiplies grey PNG values with: it spreads 2 and 4 bits over 0..255."""
    with path.open("rb") as file:
        header = file.read(26)
    if header[:8] != b"\x89PNG\r\n\x1a\n":
        return 1
    bits, is_grey = header[24], header[25] == 0
    return 255 // (2**bits - 1) if is_grey and bits in (2, 4) else 1
