"""A trained model scored on a data set: all metrics of its task from one pass per image."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mask2former.data.dataset import Dataset
from mask2former.distributed import broadcast, gather, is_main, rank, world_size
from mask2former.evaluation.given_results import GivenResults
from mask2former.evaluation.kept_predictions import KeptPredictions, identity
from mask2former.evaluation.loading import Loaded, load_ahead, load_truths
from mask2former.evaluation.scores import Scores
from mask2former.evaluation.stopwatch import Stopwatch, speed
from mask2former.evaluation.summary import Confusion, Curves
from mask2former.evaluation.truth import ScoredImages, scored_images
from mask2former.inference.prediction import Prediction
from mask2former.inference.segmenter import Segmenter
from mask2former.tasks import Task
from mask2former.types import Result


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on a data set."""

    task: Task
    images: int
    metrics: dict[str, float]
    """In percent; NaN where the data set has nothing that defines one."""
    per_class: dict[str, dict[str, float]]
    """The same for each class, by name; repeated names carry their category id."""
    speed: dict[str, float]
    """`images_per_second` of all processes together, and the shares of the time that went to
    `loading` (waiting for images), `model`, `postprocess` and `metric`, in [0, 1]. Images whose
    predictions were there already do not count; empty when all were."""
    per_category: dict[str, dict[str, float]] = field(default_factory=dict)
    """The same for groups of classes, where the benchmark has such (Cityscapes)."""
    confusion: Confusion | None = None
    """Of tasks with a class per pixel."""
    curves: Curves = field(default_factory=dict)
    """Of tasks with objects."""

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is NaN is null, which JSON has. Without what is drawn."""
        names = ["task", "images", "metrics", "per_class", "speed"]
        if self.per_category:
            names.insert(4, "per_category")
        return _without_nan({name: getattr(self, name) for name in names})


def evaluate(
    segmenter: Segmenter,
    images: Dataset | ScoredImages,
    task: Task | None = None,
    *,
    progress: bool = False,
    on_prediction: Callable[[int, Prediction], None] | None = None,
    keep_in: Path | None = None,
) -> Evaluation:
    """Predict every image of a data set and compare with its annotations.

    Several processes (`distributed.joined`) share the images, and each gets the whole result. It
    does not depend on how they are shared, nor on whether it was interrupted.

    Args:
        segmenter: With its model.
        images: One split, as it was opened.
        task: What is scored; none: what the images were opened for, or the model was trained for.
            Panoptic scores all three tasks of the same predictions: PQ, AP of the things, mIoU.
        progress: Show a bar on standard error.
        on_prediction: Called with the position of each image and its prediction for the task.
        keep_in: Folder where every prediction is kept. Those that an interrupted evaluation of
            the same model on the same images left there are not made again.

    Raises:
        ValueError: The model or the data set cannot do the task, their classes differ, there is
            no image, or one cannot be read; the folder has predictions of something else.
    """
    if not isinstance(images, ScoredImages):
        images = scored_images(images, task or segmenter.task)
    segmenter.check_tasks([images.task])
    scores = Scores(images, dict.fromkeys(segmenter.tasks, segmenter.classes))
    clock = Stopwatch(segmenter.device)
    kept = nullcontext()
    done: frozenset[int] = frozenset()
    if keep_in is not None:
        kept = KeptPredictions(keep_in, segmenter.classes, identity(segmenter, images))
        done = kept.score(images, scores)
    indices = [index for index in range(len(images)) if index not in done][rank() :: world_size()]
    with kept as keep:
        for index, loaded in load_ahead(
            images, indices, scores.tasks, clock, progress=progress and is_main()
        ):
            results = _predict(segmenter, loaded, scores.tasks, clock)
            with clock.measure("metric"):
                scores.update(results, loaded.truth)
            if keep is not None:
                keep.append(loaded.truth.image_id, results)
            if on_prediction is not None:
                shown = results[images.task]
                on_prediction(
                    index, Prediction(loaded.pixels, segmenter.classes, images.task, shown)
                )
    return _conclude(images, scores, clock)


def score_results(
    given: Sequence[GivenResults], images: ScoredImages, *, progress: bool = False
) -> Evaluation:
    """Compare results that were made elsewhere with the annotations.

    Args:
        given: Of different tasks; those that `images` are scored for.
        images: One split.
        progress: Show a bar on standard error.

    Raises:
        ValueError: No result is of a task that is scored, the images that they are of are others,
            or one is damaged.
    """
    if world_size() > 1:
        raise ValueError("given results are scored by one process; leave --devices out")
    by_task: dict[Task, GivenResults] = {task: g for g in given for task in g.tasks}
    scores = Scores(images, {task: g.classes for task, g in by_task.items()})
    if not scores.tasks:
        raise ValueError(
            f"results for {', '.join(by_task) or 'no task'} were given, but {images.task} "
            f"segmentation is scored; choose another --task or other results"
        )
    clock = Stopwatch()
    for index, truth in load_truths(images, scores.tasks, clock, progress=progress):
        record = images.main.records[index]
        with clock.measure("loading"):
            results: dict[Task, Result] = {}
            for source in given:
                results |= source.find(record, *truth.size, tasks=scores.tasks)
        with clock.measure("metric"):
            scores.update(results, truth)
    for source in given:
        source.check_all_found()
    return _conclude(images, scores, clock)


def _predict(
    segmenter: Segmenter, loaded: Loaded, tasks: Sequence[Task], clock: Stopwatch
) -> dict[Task, Result]:
    with clock.measure("model"):
        output = segmenter.forward(loaded.pixels)
    with clock.measure("postprocess"):
        return {task: segmenter.convert(output, task) for task in tasks}


def _conclude(images: ScoredImages, scores: Scores, clock: Stopwatch) -> Evaluation:
    """What all processes have found, told to all."""
    found_by_all = gather((scores, clock))
    evaluation = None
    if found_by_all is not None:
        (first, _), *others = found_by_all
        for other, _ in others:
            first.merge(other)
        with clock.measure("metric"):
            found = first.compute()
        evaluation = Evaluation(
            images.task,
            len(images),
            found.metrics,
            found.per_class,
            speed([clock, *(other for _, other in others)]),
            found.per_category,
            found.confusion,
            found.curves,
        )
    evaluation = broadcast(evaluation)
    assert evaluation is not None
    return evaluation


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
