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

    Every file is named after its image. So is the image's id, which is a number where the name is
    one, as in COCO.

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
    with ResultsWriter(output, segmenter.classes, kinds) as writer:
        for image, name in zip(images, unique_stems(images), strict=True):
            writer.write(
                segmenter.predict_tasks(image, tasks, score_threshold),
                name=name,
                image_id=int(name) if name.isascii() and name.isdecimal() else name,
                file_name=image.name,
                overlay_task=drawn,
            )
            yield image
