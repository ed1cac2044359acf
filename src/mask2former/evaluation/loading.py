"""Images and annotations, read in threads while the model works on earlier ones."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track

from mask2former.data.images import read_image
from mask2former.evaluation.stopwatch import Stopwatch
from mask2former.evaluation.truth import ScoredImages, Truth
from mask2former.tasks import Task

T = TypeVar("T")
LOADED_AHEAD = 2
"""Images that are read while the model works on an earlier one."""


class Loaded(NamedTuple):
    """One image of a data set."""

    pixels: UInt8[np.ndarray, "h w 3"]
    truth: Truth


def load_ahead(
    images: ScoredImages,
    indices: Sequence[int],
    tasks: Sequence[Task],
    clock: Stopwatch,
    *,
    progress: bool = False,
) -> Iterator[tuple[int, Loaded]]:
    """The images at some positions, with what is true of them.

    Args:
        images: Of a data set.
        indices: Which, and in which order.
        tasks: Whose truth is made ready, such as `Scores.prepared`.
        clock: Measures the time that was spent waiting, as `loading`.
        progress: Show a bar on standard error.

    Raises:
        ValueError: An image or its annotation cannot be read.
    """

    def load(index: int) -> Loaded:
        truth = images.truth(index)
        truth.prepare(tasks)
        return Loaded(read_image(images.main.records[index].image, truth.size), truth)

    return _in_threads(load, indices, clock, progress=progress)


def load_truths(
    images: ScoredImages,
    tasks: Sequence[Task],
    clock: Stopwatch,
    *,
    progress: bool = False,
) -> Iterator[tuple[int, Truth]]:
    """What is true of all images, which themselves are not read; arguments as of `load_ahead`."""

    def load(index: int) -> Truth:
        truth = images.truth(index)
        truth.prepare(tasks)
        return truth

    return _in_threads(load, range(len(images)), clock, progress=progress)


def _in_threads(
    load: Callable[[int], T], indices: Sequence[int], clock: Stopwatch, *, progress: bool
) -> Iterator[tuple[int, T]]:
    waiting: deque[tuple[int, Future[T]]] = deque()
    upcoming = iter(indices)
    console = Console(stderr=True)
    with ThreadPoolExecutor(LOADED_AHEAD) as threads:
        for _ in track(
            range(len(indices)), "evaluating", console=console, transient=True, disable=not progress
        ):
            for index in upcoming:
                waiting.append((index, threads.submit(load, index)))
                if len(waiting) > LOADED_AHEAD:
                    break
            index, future = waiting.popleft()
            with clock.measure("loading"):
                loaded = future.result()
            clock.images += 1
            yield index, loaded
