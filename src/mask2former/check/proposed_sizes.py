"""Proposals about pixels: how large images and crops are, and how many points of masks count."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from mask2former.check.needs import Needs, Proposal, value_of
from mask2former.check.sizes import MASK_STRIDE
from mask2former.config import LargeScaleJitter, Run

MULTIPLE = 32
"""Of the short side of evaluation and of both sides of crops, where they are proposed: the coarsest
stride of the network. Other sides only keep their proportion."""
ROUNDING = 1.05
"""Factor of the objects' sizes that the rounding of a crop may make in training."""
SMALL_SHARE = 0.1
"""Of the objects, the smallest ones, which decide."""
TOO_SMALL = 16
"""Pixels of the root of the area, after resizing: up to here the AI-TOD benchmark (Wang et al.,
2021) calls objects tiny; they have 4 x 4 pixels of the predicted masks."""
LARGE_ENOUGH = 32
"""Pixels of the root of the area, after resizing: from here COCO does not call objects small."""
LEAST_SIDE = 256
"""Pixels: backbones are pretrained at 224, and less leaves a few cells at stride 32."""
LARGEST_CROP = 1024
"""Pixels: as in the authors' recipes for COCO and Mapillary Vistas."""
LARGEST_SIDE = 2048
"""Pixels: as in the authors' recipe for Mapillary Vistas."""
MOST_POINTS = 12544
"""112 x 112, as in all recipes of the authors."""
WORTH_ENLARGING, WORTH_SHRINKING = 1.25, 1.4
"""Factors of a side from which on it is told: half the pixels more, or half of them less. Images
that are only blown up a little do no harm."""
SCALED_SIDES = ("data.test_size.max_long_side", "data.tta.short_sides", "data.tta.max_long_side")
SHORTEST_EDGE = ("data.augmentation.short_sides", "data.augmentation.max_long_side")
JITTER = ("data.augmentation.min_scale", "data.augmentation.max_scale")
FOLLOWS = "in proportion to data.test_size.short_side"
AS_LARGE = ", so that objects are as large in training"


def propose_sizes(needs: Needs, run: Run) -> Iterator[Proposal]:
    """Sizes at which small objects have some pixels and large images do not cost for nothing.

    Larger where a tenth of the objects would have fewer than 16 pixels a side, until they have
    them. Larger than four times the image, a pixel of the masks is less than a pixel of the image,
    which nobody has annotated. Smaller where images would only be blown up: not below their own
    size, and not so far that a tenth of the objects had fewer than 32 pixels. The crop follows up
    to what the authors train with, and all other sizes keep their proportion, so that objects are
    as large in training as in evaluation. Scales that are relative to a crop which cannot follow
    grow instead, so that it shows a smaller part of a larger image.

    Source:
        SNIP (Singh and Davis, 2018): networks are not robust to changes of scale, so detectors are
        to be trained at the scales that they are tested at. SNIPER (Singh et al., 2018) trains on
        crops of enlarged images, whose size does not grow with them.
    """
    if not len(needs.relative_sides):
        return
    now = run.data.test_size.short_side
    side = short_side(needs, now)
    if side / now < WORTH_ENLARGING and now / side < WORTH_SHRINKING:
        return
    yield Proposal("data.test_size.short_side", side, now, _reason(needs, now, side=side))
    factor = side / now
    for key in SCALED_SIDES:
        if value_of(run, key) is not None:
            yield _scaled(run, key, factor=factor, reason=FOLLOWS)
    yield from _propose_augmentation(run, factor)


def short_side(needs: Needs, now: int) -> int:
    """To which images should be resized for evaluation, in pixels; a multiple of 32 if not `now`.

    Args:
        needs: Of a data set with objects.
        now: What the preset resizes them to.
    """
    small = float(np.quantile(needs.relative_sides, SMALL_SHARE))
    if small * now < TOO_SMALL:
        magnified = MASK_STRIDE * float(np.median(needs.short_sides))
        return max(now, _rounded_up(min(TOO_SMALL / small, magnified, LARGEST_SIDE)))
    native = float(np.quantile(needs.short_sides, 1 - SMALL_SHARE))
    return min(now, _rounded_up(max(native, LARGE_ENOUGH / small, LEAST_SIDE)))


def _reason(needs: Needs, now: int, *, side: int) -> str:
    small = float(np.quantile(needs.relative_sides, SMALL_SHARE))
    if side < now:
        native = float(np.quantile(needs.short_sides, 1 - SMALL_SHARE))
        return (
            f"nine in ten images have a short side of {native:.0f} px or less, and nine in ten "
            f"objects still have {small * side:.0f} px or more (root of the area) when it is "
            f"{side} px"
        )
    tiles = "" if small * side > 0.9 * TOO_SMALL else "; tiles of the images would show them larger"
    return (
        f"a tenth of the objects have less than {small * now:.1f} px (root of the area) when the "
        f"short side is {now} px, and {small * side:.0f} px when it is {side} px, where "
        f"{TOO_SMALL} px are {TOO_SMALL // MASK_STRIDE} of the predicted masks{tiles}"
    )


def _propose_augmentation(run: Run, factor: float) -> Iterator[Proposal]:
    """As large objects in training as in evaluation, which resizes images by a factor more."""
    augmentation = run.data.augmentation
    now, crop = augmentation.crop, _proposed_crop(augmentation.crop, factor)
    if isinstance(augmentation, LargeScaleJitter):
        yield from _propose_scales(run, factor * math.sqrt(math.prod(now) / math.prod(crop)))
    else:
        for key in SHORTEST_EDGE:
            yield _scaled(run, key, factor=factor, reason=f"{FOLLOWS}{AS_LARGE}")
    if crop != now:
        limit = f", up to the {LARGEST_CROP} px of the published recipes" if factor > 1 else ""
        yield Proposal("data.augmentation.crop", list(crop), list(now), FOLLOWS + limit)
        yield from _propose_points(run, crop)


def _propose_scales(run: Run, factor: float) -> Iterator[Proposal]:
    """Other scales of large-scale jitter, which are relative to the crop."""
    if max(factor, 1 / factor) < ROUNDING:
        return
    for key in JITTER:
        now = value_of(run, key)
        reason = f"{FOLLOWS}, which the crop does not follow as far{AS_LARGE}"
        yield Proposal(key, float(f"{now * factor:.3g}"), now, reason)


def _propose_points(run: Run, crop: tuple[int, int]) -> Iterator[Proposal]:
    """As many points for a pixel of the crop as before, and at most the authors' number.

    Points are drawn where a mask is uncertain and at random; of more points than there are pixels
    of masks many would be the same.
    """
    now, before = run.loss.num_points, run.data.augmentation.crop
    areas = (crop[0] * crop[1], before[0] * before[1])
    wanted = min(round(now * areas[0] / areas[1]), max(now, MOST_POINTS))
    if max(wanted / now, now / wanted) >= WORTH_ENLARGING:
        reason = (
            f"a crop of {crop[0]} x {crop[1]} px has {areas[0] // MASK_STRIDE**2} pixels of masks, "
            f"instead of {areas[1] // MASK_STRIDE**2}"
        )
        yield Proposal("loss.num_points", wanted, now, reason)


def _scaled(run: Run, key: str, *, factor: float, reason: str) -> Proposal:
    now = value_of(run, key)
    value: Any = (
        [max(1, round(side * factor)) for side in now]
        if isinstance(now, list)
        else max(1, round(now * factor))
    )
    return Proposal(key, value, now, reason)


def _proposed_crop(crop: tuple[int, int], factor: float) -> tuple[int, int]:
    """Larger or smaller in the same shape; as it is where it has the largest size already."""
    largest = max(*crop, LARGEST_CROP)
    factor = min(factor, largest / max(crop))
    if factor == 1:
        return crop
    short = max(MULTIPLE, MULTIPLE * round(min(crop) * factor / MULTIPLE))
    height, width = (MULTIPLE * round(short * side / min(crop) / MULTIPLE) for side in crop)
    most = MULTIPLE * (largest // MULTIPLE)
    return min(height, most), min(width, most)


def _rounded_up(side: float | int) -> int:
    return MULTIPLE * math.ceil(side / MULTIPLE)
