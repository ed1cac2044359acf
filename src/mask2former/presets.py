"""What can be trained by name, and what the authors published.

A preset is a recipe with a backbone: the general ones for anyone's data, and one for every row of
the authors' model zoo, with their results and where their weights lie.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
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
    classes: str | None = None
    """Name of the class table that the authors trained with; none: the data's own classes."""
    checkpoint: str | None = None
    """Path of the authors' weights below https://dl.fbaipublicfiles.com/maskformer/."""

    def run(self, task: Task | None = None) -> Run:
        """The complete configuration; of the first task without one."""
        return self.recipe(self.name, self.tasks[0] if task is None else task, self.backbone)


def published_backbone(name: str) -> Backbone:
    """A backbone as the authors trained with it, or any other of that name, pretrained."""
    return PUBLISHED_BACKBONES.get(name, Backbone(name=name, pretrained=True))


@cache
def all_presets() -> Mapping[str, Preset]:
    """Every preset that can be trained by name, in the order to show them."""
    presets = [*_general(), *_published(IMAGE_MODELS)]
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
        ValueError: There is none.
    """
    published = all_published()
    found = published.get(name.replace("_", "-"))
    if found is None:
        raise ValueError(f"no published model {name}; {did_you_mean(name, published)}")
    return found


def _general() -> Iterator[Preset]:
    for task in ("instance", "panoptic", "semantic"):
        yield Preset(task, "yours", PUBLISHED_BACKBONES["resnet50"], (task,), folder)
    scratch = Backbone(name="resnet10t", pretrained=False, norm="batch")
    yield Preset("tiny", "yours", scratch, TASKS, tiny)


def _published(families: tuple[PublishedModels, ...]) -> Iterator[Preset]:
    for models in families:
        for key, (_, _, results) in models.by_backbone.items():
            backbone = PUBLISHED_BACKBONES[key]
            if key in models.synchronized:
                backbone = backbone.model_copy(update={"norm": "sync"})
            yield Preset(
                name=f"{models.name}-{key.replace('_', '-')}",
                data=models.data,
                backbone=backbone,
                tasks=(models.task,),
                recipe=models.recipe,
                published=dict(zip(models.metrics, results, strict=True)),
                classes=models.classes,
                checkpoint=models.checkpoint(key),
            )
