"""What a checkpoint is, whether it loads or not."""

from dataclasses import dataclass
from pathlib import Path

from mask2former.tasks import Task
from mask2former.types import Classes
from mask2former.weights.backbone_names import recognises
from mask2former.weights.build import build_empty, compare
from mask2former.weights.checkpoint import complete
from mask2former.weights.open import open_weights
from mask2former.weights.tensor_file import TensorFile


@dataclass(frozen=True)
class BackboneInspection:
    """A file of a backbone alone."""

    path: Path
    kind: str
    tensors: int


@dataclass(frozen=True)
class Inspection:
    """A file of a whole Mask2Former."""

    path: Path
    dialect: str
    task: Task
    preset: str
    """The published configuration it is of; for other files the general one of its task."""
    backbone: str
    parameters: int
    queries: int
    encoder_layers: int
    decoder_layers: int
    hidden_dim: int
    classes: Classes
    missing: list[str]
    """Our names of tensors that the model needs and the file lacks."""
    left_over: list[str]
    """Names of tensors that have no place in the model."""
    reshaped: list[str]
    """Our names of tensors with both shapes, where they differ."""

    @property
    def loads(self) -> bool:
        return not (self.missing or self.left_over or self.reshaped)


def inspect(weights: str | Path, preset: str | None = None) -> Inspection | BackboneInspection:
    """Look at a checkpoint; arguments as `open.read` takes them.

    Raises:
        FileNotFoundError: There is nothing of that name.
        ValueError: It is damaged, a model of another kind, or lacks what tells its size.
    """
    opened = open_weights(weights)
    if isinstance(opened, TensorFile):
        return _inspect_backbone(opened)
    left_over = opened.translation.left_over
    whole = opened._replace(translation=opened.translation._replace(left_over=[]))
    tensors, run, classes = complete(whole, preset)
    model = build_empty(run.model, len(classes))
    missing, extra, reshaped = compare(model.state_dict(), tensors)
    return Inspection(
        path=opened.path,
        dialect=opened.dialect,
        task=run.task,
        preset=run.preset,
        backbone=run.model.backbone.name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        queries=run.model.num_queries,
        encoder_layers=run.model.encoder_layers,
        decoder_layers=run.model.decoder_layers,
        hidden_dim=run.model.hidden_dim,
        classes=classes,
        missing=missing,
        left_over=[*left_over, *extra],
        reshaped=reshaped,
    )


def _inspect_backbone(file: TensorFile) -> BackboneInspection:
    kind = recognises(file.tensors)
    if kind is None:
        raise ValueError(
            f"{file.path} holds {len(file.tensors)} tensors, such as "
            f"{', '.join(sorted(file.tensors)[:3])}, of no Mask2Former and of no backbone that is "
            "known by its names; if they are a timm model's, train with --backbone NAME --weights "
            f"{file.path}"
        )
    return BackboneInspection(file.path, kind, len(file.tensors))
