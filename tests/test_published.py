"""The authors' models against the specification's table of them, and by hand."""

import re

import pytest

from mask2former.config import LargeScaleJitter, ShortestEdgeCrop, TestTimeAugmentation
from mask2former.data.class_tables import class_table
from mask2former.presets import all_presets, all_published, find_preset, find_published
from specification import TEXT, Row, needs_specification, specified_rows

GENERAL = ["instance", "panoptic", "semantic", "tiny"]
COCO_SEMANTIC = [name for name in all_presets() if name.startswith("coco-semantic-")]
"""The zoo has none of them."""
DATA_NAMES = {
    "ade20k": "ADE20K", "cityscapes": "Cityscapes", "coco": "COCO",
    "mapillary-vistas": "Mapillary Vistas", "youtubevis_2019": "YouTube-VIS 2019",
    "youtubevis_2021": "YouTube-VIS 2021",
}  # fmt: skip


ROWS = specified_rows()


def backbone_of(row: Row) -> str:
    letter = row.backbone.split()[0]
    name = {
        "R50": "resnet50", "R101": "resnet101", "Swin-T": "swin_tiny", "Swin-S": "swin_small",
        "Swin-B": "swin_base", "Swin-L": "swin_large",
    }[letter]  # fmt: skip
    # video models start from a COCO model, which says nothing of ImageNet
    from_22k = "_22k" in row.start or (row.is_video and "IN21k" in row.stem)
    return "swin_base_in21k" if name == "swin_base" and from_22k else name


def preset_name(row: Row) -> str:
    backbone = backbone_of(row).replace("_", "-")
    if row.is_video:
        return f"youtube-vis-{row.data.removeprefix('youtubevis_')}-{backbone}"
    task = row.config.split("/")[1].removesuffix("-segmentation")
    return f"{row.data.removesuffix('-vistas')}-{task}-{backbone}"


def training_sizes(name: str) -> tuple[int, ...]:
    """Of a list of section 1.1, such as L512."""
    text = TEXT.read_text(encoding="utf-8")
    values = re.search(rf"^\| {name} \| ([\d ]+) \|", text, re.MULTILINE)
    assert values is not None
    return tuple(int(value) for value in values[1].split())


def augmentation_of(row: Row) -> LargeScaleJitter | ShortestEdgeCrop:
    if "LSJ" in row.mapper:
        sizes = re.search(r"LSJ ([\d.]+)–([\d.]+) × (\d+), fixed crop (\d+)²", row.mapper)
        assert sizes is not None
        least, most, base, crop = map(float, sizes.groups())
        assert base == crop
        return LargeScaleJitter(crop=(int(crop), int(crop)), min_scale=least, max_scale=most)
    if row.is_video:
        clip = re.search(r"clip: (\d+)/(\d+) .*, max (\d+), flip", row.mapper)
        assert clip is not None
        short, long, most = map(int, clip.groups())
        return ShortestEdgeCrop(
            short_sides=(short, long), max_long_side=most, crop=(most, most), color_jitter=False,
            pad_to_crop=False,
        )  # fmt: skip
    crop = re.search(r"list (L\d+), max (\d+), crop (\d+)×(\d+), colour on, pad (\w+)$", row.mapper)
    assert crop is not None
    assert crop[5] in ("none", crop[3])
    return ShortestEdgeCrop(
        short_sides=training_sizes(crop[1]),
        max_long_side=int(crop[2]),
        crop=(int(crop[3]), int(crop[4])),
        pad_to_crop=crop[5] != "none",
    )


def shown_tta(tta: TestTimeAugmentation | None) -> str:
    """As the table has it: the range of the short sides and the longest long side."""
    if tta is None:
        return "-"
    assert tta.flip
    return f"{tta.short_sides[0]}–{tta.short_sides[-1]}/{tta.max_long_side}"


@needs_specification
def test_every_row_of_the_specification_is_a_preset() -> None:
    assert [int(row.number) for row in ROWS] == list(range(1, 60))
    assert sorted(preset_name(row) for row in ROWS) == sorted(all_published())
    image = [preset_name(row) for row in ROWS if not row.is_video]
    assert sorted([*GENERAL, *COCO_SEMANTIC, *image]) == sorted(all_presets())


@needs_specification
@pytest.mark.parametrize("row", ROWS, ids=preset_name)
def test_network_and_files_are_those_of_the_specification(row: Row) -> None:
    preset = find_published(preset_name(row))
    run = preset.run()
    assert run.task == {"ins": "instance", "vis": "instance", "pan": "panoptic"}.get(
        row.task, "semantic"
    )
    assert run.model.backbone == preset.backbone
    assert run.model.backbone.name == backbone_of(row)
    assert run.model.backbone.norm == ("sync" if "SyncBN" in row.backbone else "frozen")
    assert run.model.num_queries == int(row.queries)
    assert preset.classes is not None
    assert len(class_table(preset.classes)) == int(row.num_classes)
    assert preset.data == DATA_NAMES[row.data]
    single_scale, _, multi_scale = row.result.partition(" ms ")
    results = re.findall(r"(\w+) ([\d.]+)", single_scale)
    names = {"bAP": "boundaryAP"}
    assert preset.published == {names.get(name, name): float(value) for name, value in results}
    assert preset.multi_scale == ({"mIoU": float(multi_scale)} if multi_scale else {})

    zoo_id, suffix = row.file.split(", ")
    assert (preset.zoo_id, preset.file_suffix) == (zoo_id, suffix)
    folder = {"mapillary-vistas": "mapillary_vistas"}.get(row.data, row.data)
    path = f"mask2former/{folder}/{run.task}"
    if row.is_video:
        path = f"video_mask2former/{row.data.replace('youtubevis', 'ytvis')}"
    # reading notes of 1.2
    mapillary_resnet = row.data == "mapillary-vistas" and row.backbone.startswith("R50")
    stem = "maskformer_R50_bs16_300k" if mapillary_resnet else row.stem
    assert preset.checkpoint == f"{path}/{stem}/model_final_{suffix}.pkl"


@needs_specification
@pytest.mark.parametrize("row", ROWS, ids=preset_name)
def test_training_is_that_of_the_specification(row: Row) -> None:
    run = find_published(preset_name(row)).run()
    mapillary = row.data == "mapillary-vistas"
    assert run.training.steps == int(row.iterations)
    kind, values = row.schedule.split()
    assert run.schedule.kind == kind
    if kind == "step":
        drops = [round(fraction * int(row.iterations)) for fraction in run.schedule.milestones]
        assert drops == [int(value) for value in values.split(",")]
    else:
        assert run.schedule.power == float(values)
    batch, rate, _ = row.batch.split(" · ")
    assert (run.training.batch_size, run.optimizer.learning_rate) == (int(batch), float(rate))
    at_the_end = mapillary or row.is_video  # 1.1
    assert run.training.eval_every == (int(row.iterations) if at_the_end else 5000)
    assert run.data.workers == (10 if mapillary else 4)
    assert run.data.ignore_index == (65 if mapillary else 255)
    assert run.data.augmentation == augmentation_of(row)
    size = run.data.test_size
    assert f"{size.short_side}/{size.max_long_side}" == row.test
    assert shown_tta(run.data.tta) == row.augmentation_at_test
    assert run.inference.panoptic_score_threshold == (0.0 if mapillary else 0.8)
    assert run.inference.max_instances == (10 if row.is_video else 100)  # 5.3


@pytest.mark.parametrize(
    ("name", "short_sides"),
    [
        ("ade20k-semantic-resnet50", (256, 384, 512, 640, 768, 896)),
        ("ade20k-semantic-swin-large", (320, 480, 640, 800, 960, 1120)),
        ("cityscapes-semantic-resnet50", (512, 768, 1024, 1280, 1536, 1792)),
        ("mapillary-semantic-swin-large", (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)),
    ],
)
def test_images_are_augmented_at_the_published_sizes(
    name: str, short_sides: tuple[int, ...]
) -> None:
    tta = find_published(name).run().data.tta
    assert tta is not None
    assert tta.short_sides == short_sides


@pytest.mark.parametrize("name", ["ade20k-semantic-resnet50", "ade20k-semantic-swin-base-in21k"])
def test_other_models_are_augmented_as_ade20k_is(name: str) -> None:
    published = find_published(name).run().data
    silent = published.model_copy(update={"tta": None})
    assert silent.tta_sizes == published.tta_sizes == published.tta
    assert find_published("coco-panoptic-resnet50").run().data.tta is None


def test_published_are_the_image_presets_and_youtube_vis() -> None:
    image = [name for name in all_presets() if name not in (*GENERAL, *COCO_SEMANTIC)]
    backbones = [
        "resnet50",
        "resnet101",
        "swin-tiny",
        "swin-small",
        "swin-base-in21k",
        "swin-large",
    ]
    assert list(all_published()) == [
        *image,
        *(f"youtube-vis-2019-{backbone}" for backbone in backbones),
        *(f"youtube-vis-2021-{backbone}" for backbone in backbones),
    ]
    assert all(find_published(name) is find_preset(name) for name in image)


def test_every_checkpoint_is_another_file() -> None:
    paths = [preset.checkpoint or "" for preset in all_published().values()]
    assert len({path[-10:] for path in paths}) == len(paths) == 59
    pattern = r"(video_)?mask2former/[\w/]+/model_final_[0-9a-f]{6}\.pkl"
    assert [path for path in paths if not re.fullmatch(pattern, path)] == []


def test_a_video_preset_opens_frames() -> None:
    # rows 53 and 55
    for name, short_side, queries in (
        ("youtube-vis-2019-resnet50", 360, 100),
        ("youtube-vis-2021-swin-large", 360, 200),
        ("youtube-vis-2021-swin-base-in21k", 480, 100),
    ):
        run = find_published(name).run()
        assert (run.task, run.inference.max_instances) == ("instance", 10)
        assert (run.data.test_size.short_side, run.data.test_size.max_long_side) == (
            short_side,
            1333,
        )
        assert run.model.num_queries == queries


@pytest.mark.parametrize(
    ("name", "published", "classes", "checkpoint"),
    [
        ("coco-panoptic-resnet50", {"PQ": 51.9, "AP": 41.7, "mIoU": 61.7}, "coco_panoptic",
         "mask2former/coco/panoptic/maskformer2_R50_bs16_50ep/model_final_94dc52.pkl"),
        ("mapillary-semantic-resnet50", {"mIoU": 57.4}, "mapillary_vistas",
         "mask2former/mapillary_vistas/semantic/maskformer_R50_bs16_300k/model_final_6c66d0.pkl"),
        ("youtube-vis-2019-resnet50", {"AP": 46.4}, "youtube_vis_2019",
         "video_mask2former/ytvis_2019/video_maskformer2_R50_bs16_8ep/model_final_34112b.pkl"),
    ],
)  # fmt: skip
def test_published_results_classes_and_files_are_those_of_the_zoo(
    name: str, published: dict[str, float], classes: str, checkpoint: str
) -> None:
    # specification 1.2, rows 38, 46 and 53
    preset = find_published(name)
    assert (preset.published, preset.classes) == (published, classes)
    assert preset.checkpoint == checkpoint


def test_a_video_preset_cannot_be_trained_but_opened() -> None:
    message = (
        "youtube-vis-2019-resnet50 is a video model, which cannot be trained yet; "
        "open its published weights with --weights youtube-vis-2019-resnet50"
    )
    with pytest.raises(ValueError, match=message):
        find_preset("youtube_vis_2019-resnet50")


@pytest.mark.parametrize("name", [*GENERAL, *COCO_SEMANTIC])
def test_what_nobody_published_offers_no_download(name: str) -> None:
    preset = find_preset(name)
    assert (preset.checkpoint, preset.zoo_id, preset.file_suffix) == (None, None, None)
    assert preset.published == preset.multi_scale == {}
    assert name not in all_published()
    message = f"{name} is a preset without published weights; train it with --preset {name}"
    with pytest.raises(ValueError, match=message):
        find_published(name.replace("-", "_"))


def test_instead_of_weights_that_are_not_there_those_of_other_tasks_are_named() -> None:
    message = "take published weights for other tasks: coco-instance-.*, coco-panoptic-swin-base$"
    with pytest.raises(ValueError, match=message):
        find_published("coco-semantic-swin-base")


def test_coco_semantic_has_the_classes_of_coco_panoptic() -> None:
    # specification 1.5: the script for semantic maps writes indices 0 to 132
    for name in COCO_SEMANTIC:
        preset, panoptic = find_preset(name), find_preset(name.replace("semantic", "panoptic"))
        assert (preset.classes, preset.tasks) == (panoptic.classes, ("semantic",))
        assert len(class_table(preset.classes or "")) == 133
        assert (preset.data, preset.backbone) == (panoptic.data, panoptic.backbone)
