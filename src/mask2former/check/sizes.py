"""How large objects are once their image has been resized for the network, and which vanish."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mask2former.check.facts import ImageFacts
from mask2former.check.findings import Finding, finding
from mask2former.check.survey import Split
from mask2former.config import Data, LargeScaleJitter
from mask2former.data.geometry import Size, shortest_edge_size

MASK_STRIDE = 4
"""Input pixels per pixel of the predicted masks."""
DRAWS = 33
"""Of a random scale, at equal steps from its least to its largest."""
MAX_VANISHING = 0.01
"""Share of the objects that may vanish in evaluation before it is worth a warning."""
SHOWN = 4
"""Images that lose most, for pictures."""
Scales: TypeAlias = Callable[[Size], NDArray[np.float64]]
"""The equally likely factors that an image of a size is resized by."""


@dataclass(frozen=True)
class Vanishing:
    """Shares of objects, in [0, 1]; none without objects."""

    gone: float | None
    """Smaller than a pixel of the network's input."""
    below_stride: float | None
    """Smaller than a pixel of the predicted masks."""

    def as_json(self) -> dict[str, Any]:
        return {"gone": self.gone, "below_one_mask_pixel": self.below_stride}


def evaluation_scales(data: Data) -> Scales:
    """As images are resized for evaluation."""

    def scales(size: Size) -> NDArray[np.float64]:
        resized = shortest_edge_size(size, data.test_size.short_side, data.test_size.max_long_side)
        return np.array([resized[0] / size[0]])

    return scales


def training_scales(data: Data) -> Scales:
    """As images are resized for training, whatever is cropped afterwards."""
    augmentation = data.augmentation

    def scales(size: Size) -> NDArray[np.float64]:
        if isinstance(augmentation, LargeScaleJitter):
            factors = np.linspace(augmentation.min_scale, augmentation.max_scale, DRAWS)
            return factors * min(np.divide(augmentation.crop, size))
        sides = augmentation.short_sides
        resized = [shortest_edge_size(size, side, augmentation.max_long_side) for side in sides]
        return np.array([height / size[0] for height, _ in resized])

    return scales


def vanishing(split: Split, scales: Scales) -> Vanishing:
    """Shares of a split's objects, averaged over the scales; crowds do not count."""
    areas, factors = _by_size(split.images, scales)
    if not areas:
        return Vanishing(None, None)
    resized = [np.outer(a, f * f) for a, f in zip(areas, factors, strict=True)]
    total = sum(len(a) for a in areas)
    shares = [
        sum(float((r < limit).mean(axis=1).sum()) for r in resized) / total
        for limit in (1, MASK_STRIDE**2)
    ]
    return Vanishing(*shares)


def vanishing_findings(split: Split, data: Data) -> list[Finding]:
    """A warning with the images concerned when too many objects vanish in evaluation."""
    scales = evaluation_scales(data)
    share = vanishing(split, scales).below_stride
    if share is None or share <= MAX_VANISHING:
        return []
    counts = [(_count_vanishing(image, scales), image) for image in split.images]
    worst = sorted(counts, key=lambda pair: -pair[0])[:SHOWN]
    image = worst[0][1]
    return [
        finding(
            "vanishing objects",
            f"{share:.1%} of the objects of split {split.name} are smaller than one pixel of the "
            f"predicted masks when images are resized for evaluation (short side "
            f"{data.test_size.short_side}, long side at most {data.test_size.max_long_side}), most "
            f"of them in {image.file}; raise data.test_size and the crop of training, cut the "
            f"images into tiles, or take such objects out",
            is_error=False,
            file=image.file,
            image_id=image.image_id,
            places=tuple(image.place for count, image in worst if count),
            weight=share,
        )
    ]


def _count_vanishing(image: ImageFacts, scales: Scales) -> int:
    if image.size is None:
        return 0
    factor = float(scales(image.size)[0])
    return int((_areas(image) * factor**2 < MASK_STRIDE**2).sum())


def _areas(image: ImageFacts) -> NDArray[np.float64]:
    """Of the objects that are there to vanish: not of those wholly outside or without area."""
    areas = image.objects["area"][~image.objects["is_crowd"]]
    return areas[areas > 0]


def _by_size(
    images: Sequence[ImageFacts], scales: Scales
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Areas of the objects of all images of one size, and its scales."""
    by_size: dict[Size, list[NDArray[np.float64]]] = {}
    for image in images:
        if image.size is not None and len(areas := _areas(image)):
            by_size.setdefault(image.size, []).append(areas)
    return [np.concatenate(a) for a in by_size.values()], [scales(size) for size in by_size]
