"""Open a data set: the format is found by looking at the folder."""

from pathlib import Path

from mask2former.data.dataset import Dataset
from mask2former.data.formats import coco_instance, coco_panoptic, png_masks
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.formats.splits import in_order, resolve_split
from mask2former.tasks import Task

FORMATS: tuple[Format, ...] = (coco_panoptic.FORMAT, coco_instance.FORMAT, png_masks.FORMAT)
"""In order of preference: panoptic annotations serve every task."""
FIRST_FEW = 10


def open_dataset(
    folder: Path, split: str, *, task: Task | None = None, ignore_index: int = 255
) -> Dataset:
    """Open one split of a data set.

    A folder with annotations in several formats is read by the first that was made for `task`,
    else by the first that can serve it, in the order COCO panoptic, COCO instance, PNG masks.

    Args:
        folder: Of the data set.
        split: Its name or a synonym: train, training; val, valid, validation; test, testing.
        task: What it is wanted for; none prefers by format alone.
        ignore_index: Pixel value of PNG masks that is no class and not scored.

    Raises:
        FileNotFoundError: There is no such folder, or files that it should hold are missing.
        ValueError: The folder is of no known format, lacks the split, or is damaged; the message
            names the file and the mend.
    """
    data_format, found = _find_format(folder, task)
    name = resolve_split(split, found.splits)
    return data_format.read(folder, name, found, Reading(ignore_index=ignore_index))


def natural_tasks(folder: Path) -> tuple[Task, ...]:
    """What the annotations of a folder serve, the natural task first; nothing is read for it.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is of no known format.
    """
    return _find_format(folder, None)[1].tasks


def list_splits(folder: Path, task: Task | None = None) -> list[str]:
    """The splits of a data set: training, validation, test, then others by name.

    Args:
        folder: Of the data set.
        task: What it is wanted for, as for `open_dataset`.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is of no known format.
    """
    return in_order(_find_format(folder, task)[1].splits)


def _find_format(folder: Path, task: Task | None) -> tuple[Format, Found]:
    """The format that reads the folder for the task, and what it found."""
    if not folder.exists():
        raise FileNotFoundError(f"no data set folder at {folder}; correct the path")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder of the data set (unpack archives)")
    found = [(f, there) for f in FORMATS if (there := f.find(folder)) is not None]
    if not found:
        raise ValueError(_nothing_found(folder))
    natural = [pair for pair in found if pair[1].tasks[0] == task]
    able = [pair for pair in found if task in pair[1].tasks]
    return (natural or able or found)[0]


def _nothing_found(folder: Path) -> str:
    looked_for = "; ".join(f"{f.name}: {' or '.join(f.layouts)}" for f in FORMATS)
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    there = ", ".join(names[:FIRST_FEW]) + (", ..." if len(names) > FIRST_FEW else "")
    return (
        f"no data set of a known format in {folder}, which holds {there or 'nothing'}; looked for "
        f"{looked_for}. arrange the files in one of these layouts"
    )
