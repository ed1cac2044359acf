from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from mask2former.config import Data, ShortestEdgeCrop
from mask2former.data.annotations import Annotations, Instances, SegmentLabel, SegmentMap
from mask2former.data.copy_paste import (
    choose_objects,
    cut_geometry,
    draw_other,
    move_masks,
    paste_objects,
)
from mask2former.data.dataset import Record
from mask2former.data.geometry import Geometry
from mask2former.data.transforms import augment_image, make_target
from mask2former.masks.packed import pack_masks
from mask2former.types import Target
from pasting import CLASSES, JITTER, ROUNDING, SHORTEST, boxes, masks_of, read_map


def target_of(masks: np.ndarray, labels: list[int] | None = None) -> Target:
    labels = list(range(len(masks))) if labels is None else labels
    return Target(torch.tensor(labels, dtype=torch.int64), pack_masks(masks))


def random_image(rng: np.random.Generator, size: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 256, (3, *size), dtype=np.uint8))


def random_masks(rng: np.random.Generator, count: int, size: tuple[int, ...]) -> np.ndarray:
    """Boxes that overlap, some of them empty or of one pixel."""
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        top, left = rng.integers(0, size)
        height, width = rng.integers(0, [s // 2 + 1 for s in size])
        mask[top : top + height, left : left + width] = True
    return masks


def paste_plainly(
    image: np.ndarray, masks: np.ndarray, pasted_image: np.ndarray, pasted: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
    """The image, its masks, and which of the first ones are left: pixel after pixel."""
    image, before, masks = image.copy(), masks.copy(), masks.copy()
    larger = np.zeros((len(pasted), *masks.shape[1:]), bool)
    for y in range(pasted.shape[1]):
        for x in range(pasted.shape[2]):
            if pasted[:, y, x].any():
                image[:, y, x] = pasted_image[:, y, x]
                masks[:, y, x] = False
                larger[:, y, x] = pasted[:, y, x]
    left = [i for i in range(len(masks)) if masks[i].any() or not before[i].any()]
    return image, [*masks[left], *larger], left


def test_a_pasted_object_hides_what_is_below_it() -> None:
    # Of the row a a b b, a pasted object takes the pixels 1 to 3: b is gone, a keeps pixel 0.
    main = target_of(np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], bool), [4, 5])
    above = target_of(np.array([[[0, 1, 1, 1]]], bool), [6])
    dark, light = torch.zeros(3, 1, 4, dtype=torch.uint8), torch.full((3, 1, 4), 9).byte()
    image, target = paste_objects(dark, main, pasted_image=light, pasted=above)
    assert image[0].tolist() == [[0, 9, 9, 9]]
    assert target.labels.tolist() == [4, 6]
    # bit 0 is a, bit 1 the pasted object
    assert target.masks.tolist() == [[[1], [2], [2], [2]]]
    assert dark.sum() == 0, "what was given stays as it was"
    assert main.masks.flatten().tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("most", [3, 9, 20, 80])
def test_pasting_bits_equals_pasting_pixel_by_pixel(most: int) -> None:
    for seed in range(80):
        rng = np.random.default_rng((most, seed))
        size = tuple(rng.integers(1, 14, 2).tolist())
        part = tuple(int(rng.integers(1, side + 1)) for side in size)
        image, pasted_image = random_image(rng, size), random_image(rng, part)
        masks = random_masks(rng, int(rng.integers(most)), size)
        pasted = random_masks(rng, int(rng.integers(most)), part)
        pasted = pasted[pasted.any(axis=(1, 2))]
        expected, expected_masks, left = paste_plainly(
            image.numpy(), masks, pasted_image.numpy(), pasted
        )
        labels = rng.integers(0, 9, len(masks)).tolist()
        above = target_of(pasted, [7] * len(pasted))
        found, target = paste_objects(
            image, target_of(masks, labels), pasted_image=pasted_image, pasted=above
        )
        np.testing.assert_array_equal(found.numpy(), expected)
        assert target.labels.tolist() == [*(labels[i] for i in left), *[7] * len(pasted)]
        assert target.masks.shape == (*size, -(-len(target.labels) // 8))
        np.testing.assert_array_equal(masks_of(target), np.array(expected_masks).reshape(-1, *size))


def test_masks_that_share_no_pixel_share_none_afterwards() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        maps = rng.integers(0, 12, (2, 9, 11))
        main, above = (target_of(np.stack([m == i for i in range(1, 12)])) for m in maps)
        image = random_image(rng, (9, 11))
        _, target = paste_objects(image, main, pasted_image=image, pasted=above)
        assert masks_of(target).sum(axis=0).max() == 1


def test_moved_bits_equal_packing_the_masks_that_are_meant() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        masks = rng.random((int(rng.integers(1, 70)), 4, 5)) > 0.5
        ids = rng.permutation(len(masks))[: rng.integers(len(masks) + 1)].tolist()
        ids = sorted(ids) if seed % 2 else ids
        before = rng.random((int(rng.integers(0, 20)), 4, 5)) > 0.5
        into = pack_masks(np.concatenate([before, np.zeros((len(ids), 4, 5), bool)])).numpy()
        source, place = (a.transpose(2, 0, 1) for a in (pack_masks(masks).numpy(), into))
        move_masks(source, ids, place, first=len(before))
        expected = pack_masks(np.concatenate([before, masks[ids]]))
        np.testing.assert_array_equal(into, expected.numpy())


@pytest.mark.parametrize("kind", ["objects", "map"])
def test_any_number_of_things_is_chosen_and_nothing_else(kind: str) -> None:
    found: Annotations = boxes([(1, False), (0, False), (2, False), (1, True), (2, False)])
    if kind == "map":
        segments = tuple(
            SegmentLabel(i + 1, item.class_id, item.is_crowd) for i, item in enumerate(found.items)
        )
        found = SegmentMap(np.zeros((40, 62), np.int32), segments)
    entries = found.items if isinstance(found, Instances) else found.segments
    things, draws = [0, 2, 4], 3000
    numbers, shown, each = Counter(), Counter(), Counter()
    for seed in range(draws):
        chosen = choose_objects(found, CLASSES.is_thing, np.random.default_rng(seed))
        one_by_one = chosen.items if isinstance(chosen, Instances) else chosen.segments
        places = [next(i for i, e in enumerate(entries) if e is one) for one in one_by_one]
        assert places == sorted(places)
        assert set(places) <= set(things)
        numbers[len(places)] += 1
        # a crop that shows the objects 0 and 4 only
        shown[len({0, 4} & set(places))] += 1
        each.update(places)
    # uniform over 0..3 and over 0..2; each object half the time. 5 sigma of a share: below 0.05
    assert all(abs(numbers[n] / draws - 1 / 4) < 0.05 for n in range(4))
    assert all(abs(shown[n] / draws - 1 / 3) < 0.05 for n in range(3))
    assert all(abs(each[i] / draws - 1 / 2) < 0.05 for i in things)


def test_every_other_image_is_as_likely() -> None:
    drawn = Counter(draw_other(2, 4, np.random.default_rng(seed)) for seed in range(3000))
    assert set(drawn) == {0, 1, 3}
    assert all(abs(count / 3000 - 1 / 3) < 0.05 for count in drawn.values())


@pytest.mark.parametrize("draw", [JITTER, SHORTEST], ids=["jitter", "shortest"])
def test_a_cut_geometry_gives_the_top_left_of_the_whole(draw: partial) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        geometry: Geometry = draw((40, 62), rng)
        size = tuple(rng.integers(1, 60, 2).tolist())
        cut = cut_geometry(geometry, size)
        height, width = (min(pair) for pair in zip(size, geometry.crop, strict=True))
        assert cut.crop == cut.padded == (height, width)
        small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(small).resize((62, 40), Image.Resampling.BICUBIC))
        whole = augment_image(image, geometry)[:, :height, :width]
        assert (augment_image(image, cut).int() - whole.int()).abs().max() <= ROUNDING
        for found in (boxes([(1, False)] * 4), read_map(Record(0, Path(), 3))):
            all_of_it = make_target(found, geometry, "instance", keep_emptied=True)
            part = make_target(found, cut, "instance", keep_emptied=True)
            assert torch.equal(part.masks, all_of_it.masks[:height, :width])


def test_the_configuration_asks_for_a_probability() -> None:
    crop = ShortestEdgeCrop(short_sides=(32,), max_long_side=64, crop=(32, 32))
    assert Data(augmentation=crop).copy_paste == 0
    with pytest.raises(ValidationError, match="copy_paste"):
        Data(augmentation=crop, copy_paste=1.5)
