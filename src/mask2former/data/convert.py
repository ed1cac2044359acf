"""A data set in another format, and what the format could not hold."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task
from mask2former.data.writers import (
    coco_instance,
    coco_panoptic,
    labelme,
    panoptic_2ch,
    png_masks,
    voc,
    yolo,
    youtube_vis,
)
from mask2former.data.writers.conversion import Conversion
from mask2former.data.writers.losses import Loss, Losses
from mask2former.data.writers.placing import ImageMode
from mask2former.data.writers.telling import tell_left_stuff
from mask2former.files import naming, unfinished_path, usable_folder
from mask2former.suggestions import did_you_mean
from mask2former.tasks import Task
from mask2former.types import Classes


@dataclass(frozen=True)
class Writer:
    """One target format."""

    name: str
    """As in `--to`; the name of the format that reads it again."""
    tasks: tuple[Task, ...]
    """What its annotations can be; the first is taken if the data set's own is none of them."""
    write: Callable[[Conversion], None]
    holds_videos: bool = False


WRITERS = (
    Writer("coco-instance", coco_instance.TASKS, coco_instance.write),
    Writer("coco-panoptic", coco_panoptic.TASKS, coco_panoptic.write),
    Writer("png-masks", png_masks.TASKS, png_masks.write),
    Writer("yolo", yolo.TASKS, yolo.write),
    Writer("voc", voc.TASKS, voc.write),
    Writer("labelme", labelme.TASKS, labelme.write),
    Writer("youtube-vis", youtube_vis.TASKS, youtube_vis.write, holds_videos=True),
    Writer("panoptic-2ch", panoptic_2ch.TASKS, panoptic_2ch.write),
)
HAVE_SUPERCATEGORIES = ("coco-instance", "coco-panoptic", "coco-stuff", "youtube-vis")
HOLD_MORE = ("coco-instance", "coco-panoptic", "coco-stuff", "youtube-vis", "labelme")
"""Formats whose files say more than the package reads."""


@dataclass(frozen=True)
class Converted:
    """What was written."""

    output: Path
    format: str
    task: Task
    """What the annotations were taken as."""
    classes: Classes
    num_images: dict[str, int]
    """By split."""
    losses: list[Loss] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    """How the data set was understood."""


def convert(
    datasets: Mapping[str, Dataset],
    output: Path,
    to: str,
    *,
    task: Task | None = None,
    images: ImageMode = "copy",
    workers: int = 0,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, _: items,
) -> Converted:
    """Write a data set in another format.

    Everything is written beside `output` first, and takes that name when it is complete.

    Args:
        datasets: All splits, as `open_dataset` gives them; with the same classes.
        output: New or empty folder.
        to: Name of a target format.
        task: What to take the annotations as; none: what they are, if the target can hold that.
        images: "copy" them, "link" them (as hard links), or "none": write annotations alone.
        workers: Processes beside this one; 0 works in this one.
        progress: Shows items as they pass, given their number.

    Raises:
        ValueError: The target cannot hold the data set, the folder is not empty, or something is
            wrong with the data.
        OSError: A file cannot be read or written.
    """
    writer = _writer_named(to)
    losses = Losses()
    datasets = _annotated(datasets, losses)
    chosen = _choose_task(writer, datasets, task)
    splits = {split: for_task(dataset, chosen) for split, dataset in datasets.items()}
    _tell_of_formats(writer, datasets, chosen, images, losses)
    notes = list(dict.fromkeys(note for dataset in splits.values() for note in dataset.notes))
    with naming(output), _complete_folder(output) as folder:
        conversion = Conversion(
            folder, chosen, datasets, splits, images, workers, losses, notes, progress
        )
        writer.write(conversion)
    return Converted(
        output=output,
        format=writer.name,
        task=chosen,
        classes=conversion.classes,
        num_images={split: len(dataset) for split, dataset in splits.items()},
        losses=losses.found(),
        notes=tuple(conversion.notes),
    )


def _writer_named(name: str) -> Writer:
    plain = name.replace("_", "-").lower()
    writer = next((writer for writer in WRITERS if writer.name == plain), None)
    if writer is None:
        raise ValueError(
            f"no format {name} to convert to; {did_you_mean(name, [w.name for w in WRITERS])}"
        )
    return writer


def _annotated(datasets: Mapping[str, Dataset], losses: Losses) -> dict[str, Dataset]:
    """The splits that have annotations.

    Raises:
        ValueError: There is none.
    """
    annotated = {split: dataset for split, dataset in datasets.items() if dataset.tasks}
    if not annotated:
        names = ", ".join(datasets) or "none given"
        raise ValueError(f"no split has annotations to convert ({names}); give one that has")
    losses.add("splits", "splits without annotations are left out", len(datasets) - len(annotated))
    return annotated


def _choose_task(writer: Writer, datasets: Mapping[str, Dataset], task: Task | None) -> Task:
    """What the annotations are taken as.

    Raises:
        ValueError: The target cannot hold it, or the data set is not annotated for it.
    """
    first = next(iter(datasets.values()))
    able = [one for one in writer.tasks if one in first.tasks]
    if task is None and first.tasks and first.tasks[0] in able:
        return first.tasks[0]
    if task is None and able:
        return able[0]
    if task is not None and task in able:
        return task
    if task is not None and task not in first.tasks:
        raise ValueError(
            f"{first.folder} ({first.format}) is annotated for {', '.join(first.tasks)}, not for "
            f"{task}; give --task {' or '.join(first.tasks)}, or add the files that annotate "
            f"{task} (docs/data.md names those of each format)"
        )
    wanted = f"taken as {task}" if task else f"annotated for {', '.join(first.tasks)}"
    others = [other.name for other in WRITERS if set(other.tasks) & set(first.tasks)]
    mend = f"give --task {' or '.join(able)}" if able else f"convert to {' or '.join(others)}"
    raise ValueError(
        f"{writer.name} cannot hold {first.folder} ({first.format}) {wanted}; it holds "
        f"{', '.join(writer.tasks)} annotations: {mend}"
    )


def _tell_of_formats(
    writer: Writer,
    datasets: Mapping[str, Dataset],
    task: Task,
    images: ImageMode,
    losses: Losses,
) -> None:
    """What is lost whatever the images hold."""
    count = sum(map(len, datasets.values()))
    first = next(iter(datasets.values()))
    if first.format in HOLD_MORE:
        losses.add(
            "image information",
            "images lose what else their files may say of them, such as licences and dates",
            count,
        )
    if first.format in HAVE_SUPERCATEGORIES:
        losses.add(
            "supercategories",
            "classes lose the supercategory that their file may give them",
            len(first.classes),
        )
    if task == "instance" and first.tasks[0] != "instance":
        tell_left_stuff(first.classes, losses)
    if not writer.holds_videos:
        videos = {
            (split, record.group)
            for split, dataset in datasets.items()
            for record in dataset.records
            if record.frame is not None
        }
        losses.add(
            "videos",
            "videos become still images, whose objects are not followed from one to the next",
            len(videos),
        )
    if images == "none":
        losses.add("images", "images are not written: put them where the annotations say", count)


@contextmanager
def _complete_folder(output: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `output` when all went well, else is taken away.

    Raises:
        ValueError: There is something at `output`, it cannot be written to, or another conversion
            is on its way to it.
    """
    if output.is_file():
        raise ValueError(f"{output} is a file; give a new folder")
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty; give a new folder")
    # a link may lead to a folder that is not there yet
    folder = usable_folder(output) if output.is_symlink() else output.absolute()
    if folder.is_mount():
        raise ValueError(
            f"{output} is mounted here, so that no other folder can take its place; give a folder "
            f"in it, such as {output / 'converted'}"
        )
    unfinished = unfinished_path(folder)
    usable_folder(unfinished.parent)
    try:
        unfinished.mkdir()
    except FileExistsError as error:
        raise ValueError(
            f"{unfinished} is left from a conversion to {output} that runs or was killed; if none "
            f"runs, delete it"
        ) from error
    try:
        yield unfinished
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
