"""What pictures show, read back from their pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.inference.captions import Caption, font_size, inner_point, write_captions
from mask2former.inference.draw import Label, draw_map, draw_masks, draw_result, draw_target
from mask2former.inference.palette import class_color, text_color
from mask2former.masks.packed import pack_masks
from mask2former.masks.rle import encode_mask
from mask2former.types import (
    Classes,
    InstanceResult,
    PanopticResult,
    Segment,
    SemanticResult,
    Target,
)

CLASSES = Classes(("ball", "grass", "sky"), (1, 2, 3), (True, False, False))
RED, BLUE = (200, 40, 30), (20, 60, 210)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def blended(image, color):
    return image // 2 + np.array(color, np.uint8) // 2


def test_segments_are_blended_outlined_and_the_rest_is_left_alone() -> None:
    image = picture(500, 700)
    ids = np.zeros((500, 700), np.int64)
    ids[50:450, 100:300] = 9
    drawn = np.asarray(draw_map(image, ids, {9: Label("", RED)}))
    assert drawn.shape == image.shape
    outside = np.ones(ids.shape, bool)
    outside[50:450, 100:300] = False
    assert np.array_equal(drawn[outside], image[outside])
    assert (drawn[50, 100:300] == RED).all()  # the outline
    assert np.array_equal(drawn[60:90, 110:290], blended(image, RED)[60:90, 110:290])


def test_masks_are_drawn_in_order_each_over_those_before() -> None:
    image = picture(450, 620)
    below, above = np.zeros((2, 450, 620), bool)
    below[20:400, 30:500] = True
    above[100:300, 200:400] = True
    empty = np.zeros((450, 620), bool)
    labels = [Label("", RED), Label("gone", RED), Label("", BLUE)]
    drawn = np.asarray(draw_masks(image, (m for m in (below, empty, above)), labels))
    assert np.array_equal(
        drawn[110:190, 210:390], blended(blended(image, RED), BLUE)[110:190, 210:390]
    )
    assert (drawn[100:300, 200] == BLUE).all()
    assert np.array_equal(drawn[:19], image[:19])


def test_maps_and_masks_of_the_same_segments_look_alike() -> None:
    image = picture(450, 620)
    mask = np.zeros((450, 620), bool)
    mask[20:400, 30:500] = True
    by_mask = draw_masks(image, [mask], [Label("ball", RED)])
    by_map = draw_map(image, 4 * mask.astype(int), {4: Label("ball", RED)})
    differs = (np.asarray(by_mask) != np.asarray(by_map)).any(axis=-1)
    assert not differs[~mask].any()
    assert differs.mean() < 0.02  # the caption, which is placed on another grid


@pytest.mark.parametrize("color", [RED, (250, 240, 90), (0, 0, 0)])
def test_a_caption_stands_on_a_box_of_its_color_with_readable_text(color) -> None:
    image = picture(480, 640)
    mask = np.zeros((480, 640), bool)
    mask[100:400, 200:500] = True
    drawn = np.asarray(draw_masks(image, [mask], [Label("ball 0.93", color)]))
    box = (drawn == color).all(axis=-1)[101:399, 201:499]
    rows, columns = box.any(axis=1).nonzero()[0], box.any(axis=0).nonzero()[0]
    assert 10 < rows[-1] - rows[0] < 25
    assert 50 < columns[-1] - columns[0] < 100
    letters = (drawn == text_color(color)).all(axis=-1)
    assert letters[101:399, 201:499].sum() > 8  # of 8 letters, some pixels in full
    assert abs(np.mean(rows) + 101 - 250) < 10  # in the middle of the mask


def test_text_is_black_on_light_and_white_on_dark() -> None:
    assert text_color((250, 240, 90)) == (0, 0, 0)
    assert text_color((20, 20, 160)) == (255, 255, 255)


def test_captions_of_one_place_do_not_cover_each_other() -> None:
    colors = [(i, 255 - i, 7) for i in range(0, 250, 50)]
    plain = Image.new("RGB", (400, 300))
    write_captions(plain, [Caption("one place", color, (200, 150)) for color in colors])
    pixels = np.asarray(plain)
    areas = [(pixels == color).all(axis=-1).sum() for color in colors]
    assert min(areas) > 0.8 * max(areas)


def test_captions_stay_inside_and_are_cut_to_the_width() -> None:
    plain = Image.new("RGB", (120, 90))
    write_captions(plain, [Caption("a very long name of a class indeed 0.93", RED, (119, 89))])
    red = (np.asarray(plain) == RED).all(axis=-1)
    assert red.any()
    assert red[89].any()  # at the lower edge, in full height
    assert 5 < red.any(axis=1).sum() < 30


def test_small_pictures_are_enlarged_and_tiny_ones_get_no_captions() -> None:
    small = draw_map(picture(96, 128), np.ones((96, 128), int), {1: Label("ball", RED)})
    assert small.size == (384, 288)  # 3 x, about 400 pixels
    tiny = draw_map(picture(1, 1), np.ones((1, 1), int), {1: Label("ball", RED)})
    assert tiny.size == (8, 8)
    assert np.unique(np.asarray(tiny).reshape(-1, 3), axis=0).shape == (1, 3)


def test_letters_grow_with_the_picture() -> None:
    assert font_size((20, 30)) == 9
    assert font_size((640, 480)) == 13
    assert 90 < font_size((5000, 4000)) < 120


def test_the_caption_lies_in_the_largest_part_of_a_mask() -> None:
    mask = np.zeros((60, 80), bool)
    mask[5:9, 2:70] = True
    mask[20:50, 40:75] = True
    x, y = inner_point(mask)
    assert 50 < x < 65
    assert 30 < y < 40


def test_a_mask_thinner_than_the_grid_is_found() -> None:
    mask = np.zeros((300, 500), bool)
    mask[151, 333] = True
    assert inner_point(mask) == (333, 151)


def test_classes_have_colors_of_their_own_and_instances_shades() -> None:
    colors = np.array([class_color(i) for i in range(40)], int)
    distance = np.abs(colors[:, None] - colors).sum(axis=-1) + 1000 * np.eye(40, dtype=int)
    assert distance.min() >= 20
    shades = {class_color(3, i) for i in range(6)}
    assert len(shades) == 6
    assert class_color(3, 2) == class_color(3, 2)


def test_results_of_all_tasks_show_their_classes() -> None:
    image = picture(400, 500)
    left = np.zeros((400, 500), bool)
    left[:, :250] = True
    label_map = torch.from_numpy(np.where(left, 1, 2))
    semantic = np.asarray(draw_result(image, SemanticResult(label_map), CLASSES, min_score=0.5))
    assert (semantic[10, 249] == class_color(1)).all()
    assert (semantic[10, 250] == class_color(2)).all()
    segments = [Segment(5, 1, 0.9, 1, (0.0, 0.0, 1.0, 1.0))]
    segment_map = torch.from_numpy(np.where(left, 5, 0))
    panoptic = PanopticResult(segment_map, segments)
    drawn = np.asarray(draw_result(image, panoptic, CLASSES, min_score=0.5))
    assert (drawn[10, 249] == class_color(1)).all()
    assert np.array_equal(drawn[:, 251:], image[:, 251:])


def test_instances_below_the_threshold_are_not_drawn() -> None:
    image = picture(400, 500)
    left, right = np.zeros((2, 400, 500), bool)
    left[100:300, 20:200] = True
    right[100:300, 300:480] = True
    found = InstanceResult(
        400,
        500,
        [encode_mask(left), encode_mask(right)],
        [
            Segment(0, 0, 0.9, 36000, (20.0, 100.0, 180.0, 200.0)),
            Segment(1, 0, 0.3, 36000, (300.0, 100.0, 180.0, 200.0)),
        ],
    )
    drawn = np.asarray(draw_result(image, found, CLASSES, min_score=0.5))
    assert np.array_equal(drawn[:, 250:], image[:, 250:])
    assert not np.array_equal(drawn[:, :250], image[:, :250])


def test_a_small_instance_is_drawn_over_a_large_one() -> None:
    image = picture(400, 500)
    large, small = np.zeros((2, 400, 500), bool)
    large[10:390, 10:490] = True
    small[300:380, 400:480] = True
    found = InstanceResult(
        400,
        500,
        [encode_mask(small), encode_mask(large)],
        [
            Segment(0, 0, 0.95, 6400, (0.0, 0.0, 1.0, 1.0)),
            Segment(1, 1, 0.9, 182400, (0.0, 0.0, 1.0, 1.0)),
        ],
    )
    drawn = np.asarray(draw_result(image, found, CLASSES, min_score=0.5))
    assert (drawn[300, 400:480] == class_color(0)).all()


def test_training_targets_are_drawn() -> None:
    image = picture(400, 500)
    masks = np.zeros((9, 400, 500), bool)  # two bytes a pixel
    masks[8, 50:350, 60:200] = True
    target = Target(torch.tensor([2] * 8 + [1]), pack_masks(masks))
    drawn = np.asarray(draw_target(image, target, CLASSES))
    assert (drawn[50, 60:200] == class_color(1)).all()
    assert np.array_equal(drawn[:, 201:], image[:, 201:])
