"""Segments drawn over a picture: half-transparent, outlined, named."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from numpy.typing import NDArray
from PIL import Image

from mask2former.data.annotations import Annotations, SegmentMap
from mask2former.inference.captions import Caption, inner_point, write_captions
from mask2former.inference.palette import Color, class_color
from mask2former.masks.id_maps import compact_ids
from mask2former.masks.packed import unpack_masks
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import decode_rle, rle_area
from mask2former.types import (
    Classes,
    InstanceResult,
    PanopticResult,
    Result,
    SemanticResult,
    Target,
)

READABLE_SIDE = 400
"""Pixels of the long side that smaller pictures are enlarged to, about."""
MOST_ENLARGED = 8

T = TypeVar("T", bound=np.generic)


class Label(NamedTuple):
    """How a segment looks."""

    text: str
    color: Color


def draw_map(
    image: UInt8[np.ndarray, "h w 3"],
    ids: Integer[np.ndarray, "h w"],
    labels: Mapping[int, Label],
) -> Image.Image:
    """Draw segments that do not overlap.

    Args:
        image: RGB.
        ids: Segment per pixel, at least 0. Pixels whose id has no label stay as they are.
        labels: By id.

    Returns:
        A picture of the same size, or a whole multiple of a small one, so that names can be read.
    """
    factor = _enlargement(image)
    image = _enlarged(image, factor)
    compact = _enlarged(compact_ids(ids.astype(np.int32), list(labels)), factor)
    colors = np.array([(0, 0, 0), *(label.color for label in labels.values())], np.uint8)
    color_map = colors[compact]
    drawn = np.where(compact[..., None] > 0, (image >> 1) + (color_map >> 1), image)
    outline = _borders(compact, _thickness(compact.shape)) & (compact > 0)
    drawn[outline] = color_map[outline]
    picture = Image.fromarray(drawn)
    places = _inner_points(compact, len(labels))
    captions = [
        Caption(label.text, label.color, places[i])
        for i, label in enumerate(labels.values(), start=1)
        if i in places
    ]
    write_captions(picture, captions)
    return picture


def draw_masks(
    image: UInt8[np.ndarray, "h w 3"],
    masks: Iterable[Bool[np.ndarray, "h w"]],
    labels: Sequence[Label],
) -> Image.Image:
    """Draw segments that may overlap, each over those before it.

    Args:
        image: RGB.
        masks: One per label; may be a generator, as one is looked at at a time.
        labels: One per mask.

    Returns:
        A picture of the same size, or a whole multiple of a small one, so that names can be read.
    """
    factor = _enlargement(image)
    drawn = _enlarged(image, factor).copy()
    thickness = _thickness(drawn.shape[:2])
    captions = []
    for mask, label in zip(masks, labels, strict=True):
        mask = _enlarged(mask, factor)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0:
            continue
        top, left = rows[0], columns[0]
        inside = mask[top : rows[-1] + 1, left : columns[-1] + 1]
        window = drawn[top : rows[-1] + 1, left : columns[-1] + 1]
        color = np.array(label.color, np.uint8)
        window[inside] = (window[inside] >> 1) + (color >> 1)
        window[_outline(inside, thickness)] = color
        x, y = inner_point(inside)
        captions.append(Caption(label.text, label.color, (int(left) + x, int(top) + y)))
    picture = Image.fromarray(drawn)
    write_captions(picture, captions)
    return picture


def draw_result(
    image: UInt8[np.ndarray, "h w 3"], result: Result, classes: Classes, *, min_score: float
) -> Image.Image:
    """Draw what was found; of instances those with at least `min_score`."""
    if isinstance(result, SemanticResult):
        ids = result.label_map.cpu().numpy() + 1  # 0 is "no segment" in a map
        present = (np.flatnonzero(np.bincount(ids.ravel())) - 1).tolist()
        labels = {c + 1: Label(classes.names[c], class_color(c)) for c in present}
        return draw_map(image, ids, labels)
    if isinstance(result, PanopticResult):
        names = [
            f"{classes.names[s.class_id]} {s.score:.2f}"
            if classes.is_thing[s.class_id]
            else classes.names[s.class_id]
            for s in result.segments
        ]
        labels = _labels(names, [s.class_id for s in result.segments])
        by_id = {s.id: label for s, label in zip(result.segments, labels, strict=True)}
        return draw_map(image, result.segment_map.cpu().numpy(), by_id)
    return _draw_instances(image, result, classes, min_score)


def _draw_instances(
    image: UInt8[np.ndarray, "h w 3"], result: InstanceResult, classes: Classes, min_score: float
) -> Image.Image:
    shown = [s for s in result.segments if s.score >= min_score]
    names = [f"{classes.names[s.class_id]} {s.score:.2f}" for s in shown]
    labels = _labels(names, [s.class_id for s in shown])
    # large ones first, so that they do not cover small ones
    order = sorted(range(len(shown)), key=lambda i: -shown[i].area)
    masks = (decode_rle(result.rles[shown[i].id]) for i in order)
    return draw_masks(image, masks, [labels[i] for i in order])


def draw_target(image: UInt8[np.ndarray, "h w 3"], target: Target, classes: Classes) -> Image.Image:
    """Draw the ground truth of a (training) sample.

    Args:
        image: RGB, of the size of the target.
        target: The masks, packed.
        classes: In the order of the target's labels.
    """
    class_ids = target.labels.tolist()
    masks = unpack_masks(target.masks, len(class_ids)).cpu().numpy()
    return draw_masks(image, masks, _labels([classes.names[c] for c in class_ids], class_ids))


def draw_annotations(
    image: UInt8[np.ndarray, "h w 3"],
    annotations: Annotations,
    classes: Classes,
    class_ids: Mapping[int, int],
) -> Image.Image:
    """Draw what an image truly shows, in the colours of predictions; crowds are left out.

    Args:
        image: RGB, of the size of the annotations.
        annotations: Of any task.
        classes: Those that names and colours are of.
        class_ids: Position in `classes` by class id of the annotations.
    """
    if isinstance(annotations, SegmentMap):
        segments = [segment for segment in annotations.segments if not segment.is_crowd]
        shown = [class_ids[segment.class_id] for segment in segments]
        labels = _labels([classes.names[c] for c in shown], shown)
        by_id = {s.id: label for s, label in zip(segments, labels, strict=True)}
        return draw_map(image, annotations.ids, by_id)
    items = [item for item in annotations.items if not item.is_crowd]
    shown = [class_ids[item.class_id] for item in items]
    labels = _labels([classes.names[c] for c in shown], shown)
    rles = [mask_to_rle(item.mask, annotations.height, annotations.width) for item in items]
    order = sorted(range(len(items)), key=lambda i: -rle_area(rles[i]))
    return draw_masks(image, (decode_rle(rles[i]) for i in order), [labels[i] for i in order])


def _labels(texts: Sequence[str], class_ids: Sequence[int]) -> list[Label]:
    """One label per segment; segments of one class get shades of its colour."""
    seen: dict[int, int] = {}
    labels = []
    for text, class_id in zip(texts, class_ids, strict=True):
        instance = seen.get(class_id, 0)
        seen[class_id] = instance + 1
        labels.append(Label(text, class_color(class_id, instance)))
    return labels


def _enlargement(image: UInt8[np.ndarray, "h w 3"]) -> int:
    return min(MOST_ENLARGED, max(1, round(READABLE_SIDE / max(image.shape[:2]))))


def _enlarged(pixels: NDArray[T], factor: int) -> NDArray[T]:
    return pixels if factor == 1 else pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _thickness(size: tuple[int, ...]) -> int:
    """Of an outline in pixels; 1 in a picture of 640 x 480."""
    return max(1, round(max(size) / 700))


def _outline(mask: Bool[np.ndarray, "h w"], thickness: int) -> Bool[np.ndarray, "h w"]:
    t = thickness
    return mask & _borders(np.pad(mask, t), t)[t:-t, t:-t]


def _borders(ids: np.ndarray, thickness: int) -> Bool[np.ndarray, "h w"]:
    """Pixels with another id `thickness` steps away, up, down, left or right."""
    borders = np.zeros(ids.shape, bool)
    t = thickness
    across, down = ids[:, t:] != ids[:, :-t], ids[t:] != ids[:-t]
    borders[:, t:] |= across
    borders[:, :-t] |= across
    borders[t:] |= down
    borders[:-t] |= down
    return borders


def _inner_points(compact: np.ndarray, count: int) -> dict[int, tuple[int, int]]:
    """Where each of the segments 1..count that has pixels is captioned, as (x, y)."""
    step = max(1, max(compact.shape) // 160)
    coarse = compact[::step, ::step]
    points = {}
    for i in range(1, count + 1):
        mask, scale = coarse == i, step
        if not mask.any():  # too thin for the coarse map
            mask, scale = compact == i, 1
        if mask.any():
            x, y = inner_point(mask)
            points[i] = (x * scale, y * scale)
    return points
