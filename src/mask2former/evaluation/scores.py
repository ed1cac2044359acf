"""The metrics of a task, fed with results and annotations image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int64, Integer

from mask2former.data.class_tables import synonyms
from mask2former.evaluation.cityscapes_objects import CityscapesObjects
from mask2former.evaluation.cityscapes_pixels import CityscapesPixels
from mask2former.evaluation.instance import InstanceMetrics
from mask2former.evaluation.panoptic import VOID, PanopticMetrics
from mask2former.evaluation.semantic import SemanticMetrics
from mask2former.evaluation.summary import Summary
from mask2former.evaluation.truth import ScoredImages, Truth
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
SCORED_WITH: Mapping[Task, tuple[Task, ...]] = {
    "semantic": ("semantic",),
    "instance": ("instance",),
    "panoptic": ("panoptic", "instance", "semantic"),
}
"""Tasks whose metrics are those of a task."""
SHOWN = 5


class Scores:
    """Every metric of a task; panoptic has those of the other two as well, as published."""

    def __init__(self, images: ScoredImages, result_classes: Mapping[Task, Classes]) -> None:
        """Make them, with nothing counted.

        Args:
            images: That are scored.
            result_classes: What the results of each task are numbered by. Of the tasks that
                `images` are annotated for, those that results come for.

        Raises:
            ValueError: The results cannot have a class of the data set.
        """
        classes = images.classes
        wanted = [task for task in SCORED_WITH[images.task] if task in classes]
        self.tasks: list[Task] = [task for task in wanted if task in result_classes]
        """Whose results `update` wants, the main one first."""
        self._class_ids = {t: match_classes(result_classes[t], classes[t]) for t in self.tasks}
        self.panoptic = PanopticMetrics(classes["panoptic"]) if "panoptic" in self.tasks else None
        self.semantic = self.instance = self.cityscapes_pixels = self.cityscapes_objects = None
        if "semantic" in self.tasks:
            is_alone = images.task == "semantic"
            self.semantic = SemanticMetrics(
                classes["semantic"], panoptic_quality=is_alone, boundary=is_alone
            )
            if images.is_cityscapes:
                self.cityscapes_pixels = CityscapesPixels(classes["semantic"])
        if "instance" in self.tasks:
            if images.is_cityscapes:
                self.cityscapes_objects = CityscapesObjects(classes["instance"])
            else:
                self.instance = InstanceMetrics(classes["instance"])
        unread = "instance" if self.instance is None else None
        self.prepared: list[Task] = [task for task in self.tasks if task != unread]
        """Of `tasks`, those whose `Truth` is worth making before `update` asks for it; Cityscapes'
        own rules for objects read the segments as they are."""

    def update(self, results: Mapping[Task, Result], truth: Truth) -> None:
        """Count one image.

        Args:
            results: For each of `tasks`, at the size of the annotations.
            truth: What the image holds.

        Raises:
            ValueError: A result has another size than the annotations.
        """
        for task in self.tasks:
            result, class_ids = results[task], self._class_ids[task]
            if isinstance(result, SemanticResult):
                self._update_semantic(renumber_labels(result, class_ids), truth)
            elif isinstance(result, PanopticResult) and self.panoptic is not None:
                ids, segments = renumber_segments(result, class_ids)
                self.panoptic.update(ids, segments, *truth.panoptic_map)
            elif isinstance(result, InstanceResult):
                self._update_objects(renumber(result, class_ids), truth)

    def merge(self, other: "Scores") -> None:
        """Add what another process counted, on other images."""
        for own, others in zip(self._metrics(), other._metrics(), strict=True):
            own.merge(others)

    def compute(self) -> Summary:
        """All metrics, in total and by class."""
        metrics: dict[str, float] = {}
        per_class: dict[str, dict[str, float]] = {}
        for part in self._metrics():
            of_all, of_each = part.compute()
            metrics |= of_all
            for name, values in of_each.items():
                per_class.setdefault(name, {}).update(values)
        return Summary(
            metrics,
            per_class,
            {} if self.cityscapes_pixels is None else self.cityscapes_pixels.per_category(),
            None if self.semantic is None else self.semantic.table(),
            {} if self.instance is None else self.instance.curves(),
        )

    def _update_semantic(self, labels: Int64[np.ndarray, "h w"], truth: Truth) -> None:
        if self.semantic is not None:
            self.semantic.update(labels, truth.semantic_map)
        if self.cityscapes_pixels is not None:
            self.cityscapes_pixels.update(labels, truth.segments)

    def _update_objects(self, result: InstanceResult, truth: Truth) -> None:
        if self.instance is not None:
            self.instance.update(truth.image_id, result, truth.objects)
        if self.cityscapes_objects is not None:
            self.cityscapes_objects.update(result, truth.segments, truth.classes["panoptic"])

    def _metrics(self) -> list[Any]:
        parts = (
            self.panoptic,
            self.instance,
            self.cityscapes_objects,
            self.semantic,
            self.cityscapes_pixels,
        )
        return [part for part in parts if part is not None]


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


def things_as_stuff(model_classes: Classes, classes: Classes) -> list[str]:
    """Names of the things of a data set that are stuff to the model.

    Raises:
        ValueError: The model lacks a class of the data set.
    """
    matched = match_classes(model_classes, classes)
    return [
        classes.names[class_id]
        for model_id, class_id in matched.items()
        if classes.is_thing[class_id] and not model_classes.is_thing[model_id]
    ]


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


def renumber_labels(result: SemanticResult, class_ids: ClassIds) -> Int64[np.ndarray, "h w"]:
    """Class ids of the data set; behind them, one for all classes that it does not have."""
    labels = result.label_map.cpu().numpy()
    table = np.full(max([int(labels.max(initial=0)), *class_ids]) + 1, len(class_ids))
    table[list(class_ids)] = list(class_ids.values())
    return table[labels]


def renumber_segments(
    result: PanopticResult, class_ids: ClassIds
) -> tuple[Integer[np.ndarray, "h w"], list[Segment]]:
    """The map and the segments of known classes, with the class ids of the data set."""
    ids = result.segment_map.cpu().numpy()
    segments = [
        replace(segment, class_id=class_ids[segment.class_id])
        for segment in result.segments
        if segment.class_id in class_ids
    ]
    if len(segments) < len(result.segments):
        ids = np.where(np.isin(ids, [segment.id for segment in segments]), ids, VOID)
    return ids, segments


def renumber(result: InstanceResult, class_ids: ClassIds) -> InstanceResult:
    """The objects of known classes, with their new class ids."""
    known = [i for i, s in enumerate(result.segments) if s.class_id in class_ids]
    segments = [
        replace(result.segments[i], id=n, class_id=class_ids[result.segments[i].class_id])
        for n, i in enumerate(known)
    ]
    rles = [result.rles[i] for i in known]
    return InstanceResult(result.height, result.width, rles, segments)


def _has_name_and_id(classes: Classes, class_id: int, wanted: tuple[str, int]) -> bool:
    return (classes.names[class_id], classes.category_ids[class_id]) == wanted


def _has_name(classes: Classes, class_id: int, wanted: tuple[str, int]) -> bool:
    return classes.names[class_id] == wanted[0]


def _has_synonym(classes: Classes, class_id: int, wanted: tuple[str, int]) -> bool:
    return not synonyms(classes.names[class_id]).isdisjoint(synonyms(wanted[0]))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
