"""The geometric part of an augmentation: drawn first, as numbers, before any pixel is touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels"""


@dataclass(frozen=True)
class Geometry:
    """Mirror, resize, crop and pad as one map that is applied once."""

    source: Size
    """Of the image that comes in."""
    resized: Size
    """Of the whole image after scaling; only the part in the crop is ever computed."""
    offset: tuple[int, int]
    """(y, x) of the crop's corner in the resized image (mirrored already if `"before"`)."""
    crop: Size
    """Of the part that is kept."""
    padded: Size
    """Of the result: the crop at the top left, padding at the right and the bottom."""
    mirrored: Literal["before", "after"] | None = None
    """Left and right exchanged: before resizing, after cropping, or not."""

    @property
    def crop_box(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of the crop in the resized, never mirrored image."""
        top, left = self.offset
        height, width = self.crop
        if self.mirrored == "before":
            left = self.resized[1] - left - width
        return (top, left, top + height, left + width)

    @property
    def point_map(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Scale (x, y) and shift (x, y) that move a point of the source into the crop."""
        scale_y, scale_x = (self.resized[i] / self.source[i] for i in range(2))
        top, left, _, right = self.crop_box
        if self.mirrored is None:
            return (scale_x, scale_y), (float(-left), float(-top))
        return (-scale_x, scale_y), (float(right), float(-top))


def large_scale_jitter(
    source: Size,
    generator: np.random.Generator,
    *,
    crop: Size,
    min_scale: float,
    max_scale: float,
    flip_probability: float,
) -> Geometry:
    """Mirror, scale the image to fit `crop` times a random factor, crop or pad to `crop`.

    Draws, in this order: mirror, factor, position. One number positions the crop along both axes.

    Source:
        Mask2Former (Cheng et al., 2022), LSJ mappers: flip, ResizeScale, FixedSizeCrop of
        detectron2, with NumPy's rounding (halves to even). A side that would vanish keeps 1 pixel.
    """
    mirrored = "before" if generator.random() < flip_probability else None
    factor = generator.uniform(min_scale, max_scale)
    position = generator.uniform()
    target = np.multiply(crop, factor)
    resized = np.maximum(np.round(np.multiply(source, (target / source).min())), 1).astype(int)
    offset = np.round(np.maximum(resized - crop, 0) * position).astype(int)
    return Geometry(
        source=source,
        resized=_size(resized),
        offset=_size(offset),
        crop=_size(np.minimum(resized, crop)),
        padded=crop,
        mirrored=mirrored,
    )


def shortest_edge_crop(
    source: Size,
    generator: np.random.Generator,
    *,
    short_sides: Sequence[int],
    max_long_side: int,
    crop: Size,
    flip_probability: float,
    pad_to_crop: bool,
) -> Geometry:
    """Resize to a random short side, crop anywhere, mirror, pad to `crop` if asked to.

    Draws, in this order: short side, y, x of the crop, mirror.

    Source:
        Mask2Former (Cheng et al., 2022), semantic, panoptic and instance mappers:
        ResizeShortestEdge, RandomCrop (absolute), flip, padding to exactly the crop.
    """
    resized = shortest_edge_size(source, int(generator.choice(short_sides)), max_long_side)
    kept = (min(resized[0], crop[0]), min(resized[1], crop[1]))
    top = int(generator.integers(resized[0] - kept[0] + 1))
    left = int(generator.integers(resized[1] - kept[1] + 1))
    return Geometry(
        source=source,
        resized=resized,
        offset=(top, left),
        crop=kept,
        padded=crop if pad_to_crop else kept,
        mirrored="after" if generator.random() < flip_probability else None,
    )


def shortest_edge_size(source: Size, short_side: int, max_long_side: int) -> Size:
    """Size with the given short side, or smaller so that the long side stays in its limit.

    Source:
        detectron2 `ResizeShortestEdge`: both sides are rounded by floor(x + 0.5). A side that
        would vanish keeps 1 pixel.
    """
    height, width = source
    scale = short_side / min(height, width)
    new_height, new_width = (
        (short_side, scale * width) if height < width else (scale * height, short_side)
    )
    longest = max(new_height, new_width)
    if longest > max_long_side:
        new_height *= max_long_side / longest
        new_width *= max_long_side / longest
    return (max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1))


def _size(pair: np.ndarray) -> Size:
    return (int(pair[0]), int(pair[1]))
