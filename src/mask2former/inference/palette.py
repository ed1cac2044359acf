"""Colours of classes and of the instances of a class."""

import colorsys
from typing import TypeAlias

Color: TypeAlias = tuple[int, int, int]
"""RGB in 0..255"""

GOLDEN_RATIO = 0.618034
"""Steps of it around the colour circle never come close to an earlier one."""
TONES = ((0.80, 1.0), (0.95, 0.80), (0.55, 0.95), (0.70, 0.65))
"""(saturation, value), in turn, so that classes also differ where their hues are alike."""
SHADES = ((0.0, 1.0), (0.07, 0.78), (-0.07, 0.92), (0.035, 0.62), (-0.035, 0.84), (0.1, 0.7))
"""(shift of the hue, factor of the value) for the instances of a class, in turn."""


def class_color(class_id: int, instance: int = 0) -> Color:
    """The colour of a class, the same in every picture; its instances are shades of it."""
    saturation, value = TONES[class_id % len(TONES)]
    shift, factor = SHADES[instance % len(SHADES)]
    hue = (0.58 + class_id * GOLDEN_RATIO + shift) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value * factor)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_color(background: Color) -> Color:
    """Black or white, whichever stands out more."""
    red, green, blue = background
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)
