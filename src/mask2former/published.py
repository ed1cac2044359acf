"""What the authors published: every model of their zoo, with its results and its file."""

from collections.abc import Mapping
from typing import NamedTuple

from mask2former.recipes import (
    Recipe,
    ade20k,
    cityscapes,
    coco,
    mapillary,
    youtube_vis_2019,
    youtube_vis_2021,
)
from mask2former.tasks import Task


class Row(NamedTuple):
    """A model in the zoo."""

    folder: str
    """Of its file, from where `PublishedModels.checkpoints` ends."""
    zoo_id: str
    """What the zoo calls the run that made the file."""
    digits: str
    """The first of the file's MD5 sum."""
    results: tuple[float, ...]
    """One for each of `PublishedModels.metrics`, in percent, at a single scale on the validation
    set."""
    multi_scale: float | None = None
    """The first metric over several scales and flipped, in percent; none: not published."""


class PublishedModels(NamedTuple):
    """The authors' models for one task of one data set."""

    name: str
    """Of the presets, up to the backbone."""
    data: str
    task: Task
    recipe: Recipe
    classes: str
    """Name of the class table."""
    checkpoints: str
    """What the paths of the files begin with, below the authors' address."""
    metrics: tuple[str, ...]
    by_backbone: Mapping[str, Row]
    synchronized: tuple[str, ...] = ()
    """Backbones whose batch norm is not frozen."""
    num_images: int | None = None
    """To train on; none: they are drawn from videos."""


# Specification 1.2, rows 30-43, 1-29 and 44-47. Folders are named as the authors have them: the
# ResNet-101 for ADE20K trained for 160000 steps, and Mapillary's ResNets are Mask2Formers too.
IMAGE_MODELS = (
    PublishedModels(
        name="coco-instance",
        data="COCO",
        task="instance",
        recipe=coco,
        classes="coco_instance",
        checkpoints="mask2former/coco/instance/maskformer2_",
        metrics=("AP", "boundaryAP"),
        by_backbone={
            "resnet50": Row("R50_bs16_50ep", "47430277_2", "3c8ec9", (43.7, 30.6)),
            "resnet101": Row("R101_bs16_50ep", "47992113_0", "eba159", (44.2, 31.1)),
            "swin_tiny": Row("swin_tiny_bs16_50ep", "48558700_0", "86143f", (45.0, 31.8)),
            "swin_small": Row("swin_small_bs16_50ep", "48558700_2", "1e7f22", (46.3, 32.9)),
            "swin_base": Row("swin_base_384_bs16_50ep", "48558700_4", "f6e0f6", (46.7, 33.2)),
            "swin_base_in21k": Row(
                "swin_base_IN21k_384_bs16_50ep", "48558700_6", "83d103", (48.1, 34.4)
            ),
            "swin_large": Row(
                "swin_large_IN21k_384_bs16_100ep", "48235555", "e5f453", (50.1, 36.2)
            ),
        },
        num_images=118_287,
    ),
    PublishedModels(
        name="coco-panoptic",
        data="COCO",
        task="panoptic",
        recipe=coco,
        classes="coco_panoptic",
        checkpoints="mask2former/coco/panoptic/maskformer2_",
        metrics=("PQ", "AP", "mIoU"),
        by_backbone={
            "resnet50": Row("R50_bs16_50ep", "47430278_4", "94dc52", (51.9, 41.7, 61.7)),
            "resnet101": Row("R101_bs16_50ep", "47992113_1", "b807bd", (52.6, 42.6, 62.4)),
            "swin_tiny": Row("swin_tiny_bs16_50ep", "48558700_1", "9fd0ae", (53.2, 43.3, 63.2)),
            "swin_small": Row("swin_small_bs16_50ep", "48558700_3", "a407fd", (54.6, 44.7, 64.2)),
            "swin_base": Row("swin_base_384_bs16_50ep", "48558700_5", "9d7f02", (55.1, 45.2, 65.1)),
            "swin_base_in21k": Row(
                "swin_base_IN21k_384_bs16_50ep", "48558700_7", "54b88a", (56.4, 46.3, 67.1)
            ),
            "swin_large": Row(
                "swin_large_IN21k_384_bs16_100ep", "47429163_0", "f07440", (57.8, 48.6, 67.4)
            ),
        },
        num_images=118_287,
    ),
    PublishedModels(
        name="ade20k-semantic",
        data="ADE20K",
        task="semantic",
        recipe=ade20k,
        classes="ade20k",
        checkpoints="mask2former/ade20k/semantic/maskformer2_",
        metrics=("mIoU",),
        by_backbone={
            "resnet50": Row("R50_bs16_160k", "47429167_5", "500878", (47.2,), 49.2),
            "resnet101": Row("R101_bs16_90k", "48243040_0", "0d68be", (47.8,), 50.1),
            "swin_tiny": Row("swin_tiny_bs16_160k", "48333144_5", "5274a6", (47.7,), 49.6),
            "swin_small": Row("swin_small_bs16_160k", "48333149_5", "011c6d", (51.3,), 52.4),
            "swin_base": Row(
                "swin_base_384_bs16_160k_res640", "48333153_5", "503e96", (52.4,), 53.7
            ),
            "swin_base_in21k": Row(
                "swin_base_IN21k_384_bs16_160k_res640", "48333157_5", "7e47bf", (53.9,), 55.1
            ),
            "swin_large": Row(
                "swin_large_IN21k_384_bs16_160k_res640", "48004474_0", "6b4a3a", (56.1,), 57.3
            ),
        },
        synchronized=("resnet101",),
        num_images=20_210,
    ),
    PublishedModels(
        name="ade20k-instance",
        data="ADE20K",
        task="instance",
        recipe=ade20k,
        classes="ade20k_instance",
        checkpoints="mask2former/ade20k/instance/maskformer2_",
        metrics=("AP",),
        by_backbone={
            "resnet50": Row("R50_bs16_160k", "47429167_7", "67e945", (26.4,)),
            "swin_large": Row("swin_large_IN21k_384_bs16_160k", "49040271_0", "92dae9", (34.9,)),
        },
        num_images=20_210,
    ),
    PublishedModels(
        name="ade20k-panoptic",
        data="ADE20K",
        task="panoptic",
        recipe=ade20k,
        classes="ade20k",
        checkpoints="mask2former/ade20k/panoptic/maskformer2_",
        metrics=("PQ", "AP", "mIoU"),
        by_backbone={
            "resnet50": Row("R50_bs16_160k", "48243028_0", "5c90d4", (39.7, 26.5, 46.1)),
            "swin_large": Row(
                "swin_large_IN21k_384_bs16_160k", "48267279", "e0c58e", (48.1, 34.2, 54.5)
            ),
        },
        num_images=20_210,
    ),
    PublishedModels(
        name="cityscapes-semantic",
        data="Cityscapes",
        task="semantic",
        recipe=cityscapes,
        classes="cityscapes",
        checkpoints="mask2former/cityscapes/semantic/maskformer2_",
        metrics=("mIoU",),
        by_backbone={
            "resnet50": Row("R50_bs16_90k", "48267400_4", "cc1b1f", (79.4,), 82.2),
            "resnet101": Row("R101_bs16_90k", "48267400_13", "257ce8", (80.1,), 81.9),
            "swin_tiny": Row("swin_tiny_bs16_90k", "48333144_3", "2d58d4", (82.1,), 83.0),
            "swin_small": Row("swin_small_bs16_90k", "48333149_3", "fa26ae", (82.6,), 83.6),
            "swin_base_in21k": Row(
                "swin_base_IN21k_384_bs16_90k", "48333157_3", "1c6b65", (83.3,), 84.5
            ),
            "swin_large": Row(
                "swin_large_IN21k_384_bs16_90k", "48318254_5", "17c1ee", (83.3,), 84.3
            ),
        },
        synchronized=("resnet50", "resnet101"),
        num_images=2975,
    ),
    PublishedModels(
        name="cityscapes-instance",
        data="Cityscapes",
        task="instance",
        recipe=cityscapes,
        classes="cityscapes_instance",
        checkpoints="mask2former/cityscapes/instance/maskformer2_",
        metrics=("AP", "AP50"),
        by_backbone={
            "resnet50": Row("R50_bs16_90k", "48267400_8", "01a8ed", (37.4, 61.9)),
            "resnet101": Row("R101_bs16_90k", "48267400_16", "c2b8c8", (38.5, 63.9)),
            "swin_tiny": Row("swin_tiny_bs16_90k", "48333144_4", "6a63f8", (39.7, 66.9)),
            "swin_small": Row("swin_small_bs16_90k", "48333149_4", "974824", (41.8, 70.4)),
            "swin_base_in21k": Row(
                "swin_base_IN21k_384_bs16_90k", "48333157_4", "7a3b6d", (42.0, 68.8)
            ),
            "swin_large": Row(
                "swin_large_IN21k_384_bs16_90k", "49111004_2", "dfa862", (43.7, 71.4)
            ),
        },
        synchronized=("resnet50", "resnet101"),
        num_images=2975,
    ),
    PublishedModels(
        name="cityscapes-panoptic",
        data="Cityscapes",
        task="panoptic",
        recipe=cityscapes,
        classes="cityscapes",
        checkpoints="mask2former/cityscapes/panoptic/maskformer2_",
        metrics=("PQ", "AP", "mIoU"),
        by_backbone={
            "resnet50": Row("R50_bs16_90k", "48267400_0", "4ab90c", (62.1, 37.3, 77.5)),
            "resnet101": Row("R101_bs16_90k", "48267400_11", "04d286", (62.4, 37.7, 78.6)),
            "swin_tiny": Row("swin_tiny_bs16_90k", "48333144_2", "ceba0f", (63.9, 39.1, 80.5)),
            "swin_small": Row("swin_small_bs16_90k", "48381916", "23efb7", (64.8, 40.7, 81.8)),
            "swin_base_in21k": Row(
                "swin_base_IN21k_384_bs16_90k", "48333157_2", "fa840f", (66.1, 42.8, 82.7)
            ),
            "swin_large": Row(
                "swin_large_IN21k_384_bs16_90k", "48318254_2", "064788", (66.6, 43.6, 82.9)
            ),
        },
        synchronized=("resnet50", "resnet101"),
        num_images=2975,
    ),
    PublishedModels(
        name="mapillary-semantic",
        data="Mapillary Vistas",
        task="semantic",
        recipe=mapillary,
        classes="mapillary_vistas",
        checkpoints="mask2former/mapillary_vistas/semantic/maskformer",
        metrics=("mIoU",),
        by_backbone={
            "resnet50": Row("_R50_bs16_300k", "49189528_1", "6c66d0", (57.4,), 59.0),
            "swin_large": Row(
                "2_swin_large_IN21k_384_bs16_300k", "49189528_0", "90ee2d", (63.2,), 64.7
            ),
        },
        num_images=18_000,
    ),
    PublishedModels(
        name="mapillary-panoptic",
        data="Mapillary Vistas",
        task="panoptic",
        recipe=mapillary,
        classes="mapillary_vistas",
        checkpoints="mask2former/mapillary_vistas/panoptic/maskformer",
        metrics=("PQ", "mIoU"),
        by_backbone={
            "resnet50": Row("_R50_bs16_300k", "49392417_0", "4e9874", (36.3, 50.7)),
            "swin_large": Row(
                "2_swin_large_IN21k_384_bs16_300k", "48267065_4", "132c71", (45.5, 60.8)
            ),
        },
        num_images=18_000,
    ),
)

# Specification 1.2, rows 48-59.
VIDEO_MODELS = (
    PublishedModels(
        name="youtube-vis-2019",
        data="YouTube-VIS 2019",
        task="instance",
        recipe=youtube_vis_2019,
        classes="youtube_vis_2019",
        checkpoints="video_mask2former/ytvis_2019/video_maskformer2_",
        metrics=("AP",),
        by_backbone={
            "resnet50": Row("R50_bs16_8ep", "51130652_3", "34112b", (46.4,)),
            "resnet101": Row("R101_bs16_8ep", "50897581_1", "a34dca", (49.2,)),
            "swin_tiny": Row("swin_tiny_bs16_8ep", "50897611_3", "26fffe", (51.5,)),
            "swin_small": Row("swin_small_bs16_8ep", "50897661_2", "4a5174", (54.3,)),
            "swin_base_in21k": Row("swin_base_IN21k_384_bs16_8ep", "50897733_2", "221a8a", (59.5,)),
            "swin_large": Row("swin_large_IN21k_384_bs16_8ep", "50908813_0", "c5c739", (60.4,)),
        },
    ),
    PublishedModels(
        name="youtube-vis-2021",
        data="YouTube-VIS 2021",
        task="instance",
        recipe=youtube_vis_2021,
        classes="youtube_vis_2021",
        checkpoints="video_mask2former/ytvis_2021/video_maskformer2_",
        metrics=("AP",),
        by_backbone={
            "resnet50": Row("R50_bs16_8ep", "51130652_7", "b8aae2", (40.6,)),
            "resnet101": Row("R101_bs16_8ep", "50897581_8", "6efd7a", (42.4,)),
            "swin_tiny": Row("swin_tiny_bs16_8ep", "50897611_7", "965185", (45.9,)),
            "swin_small": Row("swin_small_bs16_8ep", "50897661_7", "0dec91", (48.6,)),
            "swin_base_in21k": Row("swin_base_IN21k_384_bs16_8ep", "50897733_9", "a9b925", (52.0,)),
            "swin_large": Row("swin_large_IN21k_384_bs16_8ep", "50908813_6", "4da256", (52.6,)),
        },
    ),
)
