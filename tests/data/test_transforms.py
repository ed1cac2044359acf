from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.data.annotations import Instance, Instances, SegmentLabel, SegmentMap
from mask2former.data.geometry import Geometry, large_scale_jitter, shortest_edge_crop
from mask2former.data.transforms import (
    augment_image,
    keeps_emptied,
    make_target,
    move_image,
    nearest_pixels,
    resize_for_test,
)
from mask2former.masks.packed import unpack_masks
from mask2former.masks.polygons import rasterize_polygons
from mask2former.masks.rle import encode_mask
from mask2former.types import Target

SOURCE = (61, 83)


def draw(kind: str, seed: int) -> Geometry:
    generator = np.random.default_rng(seed)
    if kind == "jitter":
        return large_scale_jitter(
            SOURCE, generator, crop=(64, 64), min_scale=0.1, max_scale=2.0, flip_probability=0.5
        )
    return shortest_edge_crop(
        SOURCE,
        generator,
        short_sides=(30, 61, 90, 122),
        max_long_side=150,
        crop=(48, 56),
        flip_probability=0.5,
        pad_to_crop=True,
    )


GEOMETRIES = [draw(kind, seed) for kind in ("jitter", "crop") for seed in range(15)]
STILL = Geometry(source=SOURCE, resized=SOURCE, offset=(0, 0), crop=SOURCE, padded=SOURCE)


def step_by_step(array: np.ndarray, geometry: Geometry, resize, padding: int) -> np.ndarray:
    """Mirror, resize everything, cut, mirror, pad: one step after the other, as published."""
    if geometry.mirrored == "before":
        array = array[:, ::-1]
    array = resize(np.ascontiguousarray(array), geometry.resized)
    (top, left), (height, width) = geometry.offset, geometry.crop
    array = array[top : top + height, left : left + width]
    if geometry.mirrored == "after":
        array = array[:, ::-1]
    padded = np.full((*geometry.padded, *array.shape[2:]), padding, array.dtype)
    padded[:height, :width] = array
    return padded


def pil_resize(filter_: Image.Resampling):
    return lambda a, size: np.asarray(Image.fromarray(a).resize(size[::-1], filter_))


def torch_nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    moved = torch.nn.functional.interpolate(
        torch.from_numpy(labels.astype(np.float64))[None, None], size=size, mode="nearest"
    )
    return moved[0, 0].numpy().astype(labels.dtype)


def smooth_image() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(SOURCE[::-1], Image.Resampling.BICUBIC))


def random_ids() -> np.ndarray:
    """Ids 0, 1000, 2000 ... in blocks of 4 x 5 pixels; 0 is in no list of segments."""
    small = np.random.default_rng(1).integers(0, 9, (16, 17)).astype(np.int32)
    return (np.repeat(np.repeat(small, 4, 0), 5, 1) * 1000)[: SOURCE[0], : SOURCE[1]]


SEGMENTS = tuple(SegmentLabel(1000 * i, class_id=20 - i, is_crowd=i == 3) for i in range(1, 9))
SEGMENT_MAP = SegmentMap(random_ids(), SEGMENTS)


def masks_of(target: Target) -> np.ndarray:
    return unpack_masks(target.masks, len(target.labels)).numpy()


def disc(center: tuple[float, float], radius: float) -> np.ndarray:
    angles = np.arange(24) * np.pi / 12
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radius + center


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_image_equals_resizing_before_cutting(geometry: Geometry) -> None:
    image = smooth_image()
    expected = step_by_step(image, geometry, pil_resize(Image.Resampling.BILINEAR), 128)
    moved = augment_image(image, geometry).permute(1, 2, 0).numpy()
    assert moved.shape == expected.shape
    # Pillow computes the weights of a pixel from the box's corner, in fixed point: 1 grey level
    assert np.abs(moved.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("source", [(1, 1), (1, 9), (61, 83)])
def test_an_image_can_shrink_to_one_pixel(source: tuple[int, int]) -> None:
    image = np.full((*source, 3), 77, np.uint8)
    one = Geometry(source, resized=(1, 1), offset=(0, 0), crop=(1, 1), padded=(1, 1), mirrored=None)
    assert move_image(image, one).flatten().tolist() == [77, 77, 77]


def test_padding_is_grey_and_keeps_its_colour() -> None:
    geometry = replace(STILL, padded=(70, 100))
    image = augment_image(smooth_image(), geometry, np.random.default_rng(4))
    assert (image[:, 61:] == 128).all()
    assert (image[:, :, 83:] == 128).all()
    assert (image[:, :61, :83] != torch.from_numpy(smooth_image().copy()).permute(2, 0, 1)).any()


def test_colours_change_only_with_a_generator() -> None:
    image = smooth_image()
    np.testing.assert_array_equal(augment_image(image, STILL).permute(1, 2, 0), image)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_panoptic_masks_equal_pillows_nearest_step_by_step(geometry: Geometry) -> None:
    target = make_target(SEGMENT_MAP, geometry, "panoptic", keep_emptied=True)
    nearest = pil_resize(Image.Resampling.NEAREST)
    labels = [s for s in SEGMENTS if not s.is_crowd]
    assert target.labels.tolist() == [s.class_id for s in labels]
    for mask, segment in zip(masks_of(target), labels, strict=True):
        whole = (SEGMENT_MAP.ids == segment.id).astype(np.uint8)
        np.testing.assert_array_equal(mask, step_by_step(whole, geometry, nearest, 0) == 1)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_semantic_masks_equal_torchs_nearest_step_by_step(geometry: Geometry) -> None:
    segments = tuple(SegmentLabel(1000 * i, class_id=20 - i) for i in range(1, 9))
    annotations = SegmentMap(SEGMENT_MAP.ids, segments)
    target = make_target(annotations, geometry, "semantic", keep_emptied=False)
    moved = step_by_step(annotations.ids, geometry, torch_nearest, 0)
    present = sorted(20 - i for i in range(1, 9) if (moved == 1000 * i).any())
    assert target.labels.tolist() == present
    for mask, class_id in zip(masks_of(target), present, strict=True):
        np.testing.assert_array_equal(mask, moved == 1000 * (20 - class_id))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_rle_masks_equal_pillows_nearest_step_by_step(geometry: Geometry) -> None:
    masks = [SEGMENT_MAP.ids == 1000 * i for i in (1, 2, 3)] + [np.zeros(SOURCE, bool)]
    items = tuple(Instance(i, encode_mask(m), False, 1.0) for i, m in enumerate(masks))
    target = make_target(Instances(*SOURCE, items), geometry, "instance", keep_emptied=True)
    nearest = pil_resize(Image.Resampling.NEAREST)
    for moved, mask in zip(masks_of(target), masks, strict=True):
        expected = step_by_step(mask.astype(np.uint8), geometry, nearest, 0) == 1
        np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_polygons_move_like_the_image(geometry: Geometry) -> None:
    polygon = disc((40.2, 29.7), 17.3)
    items = (Instance(4, (polygon,), False, 900.0),)
    target = make_target(Instances(*SOURCE, items), geometry, "instance", keep_emptied=True)
    # the same steps on the points, each on its own
    points = polygon.copy()
    if geometry.mirrored == "before":
        points[:, 0] = SOURCE[1] - points[:, 0]
    points *= [geometry.resized[1] / SOURCE[1], geometry.resized[0] / SOURCE[0]]
    points -= [geometry.offset[1], geometry.offset[0]]
    if geometry.mirrored == "after":
        points[:, 0] = geometry.crop[1] - points[:, 0]
    expected = np.zeros(geometry.padded, bool)
    height, width = geometry.crop
    expected[:height, :width] = rasterize_polygons([points], height, width)
    # composing the steps changes the last bits of a coordinate, which pycocotools rounds to
    # 1/5 pixel: an edge may take or leave single pixels
    assert (masks_of(target)[0] != expected).sum() <= 2


@pytest.mark.parametrize(("keep_emptied", "labels"), [(True, [1, 2, 3]), (False, [2])])
def test_emptied_instances_stay_only_if_asked(keep_emptied: bool, labels: list[int]) -> None:
    # the crop is the top left quarter; object 1 lies right of it, object 3 below
    corner = replace(STILL, crop=(30, 40), padded=(30, 40))
    below = np.zeros(SOURCE, bool)
    below[40:50, 3:9] = True
    items = (
        Instance(1, (disc((70, 10), 8),), False, 200.0),
        Instance(9, (disc((20, 15), 8),), True, 200.0),
        Instance(2, (disc((20, 15), 8),), False, 200.0),
        Instance(3, encode_mask(below), False, 60.0),
    )
    target = make_target(Instances(*SOURCE, items), corner, "instance", keep_emptied=keep_emptied)
    assert target.labels.tolist() == labels
    areas = masks_of(target).sum((1, 2))
    assert [bool(area) for area in areas] == [label == 2 for label in labels]


@pytest.mark.parametrize(("keep_emptied", "labels"), [(True, [5, 6]), (False, [6])])
def test_emptied_segments_stay_only_if_asked(keep_emptied: bool, labels: list[int]) -> None:
    ids = np.full(SOURCE, 7, np.int32)
    ids[:, 50:] = 3
    annotations = SegmentMap(ids, (SegmentLabel(3, 5), SegmentLabel(7, 6)))
    corner = replace(STILL, crop=(30, 40), padded=(30, 40))
    target = make_target(annotations, corner, "panoptic", keep_emptied=keep_emptied)
    assert target.labels.tolist() == labels


@pytest.mark.parametrize(
    ("task", "augmentation", "kept"),
    [
        ("semantic", "large_scale_jitter", False),
        ("semantic", "shortest_edge_crop", False),
        ("instance", "large_scale_jitter", False),
        ("instance", "shortest_edge_crop", True),
        ("panoptic", "large_scale_jitter", True),
        ("panoptic", "shortest_edge_crop", True),
    ],
)
def test_emptied_segments_are_kept_as_published(task, augmentation: str, kept: bool) -> None:
    assert keeps_emptied(task, augmentation) == kept


@pytest.mark.parametrize(
    "annotations",
    [Instances(*SOURCE, ()), SegmentMap(np.zeros(SOURCE, np.int32), ())],
    ids=["instances", "segments"],
)
def test_image_without_objects_has_a_target_of_no_masks(annotations) -> None:
    geometry = replace(STILL, padded=(64, 90))
    target = make_target(annotations, geometry, "instance", keep_emptied=True)
    assert target.labels.shape == (0,)
    assert target.labels.dtype == torch.int64
    assert target.masks.shape == (64, 90, 0)


def test_annotations_of_another_size_than_the_geometry_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"got size .*\(83, 61\) for a geometry drawn for \(61, 83\)"
    ):
        make_target(Instances(83, 61, ()), STILL, "instance", keep_emptied=True)
    with pytest.raises(ValueError, match="draw the geometry for this image"):
        augment_image(np.zeros((83, 61, 3), np.uint8), STILL)


def test_the_two_nearest_rules_differ() -> None:
    # 6 to 3: floor((i + 0.5) * 2) = 1, 3, 5 and floor(i * 2) = 0, 2, 4
    assert nearest_pixels(6, 3, "centre").tolist() == [1, 3, 5]
    assert nearest_pixels(6, 3, "corner").tolist() == [0, 2, 4]
    # 2 to 5: floor((i + 0.5) * 0.4) = 0.2, 0.6, 1.0, 1.4, 1.8 and floor(i * 0.4)
    assert nearest_pixels(2, 5, "centre").tolist() == [0, 0, 1, 1, 1]
    assert nearest_pixels(2, 5, "corner").tolist() == [0, 0, 0, 1, 1]


def test_test_images_are_resized_by_pillow_as_a_whole() -> None:
    image = smooth_image()
    resized = resize_for_test(image, short_side=30, max_long_side=100)
    # 83 * 30 / 61 = 40.82
    assert resized.shape == (3, 30, 41)
    expected = Image.fromarray(image).resize((41, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resized.permute(1, 2, 0), np.asarray(expected))
