"""At which sizes the network sees one image, and whether mirrored: test-time augmentation."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mask2former.data.geometry import shortest_edge_size
from mask2former.inference.resize import Size

COMMON_SIZE = (1200, 1600)
"""Of a photo, by which costs are told: most have these proportions."""


class View(NamedTuple):
    """One way to show an image to the network."""

    size: Size
    flipped: bool
    """Left and right exchanged, after resizing."""


@dataclass(frozen=True)
class ViewSizes:
    """At which sizes one image is shown, by their short sides in pixels."""

    short_sides: tuple[int, ...]
    max_long_side: int
    """A view whose long side would have more pixels is made smaller."""
    flip: bool = True
    """Each size is shown mirrored as well."""

    def __post_init__(self) -> None:
        if min(self.short_sides, default=0) < 1 or self.max_long_side < 1:
            raise ValueError(
                f"short sides {self.short_sides} with long sides of at most {self.max_long_side} "
                "pixels; give one short side or more, and no size below 1"
            )

    def views(self, usual: Size, *, usual_first: bool) -> list[View]:
        """How one image is shown, in order.

        Args:
            usual: Its size in evaluation without augmentation. The image at this size, not the
                original, is resized again.
            usual_first: For what is built upon the usual view: it comes first, in the list or not,
                and no size comes twice.

        Source:
            Specification 5.2 and P20 of 8.1, with detectron2's order: each size plain, then
            mirrored. `usual_first` is ours.
        """
        sizes = [shortest_edge_size(usual, side, self.max_long_side) for side in self.short_sides]
        if usual_first:
            sizes = list(dict.fromkeys([usual, *sizes]))
        mirrored = (False, True) if self.flip else (False,)
        return [View(size, flipped) for size in sizes for flipped in mirrored]


def show(image: UInt8[Tensor, "3 h w"], view: View) -> UInt8[Tensor, "3 height width"]:
    """The image as the view has it, resized as for evaluation."""
    if tuple(image.shape[1:]) != view.size:
        height, width = view.size
        whole = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        resized = np.array(whole.resize((width, height), Image.Resampling.BILINEAR))
        image = torch.from_numpy(resized).permute(2, 0, 1)
    return image.flip(2) if view.flipped else image


def describe(views: list[View], usual: Size) -> str:
    """What the views of an image cost, in one line."""
    sizes = len({view.size for view in views})
    pixels = sum(view.size[0] * view.size[1] for view in views) / (usual[0] * usual[1])
    mirrored = ", each also mirrored" if any(view.flipped for view in views) else ""
    return (
        f"test-time augmentation: {len(views)} pass{'es' if len(views) > 1 else ''} an image "
        f"({sizes} size{'s' if sizes > 1 else ''}{mirrored}), about {pixels:.1f} times the pixels "
        "of one"
    )
