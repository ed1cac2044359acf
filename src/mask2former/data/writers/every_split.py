"""All of a data set, to be written in another format."""

from pathlib import Path

from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE
from mask2former.data.locate import find_format
from mask2former.data.open import list_splits, open_dataset
from mask2former.fractions import Fractions
from mask2former.tasks import Task


def open_every_split(
    folder: Path,
    *,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option is called
    fractions: Fractions | None = None,
) -> dict[str, Dataset]:
    """Open the splits of a data set by their names; what is not split stays whole.

    Args:
        folder: Of the data set.
        task: What the annotations are to be taken as; none prefers by format alone.
        format: Name of the format; none finds it.
        fractions: Shares of train, val and, if three, test, to divide it by.

    Raises:
        FileNotFoundError: There is no such folder, or files that it should hold are missing.
        ValueError: The folder is of no known format, is damaged, or cannot be divided.
    """
    if fractions is None and find_format(folder, task=task, format=format).is_unsplit:
        return {WHOLE: open_dataset(folder, WHOLE, task=task, format=format)}
    names = list_splits(folder, task, format=format, fractions=fractions)
    return {
        name: open_dataset(folder, name, task=task, format=format, fractions=fractions)
        for name in names
    }
