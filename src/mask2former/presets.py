"""What can be trained by name: recipes of tasks and data, each with every backbone.

A recipe turns a backbone into a complete configuration; a preset names one such pair, with what
the authors published for it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
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
    Training,
)
from mask2former.suggestions import did_you_mean
from mask2former.tasks import TASKS, Task

Recipe: TypeAlias = Callable[[str, Task, Backbone], Run]
"""(preset's name, task, backbone) to a complete configuration."""

# Swin has no batch norm; the authors drop paths at 0.3 in every size (specification 1.1).
PUBLISHED_BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {
        "resnet50": Backbone(name="resnet50", pretrained=True),
        "resnet101": Backbone(name="resnet101", pretrained=True),
        "swin_tiny": Backbone(name="swin_tiny", pretrained=True, drop_path=0.3),
        "swin_small": Backbone(name="swin_small", pretrained=True, drop_path=0.3),
        "swin_base": Backbone(name="swin_base", pretrained=True, drop_path=0.3),
        "swin_large": Backbone(name="swin_large", pretrained=True, drop_path=0.3),
    }
)

# Statistics that no pretraining measured must not stay fixed.
RANDOM_WEIGHTS: Mapping[str, Mapping[str, Mapping[str, bool | str]]] = MappingProxyType(
    {"model": {"backbone": {"pretrained": False, "norm": "sync"}}}
)


@dataclass(frozen=True)
class Preset:
    """A name for a complete configuration."""

    name: str
    data: str
    """What it is made for: COCO 2017, or anyone's folder."""
    backbone: Backbone
    tasks: tuple[Task, ...]
    """That it can train; which one, the data says where there are several."""
    recipe: Recipe
    published: Mapping[str, float] = field(default_factory=dict)
    """The authors' results on the validation set, in percent."""

    def run(self, task: Task | None = None) -> Run:
        """The complete configuration; of the first task without one."""
        return self.recipe(self.name, self.tasks[0] if task is None else task, self.backbone)


def published_backbone(name: str) -> Backbone:
    """A backbone as the authors trained with it, or any other of that name, pretrained."""
    return PUBLISHED_BACKBONES.get(name, Backbone(name=name, pretrained=True))


def coco(name: str, task: Task, backbone: Backbone) -> Run:
    """The authors' recipe for COCO 2017 (118287 images).

    Source:
        Specification 1.2, rows 30-43: large-scale jitter at 1024 px; 50 epochs with the learning
        rate x 0.1 at 8/9 and 26/27 of the steps; 100 epochs and 200 queries with Swin-L.
    """
    large = backbone.name == "swin_large"
    steps = 737_500 if large else 368_750
    drops = (655_556, 710_184) if large else (327_778, 355_092)
    return Run(
        preset=name,
        task=task,
        model=Model(backbone=backbone, num_queries=200 if large else 100),
        data=Data(augmentation=LargeScaleJitter(), test_size=TestSize()),
        schedule=Schedule(kind="step", milestones=tuple(step / steps for step in drops)),
        training=Training(steps=steps, batch_size=16, eval_every=5000),
    )


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
            augmentation=ShortestEdgeCrop(
                short_sides=short_sides(side), max_long_side=4 * side, crop=(side, side)
            ),
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
            workers=0,
        ),
        optimizer=Optimizer(learning_rate=1e-3, backbone_learning_rate_factor=1.0),
        schedule=Schedule(kind="poly", warmup_steps=20),
        training=Training(steps=1200, batch_size=4, eval_every=400),
        inference=Inference(panoptic_score_threshold=0.5),
    )


def short_sides(base: int) -> tuple[int, ...]:
    """The authors' training sizes: half to twice the base, in steps of a tenth, cut to pixels."""
    return tuple(int(0.1 * tenth * base) for tenth in range(5, 21))


@cache
def all_presets() -> Mapping[str, Preset]:
    """Every preset by name, in the order to show them."""
    return MappingProxyType({preset.name: preset for preset in _list_presets()})


def find_preset(name: str) -> Preset:
    """The preset of this name; `-` and `_` are the same.

    Raises:
        ValueError: There is none.
    """
    presets = all_presets()
    found = presets.get(name.replace("_", "-"))
    if found is None:
        raise ValueError(f"no preset {name}; {did_you_mean(name, presets)}")
    return found


_COCO_INSTANCE_AP = {
    "resnet50": 43.7,
    "resnet101": 44.2,
    "swin_tiny": 45.0,
    "swin_small": 46.3,
    "swin_base": 46.7,
    "swin_large": 50.1,
}
_COCO_PANOPTIC_PQ = {
    "resnet50": 51.9,
    "resnet101": 52.6,
    "swin_tiny": 53.2,
    "swin_small": 54.6,
    "swin_base": 55.1,
    "swin_large": 57.8,
}


def _list_presets() -> Iterator[Preset]:
    resnet50 = PUBLISHED_BACKBONES["resnet50"]
    for task in ("instance", "panoptic", "semantic"):
        yield Preset(task, "yours", resnet50, (task,), folder)
    scratch = Backbone(name="resnet10t", pretrained=False, norm="batch")
    yield Preset("tiny", "yours", scratch, TASKS, tiny)
    for task, metric, results in (
        ("instance", "AP", _COCO_INSTANCE_AP),
        ("panoptic", "PQ", _COCO_PANOPTIC_PQ),
    ):
        for key, backbone in PUBLISHED_BACKBONES.items():
            name = f"coco-{task}-{key.replace('_', '-')}"
            yield Preset(name, "COCO", backbone, (task,), coco, {metric: results[key]})
