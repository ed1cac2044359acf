"""How much the boundaries of masks overlap."""

import math
from collections.abc import Sequence

import numpy as np

from mask2former.masks.rle_bits import MaskBits, rle_bits

DISTANCE_RATIO = 0.02
"""How far a boundary reaches into its mask, in diagonals of the image."""


def boundary_distance(height: int, width: int) -> int:
    """How far a boundary reaches into its mask, in pixels.

    Source:
        Boundary IoU (Cheng et al., 2021) and its tool, `mask_to_boundary`: halves are rounded to
        the even number.
    """
    return max(1, round(DISTANCE_RATIO * math.sqrt(height**2 + width**2)))


def find_boundaries(rles: Sequence[dict]) -> list[MaskBits]:
    """The pixels of each mask that are close to its outside, or to the border of the image.

    They are the mask less its erosion by a square whose sides are twice the distance, plus 1. Masks
    are integers of one bit a pixel: erosion is a few shifts and ANDs of whole masks.

    Args:
        rles: Compressed, of one size, which is the image's.
    """
    if not rles:
        return []
    height, width = rles[0]["size"]
    distance = boundary_distance(height, width)
    fits = np.zeros((width, height), bool)
    fits[:, : max(0, height - 2 * distance)] = True
    fits_bits = int.from_bytes(np.packbits(fits, bitorder="little").tobytes(), "little")
    return [_boundary(mask, distance, height, fits_bits) for mask in rle_bits(rles)]


def boundary_iou(a: MaskBits, b: MaskBits, height: int) -> float:
    """Intersection over union; 0 where no pixel is in both.

    Args:
        a: Boundary of one mask.
        b: That of another of the same image.
        height: Of the image in pixels.
    """
    if a.first_column > b.first_column:
        a, b = b, a
    shift = (b.first_column - a.first_column) * height
    common = ((a.bits >> shift) & b.bits).bit_count()
    return common / (a.area + b.area - common) if common else 0.0


def _boundary(mask: MaskBits, distance: int, height: int, fits: int) -> MaskBits:
    """Of one mask.

    Args:
        mask: Of the image.
        distance: From the outside, in pixels.
        height: Of the image in pixels.
        fits: Where a square that begins there does not reach below its column into the next.
    """
    side = 2 * distance + 1
    # bit p is set where the square that begins at p, upper left, lies inside the mask
    inner = _all_set(_all_set(mask.bits, side, 1) & fits, side, height)
    bits = mask.bits & ~(inner << (distance * (1 + height)))
    return MaskBits(bits, mask.first_column, bits.bit_count())


def _all_set(bits: int, length: int, step: int) -> int:
    """Bit p is set where bits p, p + step, ... are, `length` of them."""
    done = 1
    while done < length:
        more = min(done, length - done)
        bits &= bits >> (more * step)
        done += more
    return bits
