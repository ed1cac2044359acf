"""One split of a data set: which images, and what is annotated on each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mask2former.data.annotations import Annotations, AsRead
from mask2former.data.sources import Source
from mask2former.tasks import Task
from mask2former.types import Classes


@dataclass(frozen=True)
class Record:
    """One image, cheap to hold: nothing is decoded yet."""

    image_id: int | str
    image: Source
    """Its file: a path, or a part of a shard."""
    annotation: Any
    """Whatever the format's `decode` needs: raw JSON objects, a path of a PNG."""
    height: int | None = None
    """As the annotation file says; none when it does not."""
    width: int | None = None
    num_objects: int | None = None
    """Objects that are no crowds, of data sets of objects whose annotation file tells; none for the
    others, and where pixels of PNGs would have to be counted (VOC, DAVIS, instance PNGs). Training
    for objects leaves out the images of which 0 are known, no others."""
    group: str | None = None
    """The video or scene it belongs to: never torn apart by a random split."""
    frame: int | None = None
    """Position in the video `group`, from 0; none for single images."""


@dataclass(frozen=True)
class Dataset:
    """The records of one split, and how to read them."""

    format: str
    folder: Path
    split: str
    classes: Classes
    tasks: tuple[Task, ...]
    """What the annotations can train and score; the natural one first."""
    records: Sequence[Record]
    decode: Callable[[Record], AsRead]
    """Reads a record's annotations; picklable."""
    notes: tuple[str, ...] = ()
    """How the reader understood what the files leave open: ignored values, background, names."""

    def __len__(self) -> int:
        return len(self.records)

    def annotations(self, index: int) -> AsRead:
        return self.decode(self.records[index])


@dataclass(frozen=True)
class TaskDataset(Dataset):
    """A data set as `derive.for_task` makes it: for one task, never in layers."""

    decode: Callable[[Record], Annotations]

    def annotations(self, index: int) -> Annotations:
        return self.decode(self.records[index])
