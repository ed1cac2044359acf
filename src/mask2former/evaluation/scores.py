"""The metrics of a task, fed with results and annotations image by image."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from mask2former.data.annotations import Annotations, Instances
from mask2former.data.derive import instance_rles, panoptic_map, semantic_map
from mask2former.evaluation.instance import InstanceMetrics, TrueInstance
from mask2former.evaluation.panoptic import PanopticMetrics
from mask2former.evaluation.semantic import SemanticMetrics
from mask2former.tasks import Task
from mask2former.types import (
    Classes,
    InstanceResult,
    PanopticResult,
    Result,
    SemanticResult,
)

ClassIds: TypeAlias = dict[int, int]
"""Class id of the data set by class id of the model."""


class Scores:
    """Every metric of a task; panoptic has those of the other two as well, as published."""

    def __init__(self, task: Task, model_classes: Classes, classes: Classes) -> None:
        """Make them, with nothing counted.

        Args:
            task: What is scored.
            model_classes: What the results are numbered by.
            classes: What the annotations are numbered by.

        Raises:
            ValueError: The model lacks a class of the data set, or (semantic and panoptic, where
                every pixel counts) the classes are not the same.
        """
        self.task: Task = task
        self.class_ids = match_classes(task, model_classes, classes)
        self.semantic = SemanticMetrics(classes) if task in ("semantic", "panoptic") else None
        self.panoptic = PanopticMetrics(classes) if task == "panoptic" else None
        has_objects = task == "instance" or (task == "panoptic" and any(classes.is_thing))
        self.instance = InstanceMetrics(classes) if has_objects else None

    @property
    def tasks(self) -> list[Task]:
        """Whose results `update` wants, the task itself first."""
        return list(self._metrics())

    def update(
        self, image_id: int | str, results: Mapping[Task, Result], annotations: Annotations
    ) -> None:
        """Count one image.

        Args:
            image_id: As in the data set.
            results: For each of `tasks`.
            annotations: For `task`, at the size of the results.
        """
        for result in results.values():
            if isinstance(result, SemanticResult) and self.semantic is not None:
                truth = semantic_map(annotations, len(self.semantic.classes))
                self.semantic.update(result.label_map.cpu().numpy(), truth)
            elif isinstance(result, PanopticResult) and self.panoptic is not None:
                ids = result.segment_map.cpu().numpy()
                self.panoptic.update(ids, result.segments, *panoptic_map(annotations))
            elif isinstance(result, InstanceResult) and self.instance is not None:
                renumbered = renumber(result, self.class_ids)
                truth = _true_things(annotations, self.instance.classes)
                self.instance.update(image_id, renumbered, truth)

    def merge(self, other: "Scores") -> None:
        """Add what another process counted, on other images."""
        others = other._metrics()
        for task, own in self._metrics().items():
            own.merge(others[task])

    def compute(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """All metrics in percent, in total and by class; NaN where nothing defines one."""
        metrics: dict[str, float] = {}
        per_class: dict[str, dict[str, float]] = {}
        for part in self._metrics().values():
            of_all, of_each = part.compute()
            metrics |= of_all
            for name, values in of_each.items():
                per_class.setdefault(name, {}).update(values)
        return metrics, per_class

    def _metrics(self) -> dict[Task, Any]:
        by_task: dict[Task, Any] = {
            "panoptic": self.panoptic,
            "instance": self.instance,
            "semantic": self.semantic,
        }
        return {task: part for task, part in by_task.items() if part is not None}


def match_classes(task: Task, model_classes: Classes, classes: Classes) -> ClassIds:
    """Class ids of the data set by those of the model; see `Scores`."""
    known = list(zip(model_classes.category_ids, model_classes.names, strict=True))
    own = list(zip(classes.category_ids, classes.names, strict=True))
    if task != "instance" and own != known:
        raise ValueError(
            f"the model and the data set have different classes: {_difference(known, own)}; "
            f"evaluate {task} segmentation on a data set with the model's classes, in its order"
        )
    missing = [f"{name!r} (id {id_})" for id_, name in own if (id_, name) not in known]
    if missing:
        raise ValueError(
            f"the model does not know these classes of the data set: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}; evaluate on a data set of classes that it was "
            "trained on"
        )
    return {known.index(key): i for i, key in enumerate(own)}


def renumber(result: InstanceResult, class_ids: ClassIds) -> InstanceResult:
    """The objects of known classes, with their new class ids."""
    known = [i for i, s in enumerate(result.segments) if s.class_id in class_ids]
    segments = [
        replace(result.segments[i], id=n, class_id=class_ids[result.segments[i].class_id])
        for n, i in enumerate(known)
    ]
    rles = [result.rles[i] for i in known]
    return InstanceResult(result.height, result.width, rles, segments)


def _true_things(annotations: Annotations, classes: Classes) -> list[TrueInstance]:
    if not isinstance(annotations, Instances):
        things = tuple(s for s in annotations.segments if classes.is_thing[s.class_id])
        annotations = replace(annotations, segments=things)
    return instance_rles(annotations)


def _difference(model: list[tuple[int, str]], own: list[tuple[int, str]]) -> str:
    if len(model) != len(own):
        return f"{len(model)} in the model, {len(own)} in the data set"
    place, pair = next((i, p) for i, p in enumerate(zip(model, own, strict=True)) if p[0] != p[1])
    (model_id, model_name), (own_id, own_name) = pair
    return (
        f"class {place} is {model_name!r} (id {model_id}) in the model and {own_name!r} "
        f"(id {own_id}) in the data set"
    )
