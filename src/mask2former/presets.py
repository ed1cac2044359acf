"""What can be trained by name, and what the authors published.

A preset is a recipe with a backbone: the general ones for anyone's data, one for every row of the
authors' model zoo, with their results and where their weights lie, and those for semantic
segmentation of COCO, which the zoo lacks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from types import MappingProxyType

from mask2former.config import Backbone, Run
from mask2former.published import IMAGE_MODELS, VIDEO_MODELS, PublishedModels
from mask2former.recipes import Recipe, folder, tiny
from mask2former.suggestions import did_you_mean
from mask2former.tasks import TASKS, Task

# Swin has no batch norm; the authors drop paths at 0.3 in every size (specification 1.1).
PUBLISHED_BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {
        "resnet50": Backbone(name="resnet50", pretrained=True),
        "resnet101": Backbone(name="resnet101", pretrained=True),
        "swin_tiny": Backbone(name="swin_tiny", pretrained=True, drop_path=0.3),
        "swin_small": Backbone(name="swin_small", pretrained=True, drop_path=0.3),
        "swin_base": Backbone(name="swin_base", pretrained=True, drop_path=0.3),
        "swin_base_in21k": Backbone(name="swin_base_in21k", pretrained=True, drop_path=0.3),
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
    """What it is made for: a benchmark's data set, or yours."""
    backbone: Backbone
    tasks: tuple[Task, ...]
    """That it can train; which one, the data says where there are several."""
    recipe: Recipe
    published: Mapping[str, float] = field(default_factory=dict)
    """The authors' results at a single scale on the validation set, in percent."""
    multi_scale: Mapping[str, float] = field(default_factory=dict)
    """The same over several scales and flipped; of semantic segmentation alone."""
    classes: str | None = None
    """Name of the class table that the authors trained with; none: the data's own classes."""
    num_images: int | None = None
    """To train on, of a benchmark; none: the data's own, or clips of videos."""
    checkpoint: str | None = None
    """Path of the authors' weights below https://dl.fbaipublicfiles.com/maskformer/."""
    zoo_id: str | None = None
    """What the authors' zoo calls the run that made them."""

    def run(self, task: Task | None = None) -> Run:
        """The complete configuration; of the first task without one."""
        return self.recipe(self.name, self.tasks[0] if task is None else task, self.backbone)

    @property
    def file_suffix(self) -> str | None:
        """The first digits of the MD5 sum of the authors' weights, with which their name ends."""
        if self.checkpoint is None:
            return None
        return PurePosixPath(self.checkpoint).stem.rpartition("_")[2]

    @property
    def epochs(self) -> float | None:
        """How often every image is seen; none without `num_images`."""
        training = self.run().training
        if self.num_images is None or training.steps is None:
            return None
        return training.steps * training.batch_size / self.num_images

    @property
    def length(self) -> str:
        """In epochs where the learning rate falls in steps, as the authors count, else in steps."""
        run, epochs = self.run(), self.epochs
        if run.schedule.kind == "step" and epochs is not None:
            return f"{epochs:.0f} epochs"
        steps = run.training.steps or 0
        return f"{steps // 1000}k steps" if steps % 1000 == 0 else f"{steps} steps"

    @property
    def decay(self) -> str:
        """How the learning rate falls."""
        schedule = self.run().schedule
        if schedule.kind == "poly":
            return "poly"
        return "x0.1 at " + ", ".join(f"{100 * place:.0f} %" for place in schedule.milestones)


def published_backbone(name: str) -> Backbone:
    """A backbone as the authors trained with it, or any other of that name, pretrained."""
    return PUBLISHED_BACKBONES.get(name, Backbone(name=name, pretrained=True))


@cache
def all_presets() -> Mapping[str, Preset]:
    """Every preset that can be trained by name, in the order to show them."""
    coco = [models for models in IMAGE_MODELS if models.data == "COCO"]
    others = [models for models in IMAGE_MODELS if models.data != "COCO"]
    presets = [*_general(), *_published(coco), *_coco_semantic(), *_published(others)]
    return MappingProxyType({preset.name: preset for preset in presets})


@cache
def all_published() -> Mapping[str, Preset]:
    """Every preset with weights of the authors by name, in the order to show them.

    Besides those of `all_presets`, these are the YouTube-VIS models, which segment the frames of
    a video one by one and cannot be trained.
    """
    images = [preset for preset in all_presets().values() if preset.checkpoint is not None]
    presets = [*images, *_published(VIDEO_MODELS)]
    return MappingProxyType({preset.name: preset for preset in presets})


def find_preset(name: str) -> Preset:
    """The preset of this name; `-` and `_` are the same.

    Raises:
        ValueError: There is none, or it cannot be trained.
    """
    presets = all_presets()
    written = name.replace("_", "-")
    if written in presets:
        return presets[written]
    if written in all_published():
        raise ValueError(
            f"{written} is a video model, which cannot be trained yet; open its published weights "
            f"with --weights {written}, or train one of `mask2former presets`"
        )
    raise ValueError(f"no preset {name}; {did_you_mean(name, presets)}")


def find_published(name: str) -> Preset:
    """The preset of this name that has weights of the authors; `-` and `_` are the same.

    Raises:
        ValueError: There is none, or it can be trained but nobody published its weights.
    """
    published = all_published()
    found = published.get(name.replace("_", "-"))
    if found is not None:
        return found
    if name.replace("_", "-") in all_presets():
        raise ValueError(without_weights(all_presets()[name.replace("_", "-")]))
    raise ValueError(f"no published model {name}; {did_you_mean(name, published)}")


def without_weights(preset: Preset) -> str:
    """What to say when the weights of a preset are wanted for which there are none."""
    alike = [
        other.name
        for other in all_published().values()
        if other.data == preset.data and other.backbone.name == preset.backbone.name
    ]
    instead = f", or take published weights for other tasks: {', '.join(alike)}" if alike else ""
    return (
        f"{preset.name} is a preset without published weights; train it with "
        f"--preset {preset.name} and give the run's folder{instead}"
    )


def _general() -> Iterator[Preset]:
    for task in ("instance", "panoptic", "semantic"):
        yield Preset(task, "yours", PUBLISHED_BACKBONES["resnet50"], (task,), folder)
    scratch = Backbone(name="resnet10t", pretrained=False, norm="batch")
    yield Preset("tiny", "yours", scratch, TASKS, tiny)


def _coco_semantic() -> Iterator[Preset]:
    """Classes and recipe of COCO panoptic, whose maps the authors' script makes semantic.

    Source:
        Specification 1.4 and 1.5; the authors have no configuration of it.
    """
    [panoptic] = [models for models in IMAGE_MODELS if models.name == "coco-panoptic"]
    for key in panoptic.by_backbone:
        yield Preset(
            name=f"coco-semantic-{key.replace('_', '-')}",
            data=panoptic.data,
            backbone=PUBLISHED_BACKBONES[key],
            tasks=("semantic",),
            recipe=panoptic.recipe,
            classes=panoptic.classes,
            num_images=panoptic.num_images,
        )


def _published(families: Iterable[PublishedModels]) -> Iterator[Preset]:
    for models in families:
        for key, model in models.by_backbone.items():
            backbone = PUBLISHED_BACKBONES[key]
            if key in models.synchronized:
                backbone = backbone.model_copy(update={"norm": "sync"})
            yield Preset(
                name=f"{models.name}-{key.replace('_', '-')}",
                data=models.data,
                backbone=backbone,
                tasks=(models.task,),
                recipe=models.recipe,
                published=dict(zip(models.metrics, model.results, strict=True)),
                multi_scale=_first_metric(models, model.multi_scale),
                classes=models.classes,
                num_images=models.num_images,
                checkpoint=f"{models.checkpoints}{model.folder}/model_final_{model.digits}.pkl",
                zoo_id=model.zoo_id,
            )


def _first_metric(models: PublishedModels, value: float | None) -> dict[str, float]:
    return {} if value is None else {models.metrics[0]: value}
