"""What a reader of one kind of results has."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from mask2former.data.dataset import Record
from mask2former.evaluation.given.image_names import GivenImages
from mask2former.tasks import Task
from mask2former.types import Classes, Result


@runtime_checkable
class ResultsReader(Protocol):
    """Reads results image by image; `GivenResults` says what its attributes are."""

    tasks: tuple[Task, ...]
    classes: Classes
    images: GivenImages
    notes: tuple[str, ...] = ()
    are_annotations: bool = False
    """Nothing in the file says that a model made it."""
    may_lack_images: bool = False
    """Images in which nothing was found need no entry."""

    def find(self, record: Record, height: int, width: int) -> Mapping[Task, Result]:
        """The results of an image, by task.

        Args:
            record: Of the data set.
            height: Of the image in pixels.
            width: Of the image in pixels.

        Raises:
            ValueError: There is no result, or it is damaged or of another size.
        """
        ...
