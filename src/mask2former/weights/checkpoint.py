"""What a checkpoint is of: sizes, classes, task and all else that a run knows."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mask2former.config import Run
from mask2former.data.class_tables import class_table, find_class_table
from mask2former.presets import Preset, all_published, find_preset, find_published
from mask2former.tasks import TASKS, Task
from mask2former.types import Classes
from mask2former.weights.architecture import Architecture, read_architecture
from mask2former.weights.dialect import Translation
from mask2former.weights.huggingface_config import distinct
from mask2former.weights.native import Origin

_LOG = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A Mask2Former under our names, before it is known to be whole."""

    source: str
    dialect: str
    translation: Translation
    origin: Origin | None
    """When it was trained or written here."""
    preset: str | None
    """The published configuration that it is known to be of."""


class Checkpoint(NamedTuple):
    """What a file holds."""

    weights: dict[str, Tensor]
    run: Run
    classes: Classes


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
    if opened.origin is not None:
        if preset is not None:
            raise ValueError(
                f"{opened.source} says itself what it is ({opened.origin.run.preset}, "
                f"{opened.origin.run.task}); leave the preset {preset} out"
            )
        return Checkpoint(weights, *opened.origin)
    try:
        architecture = read_architecture(weights)
    except ValueError as error:
        raise ValueError(f"{opened.source}: {error}") from error
    published = _published(opened, architecture, preset)
    classes = _classes(opened, architecture, published)
    run = _run(opened, architecture, published)
    return Checkpoint(weights, run, classes)


def is_of(origin: Origin, translation: Translation) -> bool:
    """Whether tensors and class names are still those that the origin was written for.

    Others may train on what we gave them, and keep what we wrote beside it.
    """
    names = origin.classes.names
    rows = translation.weights.get("transformer_decoder.classifier.bias")
    if rows is not None and rows.numel() != len(names) + 1:
        return False
    return translation.class_names in (None, names, distinct(names))


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


def _published(opened: Opened, found: Architecture, wanted: str | None) -> Preset | None:
    """The preset that a foreign checkpoint is of."""
    if wanted is not None:
        preset = find_published(wanted)
        expected = _num_classes(preset)
        if expected != found.num_classes:
            raise ValueError(
                f"{opened.source} has {found.num_classes} classes, preset {preset.name} "
                f"{expected}; name the preset that it was trained with, or none"
            )
        backbone = preset.backbone.name
        if backbone.removesuffix("_in21k") != found.model.backbone.name:
            raise ValueError(
                f"{opened.source} has backbone {found.model.backbone.name}, preset {preset.name} "
                f"{backbone}; name the preset that it was trained with, or none"
            )
        return preset
    if opened.preset is not None and _is_of(find_published(opened.preset), found):
        return find_published(opened.preset)
    names = opened.translation.class_names
    table = None if names is None else find_class_table(names)
    task = opened.translation.task or _task_in_name(opened.source) or _task_of_table(table)
    for preset in all_published().values():
        if preset.classes == table and task in preset.tasks and _is_of(preset, found):
            return preset
    return None


def _is_of(preset: Preset, found: Architecture) -> bool:
    sizes = preset.run().model
    same_backbone = sizes.backbone.name.removesuffix("_in21k") == found.model.backbone.name
    same_queries = sizes.num_queries == found.model.num_queries
    return same_backbone and same_queries and _num_classes(preset) == found.num_classes


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


def _classes(opened: Opened, found: Architecture, published: Preset | None) -> Classes:
    names = opened.translation.class_names
    if published is not None and published.classes is not None:
        return class_table(published.classes)
    count = found.num_classes
    if names is not None and len(names) == count:
        table = find_class_table(names)
        if table is not None:
            return class_table(table)
        is_thing = opened.translation.is_thing or (True,) * count
        return Classes(names, tuple(range(count)), is_thing)
    alike = [preset.name for preset in all_published().values() if _is_of(preset, found)]
    _LOG.warning(
        "%s does not say what its %d classes are: they are called 0 to %d. If it is a published "
        "model, name it with --preset%s",
        opened.source, count, count - 1, f" (as large are: {', '.join(alike)})" if alike else "",
    )  # fmt: skip
    return Classes(tuple(map(str, range(count))), tuple(range(count)), (True,) * count)


def _run(opened: Opened, found: Architecture, published: Preset | None) -> Run:
    if published is not None:
        run = published.run()
    else:
        names = opened.translation.class_names
        table = None if names is None else find_class_table(names)
        task = opened.translation.task or _task_in_name(opened.source) or _task_of_table(table)
        if task is None:
            _LOG.warning(
                "%s does not say what it was trained for: it is taken for panoptic, which can do "
                "every task",
                opened.source,
            )
        run = find_preset(task or "panoptic").run()
    backbone = found.model.backbone.model_copy(
        update={"drop_path": run.model.backbone.drop_path if published else 0.0}
    )
    return run.model_copy(update={"model": found.model.model_copy(update={"backbone": backbone})})
