"""How the prediction of one picture changed: columns side by side in one file that grows."""

import json
import math
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from mask2former.files import replacing

MOST_COLUMNS = 8
"""Of predictions and of what else stands beside them."""
TALLEST = 400
"""Pixels of a picture in a strip; taller ones are made smaller."""
GAP = 6
FONT_SIZE = 15
HEAD = 26
"""Pixels above a picture, for its label."""
PAPER, INK = (255, 255, 255), (28, 35, 48)
COLUMNS_KEY = "columns"
"""Of the file's text, which says what its columns are."""


class Column(NamedTuple):
    """A picture of a strip under its label."""

    label: str | int
    picture: Image.Image


def extend_strip(path: Path, picture: Image.Image, label: str | int) -> None:
    """Add a picture at the right end of a strip, or begin one.

    Where there is no room for a further column, a step goes that leaves the others spread evenly on
    a logarithmic axis, since a model changes most at first. Columns of steps from a new one's on,
    which a resumed run made in its earlier life, go as well.

    Args:
        path: Of the PNG file.
        picture: Made as tall as the strip's first picture.
        label: A step, or what else the column shows, such as "ground truth": such a column stays,
            and is replaced by a later one of its label.

    Raises:
        ValueError: The file is none that this function wrote.
    """
    columns = read_strip(path) if path.is_file() else []
    columns = [column for column in columns if not _is_replaced(column.label, label)]
    height = columns[0].picture.height if columns else min(picture.height, TALLEST)
    width = max(1, round(picture.width * height / picture.height))
    columns.append(Column(label, picture.convert("RGB").resize((width, height))))
    while len(columns) > MOST_COLUMNS:
        del columns[_most_crowded([column.label for column in columns])]
    _write(path, columns)


def read_strip(path: Path) -> list[Column]:
    """The columns of a strip, from the left.

    Raises:
        ValueError: The file is none that `extend_strip` wrote.
    """
    with Image.open(path) as strip:
        strip.load()
        text = strip.info.get(COLUMNS_KEY)
        if text is None:
            raise ValueError(f"{path} is no strip of pictures; take it away or give another path")
        columns, left = [], 0
        for label, width in json.loads(text):
            columns.append(Column(label, strip.crop((left, HEAD, left + width, strip.height))))
            left += width + GAP
    return columns


def _is_replaced(label: str | int, new: str | int) -> bool:
    if isinstance(label, int) and isinstance(new, int):
        return label >= new
    return label == new


def _most_crowded(labels: list[str | int]) -> int:
    """Index of the step whose neighbours are the closest in ratio; never the first or the last."""
    steps = [(i, label) for i, label in enumerate(labels) if isinstance(label, int)]
    if len(steps) < 3:
        return steps[0][0] if steps else 0
    ratios = [
        math.log((after + 1) / (before + 1))
        for (_, before), (_, after) in zip(steps, steps[2:], strict=False)
    ]
    return steps[1 + ratios.index(min(ratios))][0]


def _write(path: Path, columns: list[Column]) -> None:
    widths = [column.picture.width for column in columns]
    size_wh = (sum(widths) + GAP * (len(columns) - 1), HEAD + columns[0].picture.height)
    strip = Image.new("RGB", size_wh, PAPER)
    draw = ImageDraw.Draw(strip)
    left = 0
    for label, picture in columns:
        strip.paste(picture, (left, HEAD))
        text = f"step {label:,}" if isinstance(label, int) else label
        draw.text((left + picture.width / 2, HEAD / 2), text, INK, _fitting(text, picture), "mm")
        left += picture.width + GAP
    about = PngImagePlugin.PngInfo()
    labels = [[column.label, width] for column, width in zip(columns, widths, strict=True)]
    about.add_text(COLUMNS_KEY, json.dumps(labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        strip.save(unfinished, format="PNG", pnginfo=about)


def _fitting(text: str, picture: Image.Image) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """A font in which the text is no wider than the picture, as far as it can be read."""
    fonts = (ImageFont.load_default(size) for size in range(FONT_SIZE, 8, -1))
    smallest = ImageFont.load_default(8)
    return next((font for font in fonts if font.getlength(text) <= picture.width), smallest)
