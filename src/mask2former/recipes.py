"""How to train on what: functions that complete a backbone to a whole configuration.

The authors' recipes follow their configuration files. What these have beyond `config.Run` is left
out: which outputs a model gives besides its task's, and how clips are drawn from videos.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from mask2former.config import (
    Backbone,
    Data,
    Inference,
    LargeScaleJitter,
    Loss,
    Model,
    Optimizer,
    Run,
    Schedule,
    ShortestEdgeCrop,
    TestSize,
    TestTimeAugmentation,
    Training,
)
from mask2former.tasks import Task

Recipe: TypeAlias = Callable[[str, Task, Backbone], Run]
"""(preset's name, task, backbone) to a complete configuration."""

_PRETRAINED_AT_384_PX = ("swin_base", "swin_base_in21k", "swin_large")


def folder(name: str, task: Task, backbone: Backbone) -> Run:
    """For anyone's data: the authors' ADE20K recipe, cut down to one GPU and an afternoon.

    ADE20K is their most varied data set, so crops and scales carry over to photos of most kinds.
    A number of steps rather than epochs bounds the time whatever the size of the data; at half
    the authors' batch, AdamW with its gradients clipped to a fixed norm keeps their rate.

    Source:
        Specification 1.1 and 1.2: list L640, crop 640 (rows 1-4) and, for semantic
        segmentation, list L512, crop 512 (rows 5-6); poly schedule.
    """
    side = 512 if task == "semantic" else 640
    return Run(
        preset=name,
        task=task,
        model=Model(backbone=backbone),
        data=Data(
            augmentation=_crop_to(side, side),
            test_size=TestSize(short_side=side, max_long_side=4 * side),
        ),
        schedule=Schedule(kind="poly"),
        training=Training(steps=20_000, batch_size=8),
    )


def tiny(name: str, task: Task, backbone: Backbone) -> Run:
    """Trained from random weights in minutes on a CPU: for trying things out.

    The learning rate is the same everywhere, because nothing is pretrained, and ten times the
    published one, because a run has a thousand steps. So short a training leaves classes less sure
    than the published threshold for a panoptic segment asks.
    """
    return Run(
        preset=name,
        task=task,
        model=Model(
            backbone=backbone,
            num_queries=20,
            hidden_dim=64,
            num_heads=4,
            encoder_layers=2,
            encoder_feedforward_dim=128,
            decoder_layers=3,
            decoder_feedforward_dim=128,
        ),
        loss=Loss(num_points=1024),
        data=Data(
            augmentation=ShortestEdgeCrop(
                short_sides=(112, 128, 144, 160),
                max_long_side=512,
                crop=(128, 128),
                color_jitter=False,
            ),
            test_size=TestSize(short_side=128, max_long_side=512),
            # as in training: a model that saw few sizes is the worse for others
            tta=TestTimeAugmentation(short_sides=(112, 128, 144, 160), max_long_side=512),
            workers=0,
        ),
        optimizer=Optimizer(learning_rate=1e-3, backbone_learning_rate_factor=1.0),
        schedule=Schedule(kind="poly", warmup_steps=20),
        training=Training(steps=1200, batch_size=4, eval_every=400),
        inference=Inference(panoptic_score_threshold=0.5),
    )


def coco(name: str, task: Task, backbone: Backbone) -> Run:
    """The authors' recipe for COCO 2017 (118287 images).

    Source:
        Specification 1.2, rows 30-43: large-scale jitter at 1024 px; 50 epochs with the learning
        rate x 0.1 at 8/9 and 26/27 of the steps; 100 epochs with Swin-L.
    """
    large = backbone.name == "swin_large"
    steps = 737_500 if large else 368_750
    drops = (655_556, 710_184) if large else (327_778, 355_092)
    return Run(
        preset=name,
        task=task,
        model=_model(task, backbone),
        data=Data(augmentation=LargeScaleJitter(), test_size=TestSize()),
        schedule=Schedule(kind="step", milestones=tuple(step / steps for step in drops)),
        training=Training(steps=steps, batch_size=16, eval_every=5000),
    )


def ade20k(name: str, task: Task, backbone: Backbone) -> Run:
    """The authors' recipe for ADE20K (20210 images).

    Source:
        Specification 1.2, rows 1-11: list L640, crop 640; for semantic segmentation list L512,
        crop 512, unless the backbone was pretrained at 384 px.
    """
    side = 512 if task == "semantic" and backbone.name not in _PRETRAINED_AT_384_PX else 640
    return Run(
        preset=name,
        task=task,
        model=_model(task, backbone),
        data=Data(
            augmentation=_crop_to(side, side),
            test_size=TestSize(short_side=side, max_long_side=4 * side),
            tta=_tta(task, range(side // 2, 2 * side, side // 4), 7 * side),
        ),
        schedule=Schedule(kind="poly"),
        training=Training(steps=160_000, batch_size=16, eval_every=5000),
    )


def cityscapes(name: str, task: Task, backbone: Backbone) -> Run:
    """The authors' recipe for Cityscapes' fine annotations (2975 images).

    Source:
        Specification 1.2, rows 12-29: list L1024, crop 512 x 1024, never padded to it.
    """
    return Run(
        preset=name,
        task=task,
        model=_model(task, backbone),
        data=Data(
            augmentation=_crop_to(512, 1024, pad_to_crop=False),
            test_size=TestSize(short_side=1024, max_long_side=2048),
            tta=_tta(task, range(512, 2048, 256), 4096),
        ),
        schedule=Schedule(kind="poly"),
        training=Training(steps=90_000, batch_size=16, eval_every=5000),
    )


def mapillary(name: str, task: Task, backbone: Backbone) -> Run:
    """The authors' recipe for Mapillary Vistas 1.2 (18000 images).

    Source:
        Specification 1.1 and 1.2, rows 44-47: list L2048, crop 1024; every panoptic segment is
        kept, however unsure; value 65 of the label maps is ignored; evaluated only at the end. The
        sizes of test-time augmentation are detectron2's defaults.
    """
    steps = 300_000
    return Run(
        preset=name,
        task=task,
        model=_model(task, backbone),
        data=Data(
            ignore_index=65,
            augmentation=_crop_to(1024, 1024, base=2048),
            test_size=TestSize(short_side=2048, max_long_side=2048),
            tta=_tta(task, range(400, 1201, 100), 4000),
            workers=10,
        ),
        schedule=Schedule(kind="poly"),
        training=Training(steps=steps, batch_size=16, eval_every=steps),
        inference=Inference(panoptic_score_threshold=0.0),
    )


def youtube_vis_2019(name: str, task: Task, backbone: Backbone) -> Run:
    """What of the authors' recipe for YouTube-VIS 2019 holds for its frames.

    Source:
        Specification 1.2, rows 48-53.
    """
    short_side = 480 if backbone.name.startswith("swin") else 360
    return _youtube_vis(name, task, backbone, steps=6000, drop=4000, short_side=short_side)


def youtube_vis_2021(name: str, task: Task, backbone: Backbone) -> Run:
    """What of the authors' recipe for YouTube-VIS 2021 holds for its frames.

    Source:
        Specification 1.2, rows 54-59; Swin-L, alone of the Swins, is tested at 360 px.
    """
    small = backbone.name == "swin_large" or not backbone.name.startswith("swin")
    short_side = 360 if small else 480
    return _youtube_vis(name, task, backbone, steps=8000, drop=5500, short_side=short_side)


def short_sides(base: int) -> tuple[int, ...]:
    """The authors' training sizes: half to twice the base, in steps of a tenth, cut to pixels."""
    return tuple(int(0.1 * tenth * base) for tenth in range(5, 21))


def _model(task: Task, backbone: Backbone) -> Model:
    """The authors' network: with Swin-L twice the queries, but not for semantic segmentation."""
    large = backbone.name == "swin_large" and task != "semantic"
    return Model(backbone=backbone, num_queries=200 if large else 100)


def _crop_to(
    height: int, width: int, *, base: int | None = None, pad_to_crop: bool = True
) -> ShortestEdgeCrop:
    """The authors' augmentation for all but COCO; without a base, the crop's width is it."""
    base = width if base is None else base
    return ShortestEdgeCrop(
        short_sides=short_sides(base),
        max_long_side=4 * base,
        crop=(height, width),
        pad_to_crop=pad_to_crop,
    )


def _tta(task: Task, sides: Iterable[int], max_long_side: int) -> TestTimeAugmentation | None:
    """The authors augment at test time for semantic segmentation alone."""
    if task != "semantic":
        return None
    return TestTimeAugmentation(short_sides=tuple(sides), max_long_side=max_long_side)


def _youtube_vis(
    name: str, task: Task, backbone: Backbone, *, steps: int, drop: int, short_side: int
) -> Run:
    longest = 1333
    return Run(
        preset=name,
        task=task,
        model=_model(task, backbone),
        data=Data(
            # A crop that no image exceeds leaves all of them whole.
            augmentation=ShortestEdgeCrop(
                short_sides=(360, 480),
                max_long_side=longest,
                crop=(longest, longest),
                color_jitter=False,
                pad_to_crop=False,
            ),
            test_size=TestSize(short_side=short_side, max_long_side=longest),
        ),
        schedule=Schedule(kind="step", milestones=(drop / steps,)),
        training=Training(steps=steps, batch_size=16, eval_every=steps),
        inference=Inference(max_instances=10),
    )
