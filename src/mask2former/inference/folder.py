"""Segmenting many images into a folder of results."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mask2former.inference.prediction import Prediction
from mask2former.inference.results import KINDS, TASK_OF_KIND, ResultsWriter
from mask2former.inference.segmenter import Segmenter
from mask2former.inference.sources import find_images, unique_stems
from mask2former.suggestions import did_you_mean
from mask2former.tasks import Task


def segment_images(
    segmenter: Segmenter,
    sources: Iterable[str | Path],
    output: Path,
    *,
    kinds: Collection[str] = ("overlay",),
    task: Task | None = None,
    score_threshold: float | None = None,
    on_image: Callable[[int, int, Mapping[Task, Prediction]], None] | None = None,
) -> list[Path]:
    """Segment images and write what `ResultsWriter` describes.

    Args:
        segmenter: With its model.
        sources: Images, folders, patterns; see `find_images`.
        output: A folder, made when it is not there; files of the same names are replaced.
        kinds: Of files, of `KINDS`.
        task: What overlays show; none: what the model was trained for.
        score_threshold: See `Segmenter.predict`.
        on_image: Called after each image with how many are done, how many there are, and its
            predictions.

    Returns:
        The images, in the order of the results.

    Raises:
        FileNotFoundError: Nothing is at a source.
        ValueError: No such kind, a kind or task that the model cannot do, or a broken image.
    """
    tasks = _tasks_of(kinds, task or segmenter.task, segmenter)
    segmenter.check_tasks(tasks, score_threshold)
    paths = find_images(sources)
    names, image_ids = unique_stems(paths), image_ids_of(paths)
    with ResultsWriter(output, segmenter.classes, kinds) as writer:
        for i, path in enumerate(paths):
            predictions = segmenter.predict_tasks(path, tasks, score_threshold)
            writer.write(
                predictions,
                name=names[i],
                image_id=image_ids[i],
                file_name=path.name,
                overlay_task=task or segmenter.task,
            )
            if on_image is not None:
                on_image(i + 1, len(paths), predictions)
    return paths


def image_ids_of(paths: Sequence[Path]) -> list[int]:
    """The numbers that the files are called by, as in COCO; 1, 2, ... when one has another name."""
    stems = [path.stem for path in paths]
    if all(stem.isdecimal() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(paths) + 1))


def _tasks_of(kinds: Collection[str], overlay_task: Task, segmenter: Segmenter) -> list[Task]:
    if not kinds:
        raise ValueError(f"nothing to save was given; choose of {', '.join(KINDS)}")
    tasks: dict[Task, None] = {}
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} cannot be saved; {did_you_mean(kind, KINDS)}")
        needed = TASK_OF_KIND.get(kind, overlay_task)
        if needed not in segmenter.tasks:
            able = [k for k in KINDS if TASK_OF_KIND.get(k, segmenter.task) in segmenter.tasks]
            raise ValueError(
                f"{kind!r} needs {needed} predictions, which this model, trained for "
                f"{segmenter.task} segmentation, does not make; it can save {', '.join(able)}"
            )
        tasks[needed] = None
    return list(tasks)
