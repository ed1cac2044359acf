"""Copy-paste: objects of another training image, laid over one that is augmented already.

Source:
    Simple Copy-Paste (Ghiasi et al., CVPR 2021): two images are moved each by a geometry of its
    own, and a random subset of the objects of one is laid over the other at the same pixels.
    Nothing is blended at the edges, which did as well in the paper. Its release pastes over
    padding, too, and drops masks of which 300 pixels or fewer are left; here padding stays grey,
    since an outline could be read off it, and a mask is dropped when nothing of it is left.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from mask2former.data.annotations import Annotations, Instances
from mask2former.data.dataset import TaskDataset
from mask2former.data.geometry import Geometry, Size
from mask2former.types import Target


def check_sources(dataset: TaskDataset, probability: float) -> None:
    """See whether images of a data set can give objects to one another.

    Args:
        dataset: To train on.
        probability: That a sample gets objects; nothing is asked of the data set if it is 0.

    Raises:
        ValueError: It is made for semantic segmentation, has no things, or has one image only.
    """
    if probability == 0:
        return
    asked = f"data.copy_paste = {probability:g} pastes objects of other images"
    if dataset.tasks == ("semantic",):
        raise ValueError(
            f"{asked}, and a map of classes has none: all of a class is one region; train for "
            f"instance or panoptic segmentation, or leave data.copy_paste out"
        )
    if not any(dataset.classes.is_thing):
        raise ValueError(
            f"{asked}, and all classes of {dataset.folder} are stuff; mark those of objects as "
            f"things, or leave data.copy_paste out"
        )
    if len(dataset) == 1:
        raise ValueError(
            f"{asked}, and split {dataset.split!r} of {dataset.folder} has one image; add some, or "
            f"leave data.copy_paste out"
        )


def draw_other(index: int, num_images: int, generator: np.random.Generator) -> int:
    """One of the other images, each as likely.

    Args:
        index: Of the image that gets objects.
        num_images: At least 2.
        generator: One number is drawn.
    """
    drawn = int(generator.integers(num_images - 1))
    return drawn + (drawn >= index)


def choose_objects(
    annotations: Annotations, is_thing: Sequence[bool], generator: np.random.Generator
) -> Annotations:
    """A random part of the objects, in their order: any number of them, none and all included.

    Of the objects that a crop shows, any number is then as likely as any other, too: so they can
    be chosen before they are moved, which spares moving the others.

    Args:
        annotations: Of the image that gives.
        is_thing: One flag a class. Stuff is never chosen, nor are crowds.
        generator: Draws the number, then a permutation.

    Source:
        The release of Simple Copy-Paste draws the number uniformly from 0 to all.
    """
    is_list = isinstance(annotations, Instances)
    entries = annotations.items if is_list else annotations.segments
    objects = [i for i, one in enumerate(entries) if is_thing[one.class_id] and not one.is_crowd]
    count = int(generator.integers(len(objects), endpoint=True))
    chosen = sorted(generator.permutation(len(objects))[:count].tolist())
    if isinstance(annotations, Instances):
        return replace(annotations, items=tuple(annotations.items[objects[i]] for i in chosen))
    return replace(annotations, segments=tuple(annotations.segments[objects[i]] for i in chosen))


def cut_geometry(geometry: Geometry, size: Size) -> Geometry:
    """The top left part of the result that has room in `size`, without padding."""
    height, width = np.minimum(geometry.crop, size).tolist()
    top, left = geometry.offset
    if geometry.mirrored == "after":  # what is left then was right before
        left += geometry.crop[1] - width
    cut = (height, width)
    return replace(geometry, offset=(top, left), crop=cut, padded=cut)


def paste_objects(
    image: UInt8[Tensor, "3 h w"],
    target: Target,
    *,
    pasted_image: UInt8[Tensor, "3 height width"],
    pasted: Target,
) -> tuple[UInt8[Tensor, "3 h w"], Target]:
    """Lay objects over the top left part of an image.

    Args:
        image: Maybe padded.
        target: Of the image.
        pasted_image: No larger than the image, so that its objects cover nothing else; see
            `cut_geometry`.
        pasted: The objects, none of them empty; they may overlap one another.

    Returns:
        A new image and its target: first the masks of before, without the pixels that are covered
        and without the masks that are covered wholly, then the pasted ones. Masks that had no
        pixel before stay.
    """
    above = _planes(pasted.masks)
    covered = np.bitwise_or.reduce(above, axis=0) != 0
    height, width = covered.shape
    pixels = image.clone()
    np.copyto(pixels[:, :height, :width].numpy(), pasted_image.numpy(), where=covered)

    masks = _planes(target.masks)
    before = _present(masks)
    masks[:, :height, :width] &= np.where(covered, np.uint8(0), np.uint8(255))
    is_lost = _bits(before & ~_present(masks), len(target.labels))
    kept = np.flatnonzero(~is_lost)
    num_masks = len(kept) + len(pasted.labels)
    joined = np.zeros((math.ceil(num_masks / 8), *masks.shape[1:]), np.uint8)
    move_masks(masks, kept.tolist(), joined, first=0)
    place = joined[:, :height, :width]
    move_masks(above, range(len(pasted.labels)), place, first=len(kept))
    labels = torch.cat([target.labels[torch.from_numpy(kept)], pasted.labels])
    return pixels, Target(labels=labels, masks=_interleave(joined))


def move_masks(
    masks: UInt8[np.ndarray, "bytes h w"],
    mask_ids: Sequence[int],
    into: UInt8[np.ndarray, "more h w"],
    *,
    first: int,
) -> None:
    """Write some masks where there are none yet, in the given order.

    Bits that go from one byte to another by the same shift move together: in order and without
    gaps, those of a byte take two steps at most.

    Args:
        masks: Packed, the bytes apart.
        mask_ids: Of those to write.
        into: Likewise; changed in place.
        first: The position in `into` of the first of them.
    """
    moves: dict[tuple[int, int, int], int] = defaultdict(int)
    for position, mask_id in enumerate(mask_ids, start=first):
        shift = position % 8 - mask_id % 8
        moves[mask_id // 8, position // 8, shift] |= 1 << mask_id % 8
    for (from_byte, to_byte, shift), bits in moves.items():
        moved = masks[from_byte] & np.uint8(bits)
        into[to_byte] |= moved << shift if shift >= 0 else moved >> -shift


def _planes(masks: UInt8[Tensor, "h w bytes"]) -> UInt8[np.ndarray, "bytes h w"]:
    """Packed masks with the bytes apart, of which the processor takes many pixels at once."""
    height, width, num_bytes = masks.shape
    planes = np.empty((num_bytes, height, width), np.uint8)
    for i in range(num_bytes):  # three times as fast as all of them together
        planes[i] = masks[..., i].numpy()
    return planes


def _interleave(planes: UInt8[np.ndarray, "bytes h w"]) -> UInt8[Tensor, "h w bytes"]:
    """The inverse of `_planes`."""
    masks = np.empty((*planes.shape[1:], len(planes)), np.uint8)
    for i, plane in enumerate(planes):
        masks[..., i] = plane
    return torch.from_numpy(masks)


def _present(planes: UInt8[np.ndarray, "bytes h w"]) -> UInt8[np.ndarray, " bytes"]:
    """The bits of the masks that are not empty."""
    return np.bitwise_or.reduce(np.bitwise_or.reduce(planes, axis=1), axis=1)


def _bits(bytes_: UInt8[np.ndarray, " bytes"], num_masks: int) -> NDArray[np.bool_]:
    return np.unpackbits(bytes_, count=num_masks, bitorder="little").astype(bool)
