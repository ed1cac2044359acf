"""A trained model scored on a data set: all metrics of its task from one pass per image."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track

from mask2former.data.annotations import Annotations, annotation_size
from mask2former.data.dataset import Dataset, TaskDataset
from mask2former.data.derive import for_task
from mask2former.data.images import read_image
from mask2former.evaluation.scores import Scores
from mask2former.inference.prediction import Prediction
from mask2former.inference.segmenter import Segmenter
from mask2former.tasks import Task

LOADED_AHEAD = 2
"""Images that are read while the model works on an earlier one."""


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
    """`images_per_second`, and the shares of the time that went to `loading` (waiting for images),
    `model`, `postprocess` and `metric`, in [0, 1]."""

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is NaN is null, which JSON has."""
        return _without_nan(asdict(self))


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    task: Task | None = None,
    *,
    progress: bool = False,
    on_prediction: Callable[[int, Prediction], None] | None = None,
) -> Evaluation:
    """Predict every image of a data set and compare with its annotations.

    Args:
        segmenter: With its model.
        dataset: One split, as it was opened.
        task: What is scored; none: what the model was trained for. Panoptic scores all three
            tasks of the same predictions: PQ, AP of the things, mIoU.
        progress: Show a bar on standard error.
        on_prediction: Called with the position of each image and its prediction for the task.

    Raises:
        ValueError: The model or the data set cannot do the task, their classes differ, there is
            no image, or one cannot be read.
    """
    task = task or segmenter.task
    segmenter.check_tasks([task])
    annotated = for_task(dataset, task)
    if len(annotated) == 0:
        raise ValueError(
            f"split {dataset.split} of {dataset.folder} has no images; evaluate another split"
        )
    scores = Scores(task, segmenter.classes, annotated.classes)
    clock = Stopwatch(segmenter.device)
    console = Console(stderr=True)
    indices = track(
        range(len(annotated)), "evaluating", console=console, transient=True, disable=not progress
    )
    loaded = load_ahead(annotated)
    for index in indices:
        with clock.measure("loading"):
            pixels, annotations = next(loaded)
        with clock.measure("model"):
            output = segmenter.forward(pixels)
        with clock.measure("postprocess"):
            results = {t: segmenter.convert(output, t) for t in scores.tasks}
        with clock.measure("metric"):
            scores.update(annotated.records[index].image_id, results, annotations)
        if on_prediction is not None:
            on_prediction(index, Prediction(pixels, segmenter.classes, task, results[task]))
    with clock.measure("metric"):
        metrics, per_class = scores.compute()
    return Evaluation(task, len(annotated), metrics, per_class, clock.speed(len(annotated)))


class Loaded(NamedTuple):
    """One image of a data set."""

    pixels: UInt8[np.ndarray, "h w 3"]
    annotations: Annotations


def load_ahead(dataset: TaskDataset) -> Iterator[Loaded]:
    """The images in order, of which the next ones are read in threads meanwhile."""
    with ThreadPoolExecutor(LOADED_AHEAD) as threads:
        waiting: deque[Future[Loaded]] = deque()
        for index in range(len(dataset)):
            waiting.append(threads.submit(_load, dataset, index))
            if len(waiting) > LOADED_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _load(dataset: TaskDataset, index: int) -> Loaded:
    annotations = dataset.annotations(index)
    size = annotation_size(annotations)
    return Loaded(read_image(dataset.records[index].image, size), annotations)


class Stopwatch:
    """Time by what it was spent on; waits for the device, so that its work is counted right."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def speed(self, num_images: int) -> dict[str, float]:
        """See `Evaluation.speed`."""
        total = sum(self.seconds.values())
        shares = {part: seconds / total for part, seconds in self.seconds.items()}
        return {"images_per_second": num_images / total, **shares}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
