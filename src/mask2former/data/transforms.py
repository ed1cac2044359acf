"""One image with its annotations, moved by one geometry, becomes one training sample."""

from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mask2former.data.annotations import (
    Annotations,
    Instances,
    SegmentMap,
    annotation_size,
)
from mask2former.data.color import jitter_colors
from mask2former.data.geometry import Geometry, Size, shortest_edge_size
from mask2former.masks.id_maps import compact_ids, pack_compact_ids
from mask2former.masks.polygons import move_polygons, polygons_to_rle
from mask2former.masks.rle import decode_rle, encode_mask, pack_rles, rle_area, rle_box
from mask2former.tasks import Task
from mask2former.types import Target

WORTH_RESIZING_WHOLE = 0.45
"""Share of the resized image that is kept, from which on resizing all of it is faster."""
PADDING = 128
"""Grey level around images that are smaller than the crop."""

NearestRule: TypeAlias = Literal["centre", "corner"]
"""The source pixel of pixel i when `in` pixels become `out`: floor((i + 0.5) in / out), as Pillow
does, or floor(i in / out), as torch does."""


def augment_image(
    image: UInt8[np.ndarray, "h w 3"],
    geometry: Geometry,
    color_generator: np.random.Generator | None = None,
) -> UInt8[Tensor, "3 height width"]:
    """Move an image, change its colours, pad it.

    Args:
        image: RGB, of size `geometry.source`.
        geometry: What is kept of it, and where it goes.
        color_generator: Draws the colour jitter; none leaves colours as they are.

    Returns:
        Of size `geometry.padded`, with grey 128 around the crop.
    """
    _check_source(image.shape[:2], geometry)
    crop = move_image(image, geometry)
    if color_generator is not None:
        jittered = jitter_colors(crop.permute(1, 2, 0).contiguous().numpy(), color_generator)
        crop = torch.from_numpy(jittered).permute(2, 0, 1)
    if geometry.padded == geometry.crop:
        return crop.contiguous()
    height, width = geometry.crop
    canvas = torch.full((3, *geometry.padded), PADDING, dtype=torch.uint8)
    canvas[:, :height, :width] = crop
    return canvas


def move_image(
    image: UInt8[np.ndarray, "h w 3"], geometry: Geometry
) -> UInt8[Tensor, "3 height width"]:
    """The crop alone: bilinear, smoothed when shrinking.

    torch resizes bytes twice as fast as Pillow, to the same numbers but for one grey level here
    and there; but it can resize whole images only, so Pillow does it where little of one is kept.
    """
    top, left, bottom, right = geometry.crop_box
    kept = (bottom - top) * (right - left) / (geometry.resized[0] * geometry.resized[1])
    if kept < WORTH_RESIZING_WHOLE or geometry.resized == (1, 1):  # which torch refuses
        scale_y, scale_x = (geometry.source[i] / geometry.resized[i] for i in range(2))
        resized = Image.fromarray(image).resize(
            (right - left, bottom - top),
            Image.Resampling.BILINEAR,
            box=(left * scale_x, top * scale_y, right * scale_x, bottom * scale_y),
        )
        crop = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    else:
        planes = torch.from_numpy(image.transpose(2, 0, 1).copy())
        crop = _resize(planes, geometry.resized)[:, top:bottom, left:right]
    return crop if geometry.mirrored is None else crop.flip(2)


def _resize(planes: UInt8[Tensor, "3 h w"], size: Size) -> UInt8[Tensor, "3 height width"]:
    if planes.shape[1:] == size:
        return planes
    return torch.nn.functional.interpolate(
        planes[None], size=size, mode="bilinear", antialias=True
    )[0]


def make_target(
    annotations: Annotations, geometry: Geometry, task: Task, *, keep_emptied: bool
) -> Target:
    """What the crop contains, in the order of the annotations; for semantic, by class.

    Crowds, ignored and unlabelled pixels belong to no mask.

    Args:
        annotations: Made for `task` (`derive.for_task`).
        geometry: As of the image.
        task: Semantic label maps are shrunk by another rule than the rest.
        keep_emptied: Segments that the crop cut away entirely stay, with empty masks.

    Source:
        Mask2Former (Cheng et al., 2022), dataset mappers: uint8 labels pass through Pillow's
        nearest rule, semantic maps through torch's.
    """
    _check_source(annotation_size(annotations), geometry)
    if isinstance(annotations, Instances):
        return _instances_target(annotations, geometry, keep_emptied)
    return _segment_map_target(annotations, geometry, task, keep_emptied)


def keeps_emptied(task: Task, augmentation: str) -> bool:
    """Whether the authors' release trains on segments of which the crop left nothing.

    It does for panoptic and, after `shortest_edge_crop`, for instance segmentation; users report
    that as a defect (their issue 215). After `large_scale_jitter` it drops emptied instances.
    Semantic targets hold the classes that are present.

    Args:
        task: What is trained.
        augmentation: `"large_scale_jitter"` or `"shortest_edge_crop"`.
    """
    if task == "instance":
        return augmentation == "shortest_edge_crop"
    return task == "panoptic"


def resize_for_test(
    image: UInt8[np.ndarray, "h w 3"], short_side: int, max_long_side: int
) -> UInt8[Tensor, "3 height width"]:
    """Resize an RGB image by its short side, as for evaluation; see `shortest_edge_size`."""
    height, width = shortest_edge_size(image.shape[:2], short_side, max_long_side)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1)))


def nearest_pixels(source: int, resized: int, rule: NearestRule) -> Int64[np.ndarray, " resized"]:
    """The source pixel of each pixel along one resized axis.

    Pillow and torch resize the positions themselves, so that rounding is theirs.
    """
    if rule == "centre":
        positions = Image.fromarray(np.arange(source, dtype=np.int32)[None])
        moved = positions.resize((resized, 1), Image.Resampling.NEAREST)
        return np.asarray(moved)[0].astype(np.int64)
    positions = torch.arange(source, dtype=torch.float64)[None, None, :, None]
    moved = torch.nn.functional.interpolate(positions, size=(resized, 1), mode="nearest")
    return moved.flatten().long().numpy()


def _nearest_crop(
    geometry: Geometry, rule: NearestRule
) -> tuple[Int64[np.ndarray, " height"], Int64[np.ndarray, " width"]]:
    """Source row of each row and source column of each column of the crop."""
    (top, left), (height, width) = geometry.offset, geometry.crop
    rows = nearest_pixels(geometry.source[0], geometry.resized[0], rule)[top : top + height]
    columns = nearest_pixels(geometry.source[1], geometry.resized[1], rule)[left : left + width]
    if geometry.mirrored == "before":
        columns = geometry.source[1] - 1 - columns
    elif geometry.mirrored == "after":
        columns = columns[::-1]
    return rows, columns


def _instances_target(annotations: Instances, geometry: Geometry, keep_emptied: bool) -> Target:
    scale_xy, shift_xy = geometry.point_map
    height, width = geometry.crop
    pixels = _nearest_crop(geometry, "centre")
    labels, rles = [], []
    for instance in annotations.items:
        if instance.is_crowd:
            continue
        if isinstance(instance.mask, dict):
            rle = _move_rle(instance.mask, *pixels)
        else:
            rle = polygons_to_rle(move_polygons(instance.mask, scale_xy, shift_xy), height, width)
        if keep_emptied or rle_area(rle) > 0:
            labels.append(instance.class_id)
            rles.append(rle)
    return _padded_target(labels, pack_rles(rles, height, width), geometry)


def _move_rle(rle: dict, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> dict:
    x, y, width, height = rle_box(rle)
    inside_x = np.flatnonzero((columns >= x) & (columns < x + width))
    inside_y = np.flatnonzero((rows >= y) & (rows < y + height))
    moved = np.zeros((len(columns), len(rows)), bool)  # (w, h), as pycocotools stores masks
    if len(inside_x) and len(inside_y):
        part = decode_rle(rle).T[columns[inside_x]][:, rows[inside_y]]
        moved[inside_x[0] : inside_x[-1] + 1, inside_y[0] : inside_y[-1] + 1] = part
    return encode_mask(moved.T)


def _segment_map_target(
    annotations: SegmentMap, geometry: Geometry, task: Task, keep_emptied: bool
) -> Target:
    segments = [segment for segment in annotations.segments if not segment.is_crowd]
    if task == "semantic":
        segments.sort(key=lambda segment: segment.class_id)
    compact = compact_ids(annotations.ids, [segment.id for segment in segments])
    rows, columns = _nearest_crop(geometry, "corner" if task == "semantic" else "centre")
    positions = np.arange(1, len(segments) + 1)
    if not keep_emptied:
        seen = compact[np.unique(rows)][:, np.unique(columns)]
        counts = np.bincount(seen.ravel(), minlength=len(segments) + 1)
        positions = positions[counts[1:] > 0]
    packed = pack_compact_ids(compact.take(columns, axis=1).take(rows, axis=0), positions.tolist())
    return _padded_target([segments[i - 1].class_id for i in positions], packed, geometry)


def _padded_target(
    labels: list[int], packed: UInt8[Tensor, "h w bytes"], geometry: Geometry
) -> Target:
    height, width = geometry.crop
    masks = packed
    if geometry.padded != geometry.crop:
        masks = torch.zeros(*geometry.padded, packed.shape[-1], dtype=torch.uint8)
        masks[:height, :width] = packed
    return Target(labels=torch.tensor(labels, dtype=torch.int64), masks=masks)


def _check_source(size: tuple[int, ...], geometry: Geometry) -> None:
    if tuple(size) != geometry.source:
        raise ValueError(
            f"got size (h, w) = {tuple(size)} for a geometry drawn for {geometry.source}; "
            f"draw the geometry for this image"
        )
