"""What a checkpoint is of: sizes, classes, task and all else that a run knows."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mask2former.config import Model, Run
from mask2former.data.class_tables import class_table, find_class_table
from mask2former.presets import Preset, all_published, find_preset, find_published
from mask2former.tasks import TASKS, Task
from mask2former.types import Classes
from mask2former.weights.architecture import Architecture, read_architecture
from mask2former.weights.dialect import Translation
from mask2former.weights.huggingface_config import distinct
from mask2former.weights.native import Origin

logger = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A Mask2Former under our names, before it is known to be whole."""

    source: str
    path: Path
    dialect: str
    translation: Translation
    origin: Origin | None
    """When it was trained or written here; others may have trained it further."""
    preset: str | None
    """The published configuration that its name says it is of."""


class Checkpoint(NamedTuple):
    """What a file holds."""

    weights: dict[str, Tensor]
    run: Run
    classes: Classes


class _Said(NamedTuple):
    """What a foreign checkpoint says itself, each as far as it does."""

    names: tuple[str, ...] | None
    """Of its classes, one for each."""
    table: str | None
    """The class table of these names."""
    task: Task | None


def complete(opened: Opened, preset: str | None = None) -> Checkpoint:
    """Add to the tensors what they were trained for.

    Raises:
        ValueError: The sizes cannot be read off the tensors, or the preset has other classes.
    """
    weights = opened.translation.weights
    if opened.translation.left_over:
        left = opened.translation.left_over
        raise ValueError(
            f"{opened.source}: {len(left)} tensors have no place in a Mask2Former: "
            f"{', '.join(left[:5])}"
        )
    weights = {name: _real(name, tensor, opened.source) for name, tensor in weights.items()}
    origin = _valid_origin(opened)
    if origin is not None:
        if preset is not None:
            raise ValueError(
                f"{opened.source} says itself what it is ({origin.run.preset}, "
                f"{origin.run.task}); leave the preset {preset} out"
            )
        return Checkpoint(weights, *origin)
    if opened.origin is not None:
        logger.warning(
            "%s was written here, but its classes are others now: what it said of its training "
            "counts no more",
            opened.source,
        )
    architecture = _architecture(opened)
    said = _said(opened, architecture.num_classes)
    published = _published(opened, said, architecture, preset)
    classes = _classes(opened, said, architecture, published)
    run = _run(opened.source, said.task, architecture, published)
    return Checkpoint(weights, run, classes)


def model_of(opened: Opened) -> Model:
    """The sizes of the model that a checkpoint is of.

    Raises:
        ValueError: They cannot be read off the tensors.
    """
    origin = _valid_origin(opened)
    return _architecture(opened).model if origin is None else origin.run.model


def _valid_origin(opened: Opened) -> Origin | None:
    """The origin, if tensors and class names are still those that it was written for.

    Others may train on what we gave them, and keep what we wrote beside it.
    """
    if opened.origin is None:
        return None
    names = opened.origin.classes.names
    rows = opened.translation.weights.get("transformer_decoder.classifier.bias")
    if rows is not None and rows.numel() != len(names) + 1:
        return None
    is_same = opened.translation.class_names in (None, names, distinct(names))
    return opened.origin if is_same else None


def _architecture(opened: Opened) -> Architecture:
    try:
        return read_architecture(opened.translation.weights)
    except ValueError as error:
        raise ValueError(f"{opened.source}: {error}") from error


def _real(name: str, tensor: Tensor, source: str) -> Tensor:
    """A tensor in the type that models have here."""
    is_count = name.endswith("num_batches_tracked")
    if (
        tensor.layout != torch.strided
        or tensor.is_meta
        or not (tensor.is_floating_point() or is_count)
    ):
        raise ValueError(
            f"{source}: {name} is of type {tensor.dtype}, {tensor.layout}, on {tensor.device}; "
            "weights are dense floating point numbers"
        )
    return tensor if is_count else tensor.to(torch.float32)


def _said(opened: Opened, num_classes: int) -> _Said:
    names = opened.translation.class_names
    if names is not None and len(names) != num_classes:
        names = None
    table = None if names is None else find_class_table(names)
    task = opened.translation.task or _task_in_name(opened.source) or _task_of_table(table)
    return _Said(names, table, task)


def _published(
    opened: Opened, said: _Said, found: Architecture, wanted: str | None
) -> Preset | None:
    """The preset that a foreign checkpoint is of."""
    if wanted is not None:
        preset = find_published(wanted)
        _check_preset(preset, found, opened.source)
        return preset
    if opened.preset is not None and _is_of(find_published(opened.preset), found):
        return find_published(opened.preset)
    for preset in all_published().values():
        if preset.classes == said.table and said.task in preset.tasks and _is_of(preset, found):
            return preset
    return None


def _check_preset(preset: Preset, found: Architecture, source: str) -> None:
    expected = _num_classes(preset)
    if expected != found.num_classes:
        raise ValueError(
            f"{source} has {found.num_classes} classes, preset {preset.name} {expected}; name the "
            "preset that it was trained with, or none"
        )
    if not _has_backbone(preset, found):
        raise ValueError(
            f"{source} has backbone {found.model.backbone.name}, preset {preset.name} "
            f"{preset.backbone.name}; name the preset that it was trained with, or none"
        )


def _is_of(preset: Preset, found: Architecture) -> bool:
    same_queries = preset.run().model.num_queries == found.model.num_queries
    same_classes = _num_classes(preset) == found.num_classes
    return _has_backbone(preset, found) and same_queries and same_classes


def _has_backbone(preset: Preset, found: Architecture) -> bool:
    """Whether it is the same network; where that was pretrained, tensors do not tell."""
    return preset.backbone.name.removesuffix("_in21k") == found.model.backbone.name


def _num_classes(preset: Preset) -> int:
    assert preset.classes is not None, "a published preset without classes"
    return len(class_table(preset.classes))


def _task_in_name(source: str) -> Task | None:
    """Hub ids and file names often say it."""
    name = Path(source).name.lower()
    return next((task for task in TASKS if task in name), None)


def _task_of_table(table: str | None) -> Task | None:
    """The task of a class table that serves only one."""
    tasks = {
        task
        for preset in all_published().values()
        if preset.classes == table
        for task in preset.tasks
    }
    return tasks.pop() if len(tasks) == 1 else None


def _classes(opened: Opened, said: _Said, found: Architecture, published: Preset | None) -> Classes:
    """The file's own names, if it has any; a table knows what else there is to a class."""
    table = said.table if published is None else published.classes
    if table is not None:
        classes = class_table(table)
        return classes if said.names is None else replace(classes, names=said.names)
    count = found.num_classes
    if said.names is not None:
        is_thing = opened.translation.is_thing or (True,) * count
        return Classes(said.names, tuple(range(count)), is_thing)
    alike = [preset.name for preset in all_published().values() if _is_of(preset, found)]
    logger.warning(
        "%s does not say what its %d classes are: they are called 0 to %d. If it is a published "
        "model, name it with --preset%s",
        opened.source, count, count - 1, f" (as large are: {', '.join(alike)})" if alike else "",
    )  # fmt: skip
    return Classes(tuple(map(str, range(count))), tuple(range(count)), (True,) * count)


def _run(source: str, task: Task | None, found: Architecture, published: Preset | None) -> Run:
    if published is None and task is None:
        logger.warning(
            "%s does not say what it was trained for: it is taken for panoptic, which can do "
            "every task",
            source,
        )
    run = (published or find_preset(task or "panoptic")).run()
    drop_path = 0.0 if published is None else run.model.backbone.drop_path
    backbone = found.model.backbone.model_copy(update={"drop_path": drop_path})
    return run.model_copy(update={"model": found.model.model_copy(update={"backbone": backbone})})
