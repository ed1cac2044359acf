"""Sizes that are proposed: right numbers, and one proportion."""

import numpy as np
import pytest

from mask2former.check.needs import Needs
from mask2former.check.proposals import with_proposals
from mask2former.check.proposed_sizes import propose_sizes, short_side
from mask2former.config import Data, Run
from mask2former.data.augmentation import geometry_drawer
from mask2former.data.geometry import Size, shortest_edge_size
from surveyed import needs_of, run_of, values


@pytest.mark.parametrize(
    ("native", "small", "expected"),
    [
        # 10 px of 480 are 10 * 640 / 480 = 13.3 when the short side is 640; 16 / (10 / 480) = 768
        (480, 10.0, 768),
        # 12.1 px of 480 are 16.1 already
        (480, 12.1, 640),
        # 8 px of 5000 would need 16 / (8 / 5000) = 10000
        (5000, 8.0, 2048),
        # 1 px of 200 would need 3200, but 4 * 200 shows every pixel of the image by one of a mask
        (200, 1.0, 800),
        # 300 px are smaller than 640, and 60 of them large: 320 is the next multiple of 32
        (300, 60.0, 320),
        # 24 px of 300 would be 25.6 at 320, so they ask for 32 / (24 / 300) = 400, rounded up
        (300, 24.0, 416),
        # 100 px are blown up to what backbones are pretrained at, about
        (100, 80.0, 256),
        # large images are shrunk as the preset has it
        (3000, 300.0, 640),
    ],
)
def test_images_are_as_large_as_small_objects_need(native, small, expected) -> None:
    # nine large objects for a small one, which is the tenth that decides
    needs = needs_of(short_sides=(native,) * 20, objects=[small] * 20 + [native / 2] * 80)
    assert short_side(needs, 640) == expected


def test_all_sizes_keep_their_proportion() -> None:
    needs = needs_of(short_sides=(100,) * 20, objects=[80.0] * 9)
    proposed = values(list(propose_sizes(needs, run_of("semantic"))))
    assert proposed == {
        "data.test_size.short_side": 256,
        "data.test_size.max_long_side": 1024,
        "data.augmentation.short_sides": [
            round(side / 2) for side in run_of("semantic").data.augmentation.short_sides
        ],
        "data.augmentation.max_long_side": 1024,
        "data.augmentation.crop": [256, 256],
        # a quarter of the pixels
        "loss.num_points": 12544 // 4,
    }


def test_crops_stop_at_the_authors_sizes_and_points_at_theirs() -> None:
    needs = needs_of(short_sides=(5000,) * 20, objects=[20.0] * 9)
    proposed = values(list(propose_sizes(needs, run_of())))
    assert proposed["data.test_size.short_side"] == 2048
    assert proposed["data.augmentation.crop"] == [1024, 1024]
    assert max(proposed["data.augmentation.short_sides"]) == 4096
    assert "loss.num_points" not in proposed  # 12544 already
    (first, *_) = propose_sizes(needs, run_of())
    assert "tiles of the images would show them larger" in first.reason


def test_jittered_scales_follow_their_crop() -> None:
    run = run_of("instance", "coco-instance-resnet50")
    needs = needs_of(short_sides=(200,) * 20, objects=[100.0] * 9)
    proposed = values(list(propose_sizes(needs, run)))
    # 256 instead of 800: 0.32 of 1024 is 327.7, and 10 * 32 the nearest multiple
    assert proposed["data.augmentation.crop"] == [320, 320]
    assert "data.augmentation.short_sides" not in proposed
    assert proposed["loss.num_points"] == round(12544 * (320 / 1024) ** 2)


def test_scales_grow_where_the_crop_they_are_relative_to_cannot() -> None:
    run = run_of("instance", "coco-instance-resnet50")
    needs = needs_of(short_sides=(5000,) * 20, objects=[20.0] * 9)
    proposed = values(list(propose_sizes(needs, run)))
    # 2048 instead of 800 is 2.56 times as large
    assert proposed == {
        "data.test_size.short_side": 2048,
        "data.test_size.max_long_side": round(1333 * 2.56),
        "data.augmentation.min_scale": 0.256,
        "data.augmentation.max_scale": 5.12,
    }


COCO = "coco-instance-resnet50"
SMALLER = {"augmentation": {"crop": [320, 640]}}
LARGER, LARGE = needs_of(objects=[7.0]), needs_of(objects=[9.0])
"""Which ask for short sides of 1472 and 1152 pixels."""
SMALL = needs_of(short_sides=(200,) * 20, objects=[100.0])
"""Which ask for 256 pixels."""


def mean_scale(data: Data, size: Size) -> float:
    """Of an image in training, by that in evaluation."""
    draw = geometry_drawer(data.augmentation)
    drawn = [draw(size, np.random.default_rng(seed)).resized[0] for seed in range(50)]
    limits = data.test_size.short_side, data.test_size.max_long_side
    return float(np.mean(drawn)) / shortest_edge_size(size, *limits)[0]


@pytest.mark.parametrize(
    "run",
    [
        run_of(),
        run_of("panoptic", "cityscapes-panoptic-resnet50"),
        run_of("instance", COCO),
        run_of("instance", COCO, data=SMALLER),
        run_of("instance", COCO, data={"augmentation": {"crop": [48, 48]}}),
    ],
    ids=["general", "Cityscapes", "COCO", "COCO, small crops", "COCO, tiny crops"],
)
@pytest.mark.parametrize("needs", [LARGER, SMALL], ids=["enlarged", "shrunk"])
def test_objects_stay_as_large_in_training_as_in_evaluation(run: Run, needs: Needs) -> None:
    after = with_proposals(run, list(propose_sizes(needs, run)))
    is_jittered = run.data.augmentation.kind == "large_scale_jitter"
    assert after.data.test_size.short_side == (1472 if needs is LARGER else 256)
    for size in ((480, 480), (480, 700), (900, 480)):
        # a crop is rounded to multiples of 32, and resized images to pixels
        tolerance = 0.06 if is_jittered else 0.01
        assert mean_scale(after.data, size) == pytest.approx(
            mean_scale(run.data, size), rel=tolerance
        )


@pytest.mark.parametrize(
    ("crop", "needs", "expected"),
    [
        # as wide as the published ones already
        ([512, 1024], LARGE, None),
        # 1152 instead of 800 is 1.44 times: 460.8 and 921.6, of which 32 * 14 is the nearest
        ([320, 640], LARGE, [448, 896]),
        ([640, 320], LARGE, [896, 448]),
        # 1.28 times, when the long side is 1024
        ([400, 800], LARGE, [512, 1024]),
        # 256 instead of 800 is 0.32 times: 163.84 and 327.68
        ([512, 1024], SMALL, [160, 320]),
        ([1600, 1200], LARGE, None),
    ],
)
def test_crops_keep_their_shape_in_whole_strides(crop, needs: Needs, expected) -> None:
    run = run_of("instance", COCO, data={"augmentation": {"crop": crop}})
    proposed = values(list(propose_sizes(needs, run)))
    assert proposed.get("data.augmentation.crop") == expected


def test_test_time_augmentation_keeps_its_proportion() -> None:
    needs = needs_of(short_sides=(500,) * 20, objects=[16.0] * 9)
    proposed = values(list(propose_sizes(needs, run_of("semantic", "tiny"))))
    # 16 px of 500 have 16 px at 500, rounded up to 512: 4 times as many
    assert proposed["data.tta.short_sides"] == [448, 512, 576, 640]
