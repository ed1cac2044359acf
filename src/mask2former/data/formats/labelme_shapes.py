"""LabelMe's shapes: what each covers, and what those of one object cover together."""

import base64
import binascii
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mask2former.data.annotations import Mask
from mask2former.data.formats.coco_masks import FARTHEST_POINT
from mask2former.data.formats.faults import Fault
from mask2former.data.images import BROKEN_FILE_ERRORS
from mask2former.masks.polygons import mask_to_rle, polygons_to_rle
from mask2former.masks.rle import coco_mask, decode_rle, encode_mask, rle_area

IGNORED_LABEL = "__ignore__"
BACKGROUND_LABEL = "_background_"
HOLE_LABEL = "__hole__"
HOLE_FLAG = "hole"
SPECIAL_LABELS = (IGNORED_LABEL, BACKGROUND_LABEL, HOLE_LABEL)
WITHOUT_AREA = ("point", "points", "line", "linestrip")
FOUR_CORNERS = ("oriented_rectangle", "rotation")
"""Of LabelMe and of X-AnyLabeling."""
ACCEPTED = "polygon, rectangle, oriented_rectangle, rotation, circle, mask"
MOST_SIDES = 720
"""Of the polygon that stands for a circle."""


class Bitmap(NamedTuple):
    """A mask that was painted, not drawn."""

    left: int
    top: int
    png: bytes


Region: TypeAlias = NDArray[np.float64] | Bitmap
"""A polygon, (n, 2) as (x, y) in pixels, or a bitmap."""


@dataclass
class Part:
    """One shape of an object."""

    region: Region
    is_hole: bool = False
    """It was marked as one."""
    cuts: list[Region] = field(default_factory=list)
    """Background that was drawn over it."""


def read_region(shape: dict[str, Any], height: int, width: int) -> Region | Fault:
    """What one shape covers, or why it covers nothing."""
    kind = shape.get("shape_type") or "polygon"
    if kind in WITHOUT_AREA:
        return Fault("no mask", f"is a {kind}, which has no area, and is left out", False)
    try:
        points = np.asarray(shape.get("points"), np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        points = np.array([[np.nan, np.nan]])
    if not (np.abs(points) < FARTHEST_POINT).all():  # also true of NaN
        return Fault("bad polygon", "has points that are no pairs of numbers; draw it anew", True)
    if kind == "mask":
        region = _bitmap(shape, points)
    elif kind in ("polygon", *FOUR_CORNERS):
        region = points
    elif kind == "rectangle":
        region = _corners(points)
    elif kind == "circle":
        region = _circle(points)
    else:
        return Fault("no mask", f"is of the type {kind!r}; accepted: {ACCEPTED}", True)
    return _check(region, height, width) if isinstance(region, np.ndarray) else region


def object_mask(parts: Sequence[Part], height: int, width: int) -> Mask:
    """Polygons if their union is the object, else an RLE.

    A part that lies inside another one of its object is a hole, since it would add nothing to a
    union; a part inside a hole is filled again, and so on.
    """
    regions = [part.region for part in parts]
    polygons = tuple(region for region in regions if isinstance(region, np.ndarray))
    plain = len(polygons) == len(parts) and not any(part.is_hole or part.cuts for part in parts)
    if plain and len(parts) == 1:
        return polygons
    rles = [_rle(region, height, width) for region in regions]
    depths = [sum(_is_inside(rle, other) for other in rles) for rle in rles]
    if plain and not any(depths):
        return polygons
    mask = np.zeros((height, width), bool)
    for i in sorted(range(len(parts)), key=lambda i: (parts[i].is_hole, depths[i])):
        inside = decode_rle(rles[i])
        if parts[i].is_hole or depths[i] % 2:
            mask &= ~inside
            continue
        for cut in parts[i].cuts:
            inside = inside & ~decode_rle(_rle(cut, height, width))
        mask |= inside
    return encode_mask(mask)


def ignored_mask(part: Part, above: Sequence[Mask], height: int, width: int) -> Mask | None:
    """What is to be ignored; none if nothing is.

    Args:
        part: As drawn.
        above: Masks of the objects that were drawn later.
        height: Of the image in pixels.
        width: Of the image in pixels.

    Source:
        LabelMe's converter to VOC, which draws all shapes in file order.
    """
    mask = object_mask((part,), height, width)
    rle = mask_to_rle(mask, height, width)
    drawn_over = [mask_to_rle(other, height, width) for other in above]
    covering = [other for other in drawn_over if _shared_area(rle, other)]
    if covering:
        mask = rle = encode_mask(decode_rle(rle) & ~decode_rle(coco_mask.merge(covering)))
    return mask if rle_area(rle) else None


def _check(points: NDArray[np.float64], height: int, width: int) -> Region | Fault:
    if len(points) < 3 or _enclosed(points) == 0:
        message = f"has {len(points)} points that enclose no area, and is left out"
        return Fault("degenerate polygon", message, False)
    low, high = points.min(axis=0), points.max(axis=0)
    if (high <= 0).any() or (low >= (width, height)).any():
        message = (
            f"lies outside the image, from (x, y) = {tuple(low.tolist())} to "
            f"{tuple(high.tolist())} where (w, h) = {(width, height)}; move it or take it out"
        )
        return Fault("mask outside image", message, True)
    return points


def _enclosed(points: NDArray[np.float64]) -> float:
    """Area of a polygon by the shoelace formula, in pixels."""
    x, y = points.T
    last = x[-1] * y[0] - y[-1] * x[0]
    return abs(float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + last)) / 2


def _corners(points: NDArray[np.float64]) -> NDArray[np.float64] | Fault:
    """A rectangle is two opposite corners, or all four."""
    if len(points) == 4:
        return points
    if len(points) != 2:
        return Fault("bad polygon", f"is a rectangle of {len(points)} points; give 2 or 4", True)
    (x1, y1), (x2, y2) = points
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def _circle(points: NDArray[np.float64]) -> NDArray[np.float64] | Fault:
    """A circle is its centre and a point on it; as a polygon with a corner per pixel."""
    if len(points) != 2:
        message = f"is a circle of {len(points)} points; give the centre and a point on it"
        return Fault("bad polygon", message, True)
    center, radius = points[0], float(np.linalg.norm(points[1] - points[0]))
    sides = min(max(math.ceil(2 * math.pi * radius), 12), MOST_SIDES)
    angles = np.arange(sides) * (2 * math.pi / sides)
    return center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _bitmap(shape: dict[str, Any], points: NDArray[np.float64]) -> Bitmap | Fault:
    try:
        png = base64.b64decode(shape["mask"], validate=True)
        _decode_png(png)
        left, top = points[0].round().astype(int).tolist()
    except (KeyError, IndexError, TypeError, binascii.Error, *BROKEN_FILE_ERRORS):
        message = "is a mask without a readable 'mask' (a PNG in base64) or 'points' (its box)"
        return Fault("no mask", f"{message}; draw it anew", True)
    return Bitmap(left, top, png)


def _decode_png(png: bytes) -> NDArray[np.bool_]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("I")) > 0


def _rle(region: Region, height: int, width: int) -> dict:
    if not isinstance(region, Bitmap):
        return polygons_to_rle([region], height, width)
    crop = _decode_png(region.png)
    mask = np.zeros((height, width), bool)
    top, left = max(region.top, 0), max(region.left, 0)
    crop = crop[top - region.top :, left - region.left :][: height - top, : width - left]
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return encode_mask(mask)


def _is_inside(rle: dict, other: dict) -> bool:
    area = rle_area(rle)
    return 0 < area < rle_area(other) and _shared_area(rle, other) == area


def _shared_area(rle: dict, other: dict) -> int:
    """Pixels that are in both."""
    return int(coco_mask.area(coco_mask.merge([rle, other], intersect=True)))
