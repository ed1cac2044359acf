"""What a run's batches have shown so far: objects, and what augmentation left of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from mask2former.types import Classes, Target

MOSTLY_EMPTY = 0.9
"""Share of masks that augmentation may empty. The published runs on Mapillary Vistas empty those of
8 of 10 small objects: they crop a fifth of the image on average and keep what falls outside."""
ALWAYS = 100
"""Images in which all masks of a class are empty, from which on that is no chance: were each
emptied with a probability of 0.8, all of them would be in one of five billion classes."""
SHOWN = 5
"""Classes that a warning names."""


@dataclass
class DrawnObjects:
    """Counts, which add up over batches and ranks."""

    objects: list[int]
    """Of each class."""
    empty: list[int]
    """Objects of each class whose masks are empty."""
    images_with: list[int]
    """Images with objects of each class."""
    images_blank: list[int]
    """Of these, images in which all masks of the class are empty."""
    images: int = 0
    crowded: int = 0
    """Images with more objects than queries."""
    dropped: int = 0
    """Objects that get no query."""

    @classmethod
    def none_of(cls, num_classes: int) -> "DrawnObjects":
        """Nothing was drawn yet."""
        zeros = [0] * num_classes
        return cls(zeros, zeros.copy(), zeros.copy(), zeros.copy())

    def count(self, targets: Sequence[Target], num_queries: int) -> None:
        """Take in the images of a batch.

        Args:
            targets: On the CPU.
            num_queries: Of the model.
        """
        for target in targets:
            beyond = max(0, len(target.labels) - num_queries)
            self.images += 1
            self.crowded += beyond > 0
            self.dropped += beyond
            is_empty = empty_masks(target)
            labels = target.labels.numpy()
            for class_id in np.unique(labels).tolist():
                own = is_empty[labels == class_id]
                self.objects[class_id] += len(own)
                self.empty[class_id] += int(own.sum())
                self.images_with[class_id] += 1
                self.images_blank[class_id] += bool(own.all())

    def __add__(self, other: "DrawnObjects") -> "DrawnObjects":
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return DrawnObjects(*(_sum(ours, theirs) for ours, theirs in pairs))

    def state_dict(self) -> dict[str, Any]:
        """As plain values; `DrawnObjects(**state)` is the inverse."""
        return asdict(self)


def _sum(ours: Any, theirs: Any) -> Any:
    if isinstance(ours, list):
        return [a + b for a, b in zip(ours, theirs, strict=True)]
    return ours + theirs


def empty_masks(target: Target) -> Bool[np.ndarray, " m"]:
    """Which masks have no pixel; reads each byte of the packed masks once.

    Args:
        target: On the CPU.
    """
    height, width, num_bytes = target.masks.shape
    rows = target.masks.numpy().reshape(height, width * num_bytes)
    # over long rows first, which is many times as fast as over the few bytes of a pixel
    united = np.bitwise_or.reduce(rows, axis=0).reshape(width, num_bytes)
    bits = np.unpackbits(np.bitwise_or.reduce(united, axis=0), bitorder="little")
    return bits[: len(target.labels)] == 0


def unseen_classes(drawn: DrawnObjects, classes: Classes) -> str | None:
    """That classes have no object in what was drawn."""
    unseen = [name for name, seen in zip(classes.names, drawn.objects, strict=True) if not seen]
    if not unseen:
        return None
    return (
        f"{len(unseen)} of {len(classes)} classes had no object in the {drawn.images} images of "
        f"the first epoch: {_listed(unseen)}; the model cannot learn them: annotate some, take "
        "them out of the list of classes, or see whether augmentation cuts them away"
    )


def mostly_empty(drawn: DrawnObjects, knobs: str) -> str | None:
    """That augmentation leaves nothing of most objects.

    Args:
        drawn: In an epoch.
        knobs: Settings that cause it.
    """
    objects, empty = sum(drawn.objects), sum(drawn.empty)
    if not objects or empty <= MOSTLY_EMPTY * objects:
        return None
    return (
        f"{empty} of {objects} objects of the first epoch had an empty mask, because augmentation "
        f"cut them away; see {knobs}"
    )


def always_empty(drawn: DrawnObjects, classes: Classes, knobs: str) -> str | None:
    """That classes are seen, and never a pixel of them.

    Args:
        drawn: In an epoch.
        classes: Of the data.
        knobs: Settings that cause it.
    """
    names = [
        name
        for name, images, blank in zip(
            classes.names, drawn.images_with, drawn.images_blank, strict=True
        )
        if images >= ALWAYS and blank == images
    ]
    if not names:
        return None
    return (
        f"the masks of {_listed(names)} were empty in every image of the first epoch; see whether "
        f"their annotations have pixels, and {knobs}"
    )


def too_many_objects(drawn: DrawnObjects, num_queries: int) -> str | None:
    """That images have more objects than the model has queries."""
    if not drawn.dropped:
        return None
    return (
        f"{drawn.crowded} of the {drawn.images} images of the first epoch had more objects than "
        f"the model has queries ({num_queries}): {drawn.dropped} of {sum(drawn.objects)} objects "
        "were not learned from; raise model.num_queries"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
