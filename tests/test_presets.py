"""Presets against the published values, written here by hand from the specification."""

import json

import pytest

from mask2former.cli.main import OK, main
from mask2former.config import LargeScaleJitter, Run, ShortestEdgeCrop
from mask2former.presets import (
    PUBLISHED_BACKBONES,
    all_presets,
    all_published,
    find_preset,
    find_published,
    published_backbone,
)
from mask2former.recipes import short_sides

GENERAL = ["instance", "panoptic", "semantic", "tiny"]
COCO = [name for name in all_presets() if name.startswith("coco-")]
UNPUBLISHED = [*GENERAL, *(name for name in COCO if name.startswith("coco-semantic-"))]
ALL = "resnet50 resnet101 swin-tiny swin-small swin-base swin-base-in21k swin-large"
CITYSCAPES = "resnet50 resnet101 swin-tiny swin-small swin-base-in21k swin-large"


def test_the_presets_are_these() -> None:
    ends = "resnet50 swin-large"
    assert list(all_presets()) == [
        *GENERAL,
        *(f"coco-instance-{backbone}" for backbone in ALL.split()),
        *(f"coco-panoptic-{backbone}" for backbone in ALL.split()),
        *(f"coco-semantic-{backbone}" for backbone in ALL.split()),
        *(f"ade20k-semantic-{backbone}" for backbone in ALL.split()),
        *(f"ade20k-instance-{backbone}" for backbone in ends.split()),
        *(f"ade20k-panoptic-{backbone}" for backbone in ends.split()),
        *(f"cityscapes-semantic-{backbone}" for backbone in CITYSCAPES.split()),
        *(f"cityscapes-instance-{backbone}" for backbone in CITYSCAPES.split()),
        *(f"cityscapes-panoptic-{backbone}" for backbone in CITYSCAPES.split()),
        *(f"mapillary-semantic-{backbone}" for backbone in ends.split()),
        *(f"mapillary-panoptic-{backbone}" for backbone in ends.split()),
    ]


@pytest.mark.parametrize("name", [*UNPUBLISHED, *all_published()])
def test_every_preset_is_a_complete_run_of_its_tasks(name: str) -> None:
    preset = find_preset(name) if name in UNPUBLISHED else find_published(name)
    assert (preset.checkpoint is None) == (name in UNPUBLISHED)
    assert (preset.classes is None) == (name in GENERAL)
    for task in preset.tasks:
        run = preset.run(task)
        assert isinstance(run, Run)
        assert (run.preset, run.task) == (name, task)
        assert run.model.backbone == preset.backbone
        assert run.model.hidden_dim % run.model.num_heads == 0
        assert run.model.hidden_dim % 32 == 0  # group norm has 32 groups


@pytest.mark.parametrize("name", COCO)
def test_coco_recipe_is_the_published_one(name: str) -> None:
    # specification 1.1 and 1.2, rows 30-43
    run = find_preset(name).run()
    large = name.endswith("swin-large")
    assert run.training.steps == (737500 if large else 368750)
    assert run.training.batch_size == 16
    assert run.training.eval_every == 5000
    assert run.schedule.kind == "step"
    assert run.schedule.warmup_steps == 0
    steps = [round(fraction * run.training.steps) for fraction in run.schedule.milestones]
    assert steps == ([655556, 710184] if large else [327778, 355092])
    assert run.data.augmentation == LargeScaleJitter(
        crop=(1024, 1024), min_scale=0.1, max_scale=2.0, flip_probability=0.5, color_jitter=False
    )
    assert (run.data.test_size.short_side, run.data.test_size.max_long_side) == (800, 1333)
    assert run.model.num_queries == (200 if large and run.task != "semantic" else 100)


@pytest.mark.parametrize(
    "name", [*all_published(), *UNPUBLISHED[4:], "instance", "panoptic", "semantic"]
)
def test_network_loss_and_optimizer_are_the_published_ones(name: str) -> None:
    # specification 1.1
    preset = all_published()[name] if name in all_published() else find_preset(name)
    run = preset.run()
    network = run.model.model_dump(exclude={"backbone", "num_queries"})
    assert network == {
        "hidden_dim": 256, "num_heads": 8, "encoder_layers": 6, "encoder_feedforward_dim": 1024,
        "decoder_layers": 9, "decoder_feedforward_dim": 2048,
    }  # fmt: skip
    assert run.loss.model_dump() == {
        "class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "no_object_weight": 0.1,
        "num_points": 12544, "oversample_ratio": 3.0, "importance_ratio": 0.75,
    }  # fmt: skip
    assert run.optimizer.model_dump() == {
        "learning_rate": 1e-4, "backbone_learning_rate_factor": 0.1, "weight_decay": 0.05,
        "clip_norm": 0.01, "layer_decay": 1.0,
    }  # fmt: skip
    assert run.schedule.warmup_steps == 0
    assert run.inference.panoptic_overlap_threshold == 0.8
    assert run.data.augmentation.flip_probability == 0.5


def test_backbones_are_the_published_ones() -> None:
    for name, backbone in PUBLISHED_BACKBONES.items():
        assert backbone.name == name
        assert backbone.pretrained
        assert backbone.norm == "frozen"
        assert backbone.drop_path == (0.3 if name.startswith("swin") else 0.0)


def test_any_other_backbone_is_pretrained_without_drop_path() -> None:
    backbone = published_backbone("convnext_tiny")
    assert (backbone.name, backbone.pretrained, backbone.drop_path) == ("convnext_tiny", True, 0.0)


def test_short_sides_are_the_published_lists() -> None:
    # specification 1.1: L512 and L640, int(0.1 * tenth * base)
    assert short_sides(512) == (
        256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024,
    )  # fmt: skip
    assert short_sides(640) == tuple(range(320, 1281, 64))
    # L1024 and L2048
    assert short_sides(1024)[:4] == (512, 614, 716, 819)
    assert short_sides(2048) == (
        1024, 1228, 1433, 1638, 1843, 2048, 2252, 2457, 2662, 2867, 3072, 3276, 3481, 3686, 3891,
        4096,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("task", "side"), [("semantic", 512), ("instance", 640), ("panoptic", 640)]
)
def test_folder_recipe_crops_as_published_for_ade20k(task: str, side: int) -> None:
    # specification 1.2, rows 1, 3 and 6
    run = find_preset(task).run()
    assert run.schedule.kind == "poly"
    assert run.schedule.power == 0.9
    assert run.data.augmentation == ShortestEdgeCrop(
        short_sides=short_sides(side),
        max_long_side={512: 2048, 640: 2560}[side],
        crop=(side, side),
        flip_probability=0.5,
        color_jitter=True,
        pad_to_crop=True,
    )
    assert run.data.test_size.short_side == side
    assert run.data.test_size.max_long_side == {512: 2048, 640: 2560}[side]


@pytest.mark.parametrize(
    ("name", "sides", "crop", "pads", "test", "steps", "queries", "norm"),
    [
        # rows 5, 6, 9 and 4
        ("ade20k-semantic-resnet101", 512, (512, 512), True, (512, 2048), 160000, 100, "sync"),
        ("ade20k-semantic-resnet50", 512, (512, 512), True, (512, 2048), 160000, 100, "frozen"),
        ("ade20k-semantic-swin-large", 640, (640, 640), True, (640, 2560), 160000, 100, "frozen"),
        ("ade20k-panoptic-swin-large", 640, (640, 640), True, (640, 2560), 160000, 200, "frozen"),
        # rows 13 and 21
        ("cityscapes-instance-resnet50", 1024, (512, 1024), False, (1024, 2048), 90000, 100,
         "sync"),
        ("cityscapes-panoptic-swin-large", 1024, (512, 1024), False, (1024, 2048), 90000, 200,
         "frozen"),
        # row 44
        ("mapillary-panoptic-resnet50", 2048, (1024, 1024), True, (2048, 2048), 300000, 100,
         "frozen"),
    ],
)  # fmt: skip
def test_recipes_differ_as_published(
    name: str,
    sides: int,
    crop: tuple[int, int],
    pads: bool,
    test: tuple[int, int],
    steps: int,
    queries: int,
    norm: str,
) -> None:
    run = find_preset(name).run()
    assert run.data.augmentation == ShortestEdgeCrop(
        short_sides=short_sides(sides), max_long_side=4 * sides, crop=crop, pad_to_crop=pads
    )
    assert (run.data.test_size.short_side, run.data.test_size.max_long_side) == test
    assert (run.training.steps, run.training.batch_size) == (steps, 16)
    assert (run.schedule.kind, run.schedule.power) == ("poly", 0.9)
    assert (run.model.num_queries, run.model.backbone.norm) == (queries, norm)


def test_mapillary_ignores_65_and_keeps_unsure_segments() -> None:
    # specification 1.1 and the notes of 1.2
    run = find_preset("mapillary-panoptic-swin-large").run()
    assert (run.data.ignore_index, run.data.workers) == (65, 10)
    assert run.inference.panoptic_score_threshold == 0.0
    assert run.training.eval_every == run.training.steps


def test_tiny_downloads_nothing_and_trains_every_task() -> None:
    assert not find_preset("tiny").run().model.backbone.pretrained
    assert find_preset("tiny").tasks == ("semantic", "instance", "panoptic")


def test_names_may_be_written_with_underscores() -> None:
    assert find_preset("coco_panoptic_swin_tiny") is find_preset("coco-panoptic-swin-tiny")
    video = find_published("youtube-vis-2019-swin-base-in21k")
    assert find_published("youtube_vis_2019-swin_base_in21k") is video


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no preset ade20k-semantic-resnet51; did you mean ade20k"):
        find_preset("ade20k-semantic-resnet51")
    message = "no published model youtube-vis-2020-resnet50; did you mean youtube-vis-20.*-resnet50"
    with pytest.raises(ValueError, match=message):
        find_published("youtube-vis-2020-resnet50")


@pytest.mark.parametrize(
    ("name", "length", "decay", "epochs"),
    [
        # specification 1.2, notes: 50 and 100 epochs of 118287 images, at 8/9 and 26/27 of them
        ("coco-instance-resnet50", "50 epochs", "x0.1 at 89 %, 96 %", 368_750 * 16 / 118_287),
        ("coco-semantic-swin-large", "100 epochs", "x0.1 at 89 %, 96 %", 737_500 * 16 / 118_287),
        ("ade20k-panoptic-resnet50", "160k steps", "poly", 160_000 * 16 / 20_210),
        ("mapillary-semantic-resnet50", "300k steps", "poly", 300_000 * 16 / 18_000),
        ("youtube-vis-2021-resnet50", "8k steps", "x0.1 at 69 %", None),
        ("tiny", "1200 steps", "poly", None),
    ],
)
def test_a_schedule_is_told_as_its_authors_do(
    name: str, length: str, decay: str, epochs: float | None
) -> None:
    preset = find_published(name) if name in all_published() else find_preset(name)
    assert (preset.length, preset.decay, preset.epochs) == (length, decay, epochs)


def test_the_list_of_presets_fits_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert [name for name in listed if name != "preset"] == list(all_presets())
    assert "ADE20K, semantic: 150 classes, batch 16, poly" in lines
    [row] = [line.split() for line in lines if line.startswith("  ade20k-semantic-swin-tiny")]
    # row 11
    assert row[1:] == ["160k", "steps", "47.7", "49.6", "48333144_5", "5274a6"]
    [row] = [line.split() for line in lines if line.startswith("  coco-semantic-swin-tiny")]
    assert row[1:] == ["50", "epochs", "none", "published"]
    videos = " ".join(lines).partition("video models, for --weights alone: ")[2]
    assert set(all_published()) - set(all_presets()) <= set(videos.replace(",", " ").split())


def test_the_list_for_programs_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--json"]) == OK
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)["presets"]}
    assert list(listed) == list(all_presets())
    # row 5
    assert listed["ade20k-semantic-resnet101"] == {
        "name": "ade20k-semantic-resnet101",
        "tasks": ["semantic"],
        "data": "ADE20K",
        "classes": "ade20k",
        "num_classes": 150,
        "backbone": "resnet101",
        "norm": "sync",
        "queries": 100,
        "steps": 160000,
        "epochs": 126.7,
        "batch_size": 16,
        "schedule": "poly, 160k steps",
        "learning_rate": 0.0001,
        "published": {"mIoU": 47.8},
        "published_multi_scale": {"mIoU": 50.1},
        "zoo_id": "48243040_0",
        "file_suffix": "0d68be",
        "checkpoint": "mask2former/ade20k/semantic/maskformer2_R101_bs16_90k/"
        "model_final_0d68be.pkl",
    }
    assert listed["coco-semantic-resnet50"]["published"] == {}
    assert listed["coco-semantic-resnet50"]["checkpoint"] is None
    assert listed["tiny"]["num_classes"] is None
