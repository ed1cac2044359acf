"""What the pixels of a mask PNG mean: stored numbers, or colours of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray
from PIL import Image

from mask2former.data.class_tables import Color
from mask2former.data.formats.listing import first_few
from mask2former.data.images import BROKEN_FILE_ERRORS, read_image, read_label_map
from mask2former.data.problems import FaultError
from mask2former.masks.id_maps import compact_ids, rgb_to_ids

COLOR_MODES = ("RGB", "RGBA")
NUM_PROBED = 16
"""Masks of a split that are looked into before it is decided how they are coded."""
COLORS_SHOWN = 8
"""Of those that no table explains."""
LARGEST_VALUE = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class MaskCoding:
    """How the masks of a data set are to be read; picklable."""

    colors: tuple[tuple[int, Color], ...] = ()
    """(value, its colour) of each class; empty where masks hold values."""
    palette_means_colors: bool = False
    """Palettes are in another order than the values: what counts is the colour."""
    note: str = "Masks hold the value of each pixel."


def find_coding(masks: Sequence[Path], colors: Mapping[int, Color], class_list: Path) -> MaskCoding:
    """Look into some masks to see what they are made of. Damaged ones are skipped.

    RGB masks whose three channels are equal are grey ones that a program saved as RGB, unless all
    their colours are in the table. A palette is only how values are shown, unless its colours are
    in the table at other values: programs that shrink PNGs make palettes in any order.

    Args:
        masks: Of one split.
        colors: By value; may be empty.
        class_list: The file to write colours into, for messages.

    Raises:
        ValueError: There are RGB masks, and no colours are known.
    """
    step = max(1, len(masks) // NUM_PROBED)
    probes = [probe for path in masks[::step] if (probe := _probe(path, colors)) is not None]
    colored = [probe for probe in probes if probe.is_rgb]
    palettes = [probe for probe in probes if not probe.is_rgb]
    table = tuple(colors.items())
    if colored:
        if all(probe.is_grey for probe in colored) and not all(p.fits for p in colored):
            return MaskCoding(
                note="Masks are grey, saved as RGB: their value is that of a channel."
            )
        if not colors:
            raise ValueError(_no_table(colored, class_list))
        return MaskCoding(table, bool(palettes), "Masks are colour-coded, by the class list.")
    if any(not p.agrees for p in palettes) and all(p.fits for p in palettes):
        note = "Masks have palettes in another order than the class list: their colours are read."
        return MaskCoding(table, True, note)
    return MaskCoding()


def read_values(path: Path, coding: MaskCoding) -> NDArray[np.integer]:
    """The value of every pixel of a mask.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, has a colour of no class, or values out of range.
    """
    mode = _mode(path)
    if mode in COLOR_MODES or (mode == "P" and coding.palette_means_colors):
        rgb = read_image(path)
        return _look_up(rgb, coding.colors, path) if coding.colors else _one_channel(rgb, path)
    values = read_label_map(path)
    if values.min() < 0 or values.max() > LARGEST_VALUE:
        raise ValueError(
            f"mask {path} has pixel values from {values.min()} to {values.max()}; class ids go "
            f"from 0 to {LARGEST_VALUE}"
        )
    return values


def present_values(values: NDArray[np.integer]) -> list[int]:
    """Ascending.

    Args:
        values: In 0..LARGEST_VALUE.
    """
    return np.flatnonzero(np.bincount(values.ravel())).tolist()


def read_numbers(path: Path, *, void: Color | None = None) -> Int32[np.ndarray, "h w"]:
    """The number of the object of every pixel, 0 for none.

    Grey, palette and 16-bit PNGs hold it; in RGB ones each colour but black is an object, numbered
    from 1 by colour, or the number itself if the three channels are equal.

    Args:
        path: Of the PNG.
        void: A colour that is no object either.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged.
    """
    if _mode(path) not in COLOR_MODES:
        return read_values(path, MaskCoding()).astype(np.int32)
    rgb = read_image(path)
    if _channels_equal(rgb):
        return rgb[..., 0].astype(np.int32)
    codes = rgb_to_ids(rgb)
    none = {0} if void is None else {0, _code(void)}
    listed = [code for code in np.unique(codes).tolist() if code not in none]
    return compact_ids(codes, listed).astype(np.int32)


def _look_up(
    rgb: NDArray[np.uint8], colors: Sequence[tuple[int, Color]], path: Path
) -> NDArray[np.integer]:
    codes = rgb_to_ids(rgb)
    positions = compact_ids(codes, [_code(color) for _, color in colors])
    if not positions.all():
        unknown, counts = np.unique(codes[positions == 0], return_counts=True)
        most = int(counts.argmax())
        more = f" and {len(unknown) - 1} more colours" if len(unknown) > 1 else ""
        raise FaultError(
            f"mask {path} has {counts[most]} pixels of the colour {_color(int(unknown[most]))}"
            f"{more}, which the class list does not have; add the colour to it, or correct the "
            f"mask (smoothed edges and JPEG compression make such colours)",
            "unknown class",
        )
    return np.array([0, *(value for value, _ in colors)], np.int32)[positions]


def _one_channel(rgb: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if not _channels_equal(rgb):
        raise ValueError(
            f"mask {path} is in colour, but the other masks are grey; save it as they are, or give "
            f"every class a colour in the class list"
        )
    return rgb[..., 0]


def _mode(path: Path) -> str | None:
    """Pillow's name of the kind of pixels; none if the file is missing or damaged."""
    try:
        with Image.open(path) as image:
            return image.mode
    except BROKEN_FILE_ERRORS:
        return None  # told by the reader that decodes it


@dataclass(frozen=True)
class _Probe:
    """What a mask in colour or with a palette looks like."""

    path: Path
    is_rgb: bool
    found: tuple[Color, ...]
    is_grey: bool
    """The three channels are equal."""
    fits: bool
    """Every colour is in the table."""
    agrees: bool
    """Every stored value has the colour that the table gives it."""


def _probe(path: Path, colors: Mapping[int, Color]) -> _Probe | None:
    """None for masks that hold values, and for damaged ones: their reader tells."""
    mode = _mode(path)
    is_rgb = mode in COLOR_MODES
    if not is_rgb and not (mode == "P" and colors):
        return None
    try:
        rgb = read_image(path)
        stored = None if is_rgb else read_label_map(path)
    except ValueError:
        return None
    found = tuple(_color(code) for code in np.unique(rgb_to_ids(rgb)).tolist())
    return _Probe(
        path=path,
        is_rgb=is_rgb,
        found=found,
        is_grey=_channels_equal(rgb),
        fits=set(found) <= set(colors.values()),
        agrees=stored is not None
        and all(
            tuple(rgb[stored == value][0].tolist()) == colors.get(value)
            for value in present_values(stored)
        ),
    )


def _channels_equal(rgb: NDArray[np.uint8]) -> bool:
    return bool((rgb == rgb[..., :1]).all())


def _no_table(colored: Sequence[_Probe], class_list: Path) -> str:
    found = sorted({color for probe in colored for color in probe.found})
    listed = first_few([list(color) for color in found], COLORS_SHOWN)
    return (
        f"mask {colored[0].path} is colour-coded, and no class list says which colour is which "
        f"class; {len(colored)} masks that were looked into have the colours {listed}: write "
        f'{class_list} as {{"classes": [{{"name": "...", "color": [r, g, b]}}, ...]}}'
    )


def _code(color: Color) -> int:
    red, green, blue = color
    return red | green << 8 | blue << 16


def _color(code: int) -> Color:
    return code & 255, code >> 8 & 255, code >> 16
