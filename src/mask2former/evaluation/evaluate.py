"""A trained model scored on a data set: all metrics of its task from one pass per image."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mask2former.data.dataset import Dataset
from mask2former.distributed import broadcast, gather, is_main, rank, world_size
from mask2former.evaluation.given.results import GivenResults
from mask2former.evaluation.kept.predictions import KeptPredictions, identity
from mask2former.evaluation.loading import Loaded, load_ahead, load_truths
from mask2former.evaluation.scores import Scores, things_as_stuff
from mask2former.evaluation.stopwatch import Stopwatch, speed
from mask2former.evaluation.summary import Confusion, Curves
from mask2former.evaluation.truth import ScoredImages, scored_images
from mask2former.inference.prediction import Prediction
from mask2former.inference.segmenter import Segmenter
from mask2former.tasks import Task
from mask2former.types import Result

logger = logging.getLogger(__name__)


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
    `loading` (waiting for images), `model`, `postprocess`, `metric` and, where predictions are
    kept, `keeping`, in [0, 1]. Images whose predictions were there already do not count, nor does
    what is computed once of all images; empty when all were there."""
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
    on_resume: Callable[[int], None] | None = None,
) -> Evaluation:
    """Predict every image of a data set and compare with its annotations.

    Several processes (`distributed.joined`) share the images, and each gets the whole result. The
    metrics of the same predictions are the same to the last bit however the images are shared and
    after any interruption; predictions may differ in the last bit with the number of CPU threads
    that a process has, which may be another when several share the cores.

    Args:
        segmenter: With its model.
        images: One split, as it was opened.
        task: What is scored; none: what the images were opened for, or the model was trained for.
            Panoptic scores all three tasks of the same predictions: PQ, AP of the things, mIoU.
        progress: Show a bar on standard error.
        on_prediction: Called with the position of each image and its prediction for the task.
        keep_in: Folder where every prediction is kept. Those that an interrupted evaluation of
            the same model on the same images left there are not made again.
        on_resume: Called once, with how many predictions were there, if there were any.

    Raises:
        ValueError: The model or the data set cannot do the task, their classes differ, there is
            no image, or one cannot be read; the folder has predictions of something else.
    """
    if not isinstance(images, ScoredImages):
        images = scored_images(images, task or segmenter.task)
    segmenter.check_tasks([images.task])
    scores = Scores(images, dict.fromkeys(segmenter.tasks, segmenter.classes))
    _tell_things_as_stuff(segmenter, images, scores)
    clock = Stopwatch(segmenter.device)
    with ExitStack() as held:
        kept = None
        done: frozenset[int] = frozenset()
        if keep_in is not None:
            fingerprint = identity(segmenter, images)
            kept = held.enter_context(KeptPredictions(keep_in, segmenter.classes, fingerprint))
            done = kept.score(images, scores)
            if done and on_resume is not None and is_main():
                on_resume(len(done))
        indices = [i for i in range(len(images)) if i not in done][rank() :: world_size()]
        bar = progress and is_main()
        for index, loaded in load_ahead(images, indices, scores.prepared, clock, progress=bar):
            results = _predict(segmenter, loaded, scores.tasks, clock)
            with clock.measure("metric"):
                scores.update(results, loaded.truth)
            if kept is not None:
                with clock.measure("keeping"):
                    kept.append(loaded.truth.image_id, results)
            if on_prediction is not None:
                shown = results[images.task]
                on_prediction(
                    index, Prediction(loaded.pixels, segmenter.classes, images.task, shown)
                )
        # the folder is held until all processes are done with it
        return _conclude(images, scores, clock)


def score_results(
    given: Sequence[GivenResults], images: ScoredImages, *, progress: bool = False
) -> Evaluation:
    """Compare results that were made elsewhere with the annotations.

    Args:
        given: Of different tasks; those that `images` are scored for. Their `notes` say afterwards
            what of them has to be known to trust the scores.
        images: One split.
        progress: Show a bar on standard error.

    Raises:
        ValueError: No result is of a task that is scored, two are of one task, the images that
            they are of are others, they are the annotations themselves, or one is damaged.
    """
    if world_size() > 1:
        raise ValueError("given results are scored by one process; leave --devices out")
    by_task = _by_task(given)
    scores = Scores(images, {task: g.classes for task, g in by_task.items()})
    if not scores.tasks:
        raise ValueError(
            f"results for {', '.join(by_task) or 'no task'} were given, but {images.task} "
            f"segmentation is scored; choose another --task or other results"
        )
    for source in given:
        source.check_images(images.main, scores.tasks)
    clock = Stopwatch()
    for index, truth in load_truths(images, scores.prepared, clock, progress=progress):
        record = images.main.records[index]
        with clock.measure("loading"):
            results: dict[Task, Result] = {}
            for source in given:
                results |= source.find(record, *truth.size, tasks=scores.tasks)
        with clock.measure("metric"):
            scores.update(results, truth)
    return _conclude(images, scores, clock)


def _by_task(given: Sequence[GivenResults]) -> dict[Task, GivenResults]:
    by_task: dict[Task, GivenResults] = {}
    for results in given:
        for task in results.tasks:
            if task in by_task:
                raise ValueError(
                    f"{by_task[task].path} and {results.path} both hold {task} results; give one "
                    f"of them"
                )
            by_task[task] = results
    return by_task


def _predict(
    segmenter: Segmenter, loaded: Loaded, tasks: Sequence[Task], clock: Stopwatch
) -> dict[Task, Result]:
    with clock.measure("model"):
        output = segmenter.forward(loaded.pixels)
    with clock.measure("postprocess"):
        return {task: segmenter.convert(output, task) for task in tasks}


def _tell_things_as_stuff(segmenter: Segmenter, images: ScoredImages, scores: Scores) -> None:
    """A panoptic model finds no objects of its stuff, whatever the data set calls it."""
    if segmenter.task != "panoptic" or "instance" not in scores.tasks or not is_main():
        return
    names = things_as_stuff(segmenter.classes, images.classes["instance"])
    if names:
        logger.warning(
            "the model has %s as stuff, so that it finds none of the objects that the data set has "
            "of it: AP is 0; score such classes by --task semantic",
            " and ".join(map(repr, names)),
        )


def _conclude(images: ScoredImages, scores: Scores, clock: Stopwatch) -> Evaluation:
    """What all processes have found, told to all."""
    found_by_all = gather((scores, clock))
    evaluation = None
    if found_by_all is not None:
        (first, _), *others = found_by_all
        for other, _ in others:
            first.merge(other)
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
