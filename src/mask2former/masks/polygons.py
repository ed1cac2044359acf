"""Polygons: moved as coordinates, filled as pycocotools fills them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from mask2former.masks.rle import coco_mask, decode_rle

Polygons = Sequence[NDArray[np.float64]]
"""Parts of one object, each (n, 2) as (x, y) in pixels, n >= 3; pixel i covers [i, i + 1)."""


def move_polygons(
    polygons: Polygons, scale_xy: tuple[float, float], shift_xy: tuple[float, float]
) -> tuple[NDArray[np.float64], ...]:
    """Apply `point * scale + shift` to every point."""
    return tuple(points * scale_xy + shift_xy for points in polygons)


def polygons_to_rle(polygons: Polygons, height: int, width: int) -> dict:
    """Union of the parts inside an image, as an RLE.

    Points may lie outside the image: what is outside is cut away after filling. This differs from
    the authors' release, which intersects the outline with the crop first, where rounding to
    pycocotools' grid of 1/5 pixel moves the new corners at the border.
    """
    parts = coco_mask.frPyObjects([points.ravel() for points in polygons], height, width)
    return coco_mask.merge(parts)


def mask_to_rle(mask: Polygons | dict, height: int, width: int) -> dict:
    """The mask of an object, which annotations hold as polygons or as an RLE, as an RLE."""
    return mask if isinstance(mask, dict) else polygons_to_rle(mask, height, width)


def rasterize_polygons(polygons: Polygons, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Union of the parts, equal to pycocotools bit by bit."""
    return decode_rle(polygons_to_rle(polygons, height, width))
