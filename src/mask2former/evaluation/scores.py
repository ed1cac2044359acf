"""The metrics of a task, fed with results and annotations image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int64, Integer

from mask2former.data.annotations import Annotations, Instances
from mask2former.data.class_tables import synonyms
from mask2former.data.derive import instance_rles, panoptic_map, semantic_map
from mask2former.evaluation.instance import InstanceMetrics, TrueInstance
from mask2former.evaluation.panoptic import VOID, PanopticMetrics
from mask2former.evaluation.semantic import SemanticMetrics
from mask2former.tasks import Task
from mask2former.types import (
    Classes,
    InstanceResult,
    PanopticResult,
    Result,
    Segment,
    SemanticResult,
)

ClassIds: TypeAlias = dict[int, int]
"""Class id of the data set by class id of the model."""
SHOWN = 5


class Scores:
    """Every metric of a task; panoptic has those of the other two as well, as published."""

    def __init__(self, task: Task, model_classes: Classes, classes: Classes) -> None:
        """Make them, with nothing counted.

        Args:
            task: What is scored.
            model_classes: What the results are numbered by.
            classes: What the annotations are numbered by.

        Raises:
            ValueError: The model lacks a class of the data set.
        """
        self.task: Task = task
        self.class_ids = match_classes(model_classes, classes)
        self.semantic = SemanticMetrics(classes) if task in ("semantic", "panoptic") else None
        self.panoptic = PanopticMetrics(classes) if task == "panoptic" else None
        has_objects = task == "instance" or (task == "panoptic" and any(classes.is_thing))
        self.instance = InstanceMetrics(classes) if has_objects else None

    def _renumber_labels(self, labels: Integer[np.ndarray, "h w"]) -> Int64[np.ndarray, "h w"]:
        """Class ids of the data set; behind them, one for all classes that it does not have."""
        table = np.full(max([int(labels.max(initial=0)), *self.class_ids]) + 1, len(self.class_ids))
        table[list(self.class_ids)] = list(self.class_ids.values())
        return table[labels]

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
                labels = result.label_map.cpu().numpy()
                self.semantic.update(self._renumber_labels(labels), truth)
            elif isinstance(result, PanopticResult) and self.panoptic is not None:
                ids = result.segment_map.cpu().numpy()
                segments = renumber_segments(result.segments, self.class_ids)
                if len(segments) < len(result.segments):
                    ids = np.where(np.isin(ids, [s.id for s in segments]), ids, VOID)
                self.panoptic.update(ids, segments, *panoptic_map(annotations))
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


def match_classes(model_classes: Classes, classes: Classes) -> ClassIds:
    """Class ids of the data set by those of the model, matched by name.

    Classes of one name are told apart by category id. A name that the model does not know stands
    for the class whose synonyms it shares ("road" and "road, route").

    Raises:
        ValueError: The model lacks a class of the data set.
    """
    matched, missing = _match(model_classes, classes)
    if missing:
        raise ValueError(
            f"the model does not know these classes of the data set: {_shown(missing)}; it knows "
            f"{_shown(model_classes.names)}: evaluate on a data set of classes that it was "
            f"trained on"
        )
    return matched


def unknown_classes(model_classes: Classes, classes: Classes) -> list[str]:
    """Names of the classes for which `match_classes` finds none among the model's."""
    return _match(model_classes, classes)[1]


def _match(model_classes: Classes, classes: Classes) -> tuple[ClassIds, list[str]]:
    """Class ids of the data set by those of the model, and names of classes that it lacks."""
    matched: ClassIds = {}
    missing = dict(enumerate(zip(classes.names, classes.category_ids, strict=True)))
    for is_same in (_has_name_and_id, _has_name, _has_synonym):
        for class_id, wanted in list(missing.items()):
            free = [i for i in range(len(model_classes)) if i not in matched]
            found = [i for i in free if is_same(model_classes, i, wanted)]
            if len(found) == 1 or (found and is_same is _has_name):
                matched[found[0]] = class_id
                del missing[class_id]
    return matched, [name for name, _ in missing.values()]


def renumber_segments(segments: Sequence[Segment], class_ids: ClassIds) -> list[Segment]:
    """The segments of known classes, with the class ids of the data set."""
    return [replace(s, class_id=class_ids[s.class_id]) for s in segments if s.class_id in class_ids]


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


def _has_name_and_id(classes: Classes, class_id: int, wanted: tuple[str, int]) -> bool:
    return (classes.names[class_id], classes.category_ids[class_id]) == wanted


def _has_name(classes: Classes, class_id: int, wanted: tuple[str, int]) -> bool:
    return classes.names[class_id] == wanted[0]


def _has_synonym(classes: Classes, class_id: int, wanted: tuple[str, int]) -> bool:
    return not synonyms(classes.names[class_id]).isdisjoint(synonyms(wanted[0]))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
