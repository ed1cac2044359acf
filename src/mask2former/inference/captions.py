"""Text on pictures: where it goes, how large it is, and that it can be read."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_cdt

from mask2former.inference.palette import Color, text_color

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

Font: TypeAlias = ImageFont.FreeTypeFont

SMALLEST_FONT = 9
"""Pixels; smaller letters cannot be told apart."""
SMALLEST_PICTURE = 48
"""Pixels of the short side; below, a caption would hide what it names."""


class Caption(NamedTuple):
    text: str
    color: Color
    center: tuple[int, int]
    """(x, y) where it should be."""


def write_captions(picture: Image.Image, captions: Sequence[Caption]) -> None:
    """Write every caption on a box of its colour, near its place, with little overlap."""
    if min(picture.size) < SMALLEST_PICTURE:
        return
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(font_size(picture.size))
    assert isinstance(font, ImageFont.FreeTypeFont)  # as Pillow's wheels have it
    placed: list[Box] = []
    for caption in captions:
        text = _fitting(caption.text, font, picture.width)
        if not text:
            continue
        box = _place(_text_size(text, font), caption.center, picture.size, placed)
        placed.append(box)
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=caption.color)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        draw.text(middle, text, fill=text_color(caption.color), font=font, anchor="mm")


def font_size(size_wh: tuple[int, int]) -> int:
    """Pixels; 13 in a picture of 640 x 480."""
    return max(SMALLEST_FONT, round(math.sqrt(size_wh[0] * size_wh[1]) / 44))


def inner_point(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int]:
    """(x, y) of the pixel that lies deepest inside the largest part of a mask."""
    step = max(1, max(mask.shape) // 48)
    small = mask[::step, ::step]
    if not small.any():
        y, x = np.argwhere(mask)[0].tolist()
        return x, y
    depth = distance_transform_cdt(np.pad(small, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x) * step, int(y) * step


def _fitting(text: str, font: Font, width: int) -> str:
    """The text, or as much of it as the picture is wide; empty when that is too little to read."""
    words = text.rsplit(" ", 1)
    shorter = [words[0]] + [f"{words[0][:n]}…" for n in range(len(words[0]) - 1, 2, -1)]
    candidates = (text, *shorter)
    return next((t for t in candidates if _text_size(t, font)[0] <= width), "")


def _text_size(text: str, font: Font) -> tuple[int, int]:
    """(width, height) of the box around it; the height does not depend on the letters."""
    ascent, descent = font.getmetrics()
    margin = max(1, round(font.size / 5))
    return math.ceil(font.getlength(text)) + 2 * margin, ascent + descent


def _place(
    size_wh: tuple[int, int],
    center: tuple[int, int],
    picture_wh: tuple[int, int],
    placed: Iterable[Box],
) -> Box:
    """The box that hides least of those already placed; of equal ones the nearest."""
    width, height = size_wh
    placed = list(placed)

    def at(half_widths: int, heights: int) -> Box:
        left = round(center[0] - width / 2 + half_widths * width / 2)
        top = round(center[1] - height / 2 + heights * height)
        left = min(max(left, 0), picture_wh[0] - width)
        top = min(max(top, 0), max(0, picture_wh[1] - height))
        return left, top, left + width, top + height

    steps = sorted(
        ((x, y) for x in (-1, 0, 1) for y in (-3, -2, -1, 0, 1, 2, 3)),
        key=lambda step: 2 * abs(step[0]) + abs(step[1]),
    )
    return min((at(*step) for step in steps), key=lambda box: sum(_shared(box, b) for b in placed))


def _shared(a: Box, b: Box) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)
