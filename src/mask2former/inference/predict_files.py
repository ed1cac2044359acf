"""Segment many image files and save what is found."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mask2former.inference.results import TASK_OF_KIND, Kind, ResultsWriter
from mask2former.inference.segmenter import Segmenter
from mask2former.inference.sources import unique_stems
from mask2former.tasks import Task


def needed_tasks(kinds: Collection[Kind], drawn: Task) -> list[Task]:
    """The tasks whose predictions the files hold; the drawn one first when it is needed.

    Args:
        kinds: Of files.
        drawn: The task that overlays show.
    """
    tasks = [drawn] if "overlay" in kinds else []
    return list(dict.fromkeys([*tasks, *(TASK_OF_KIND[k] for k in kinds if k in TASK_OF_KIND)]))


def predict_files(
    segmenter: Segmenter,
    images: Sequence[Path],
    output: Path,
    kinds: Collection[Kind],
    *,
    task: Task | None = None,
    score_threshold: float | None = None,
) -> Iterable[Path]:
    """Segment every image once and write all kinds of files.

    Every file is named after its image; for the images' ids see `image_ids`.

    Args:
        segmenter: What segments.
        images: Files.
        output: Folder of the results; it is made.
        kinds: Of files.
        task: What overlays show; none: what the model was trained for.
        score_threshold: As of `Segmenter.predict`.

    Returns:
        The images, each when its results are written.

    Raises:
        ValueError: The model cannot do what the files hold, or an image cannot be read.
    """
    drawn = task or segmenter.task
    tasks = needed_tasks(kinds, drawn)
    segmenter.check_tasks(tasks, score_threshold)
    names = unique_stems(images)
    ids = image_ids(names)
    with ResultsWriter(output, segmenter.classes, kinds) as writer:
        for image, name, image_id in zip(images, names, ids, strict=True):
            writer.write(
                segmenter.predict_tasks(image, tasks, score_threshold),
                name=name,
                image_id=image_id,
                file_name=image.name,
                overlay_task=drawn,
            )
            yield image


def image_ids(names: Sequence[str]) -> Sequence[int | str]:
    """Ids of images: numbers, as in COCO, when all names are different numbers, else the names."""
    if all(name.isascii() and name.isdecimal() for name in names):
        numbers = [int(name) for name in names]
        if len(set(numbers)) == len(numbers):
            return numbers
    return names
