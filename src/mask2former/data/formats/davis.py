"""DAVIS: a folder of frames and a folder of object-number PNGs for each sequence.

Lists in `ImageSets/{year}/` name the sequences of a split (2017) or its frames and masks (2016).
A pixel's value is the number of its object; all objects are of one class.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import (
    PNG,
    files_by_stem,
    files_in,
    first_few,
    first_file,
    folders_in,
)
from mask2former.data.formats.pairs import warn_spare
from mask2former.data.formats.text_files import read_lines
from mask2former.data.images import IMAGE_SUFFIXES, read_label_map
from mask2former.data.problems import Problems
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("instance", "panoptic", "semantic")
CLASSES = Classes(names=("object",), category_ids=(1,), is_thing=(True,))
RESOLUTIONS = ("480p", "Full-Resolution", "1080p", "")
MASK_FOLDERS = ("Annotations", "Annotations_unsupervised")
LISTS = frozenset({".txt"})
YEARS = ("2017", "2019", "2016")
"""In order of preference: the masks that are published today are those of 2017."""
ONE_OBJECT_YEAR = "2016"
VOID = 255
"""No object and not scored, or, in masks that have no other value, the one object.

Source:
    davis2017-evaluation, which clears 255 before it counts objects; DAVIS 2016 stores 0 and 255.
"""
VOID_NOTE = (
    "Pixel value 255 is the one object of sequences whose masks hold nothing else, and is ignored "
    "in the others."
)
JOINED_NOTE = "All objects of a frame are joined to one, as in the lists of 2016."


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    images: Path
    masks: Path
    listed_in: Path | None
    """The file that names the sequences; none: all there are."""

    @property
    def joins_objects(self) -> bool:
        return self.listed_in is not None and self.listed_in.parent.name == ONE_OBJECT_YEAR


def find(folder: Path) -> Found | None:
    """The list of each split in a folder, or the folders of all sequences."""
    for masks in MASK_FOLDERS:
        for resolution in RESOLUTIONS:
            place = Place(
                folder / "JPEGImages" / resolution, folder / masks / resolution, listed_in=None
            )
            if _has_sequence(place):
                lists = _lists(folder)
                splits = {name: replace(place, listed_in=path) for name, path in lists.items()}
                return Found(TASKS, splits or {WHOLE: place})
    return None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: What becomes of faults.

    Returns:
        A record a frame that has a mask: its `group` is the sequence. Segment ids are the numbers
        of the objects.

    Raises:
        ValueError: The list names no sequence, or no frame has a mask.
        FileNotFoundError: A sequence is missing.
    """
    place: Place = found.splits[split]
    sequences = _sequences(place)
    records = PackedRecords(
        record
        for sequence in sequences
        for record in _read_sequence(place, sequence, reading.problems)
    )
    if not records:
        raise ValueError(
            f"no frame of {place.images} has a mask in {place.masks}; a mask has the name of "
            f"its frame, as in bear/00000.jpg and bear/00000.png"
        )
    notes = (VOID_NOTE, JOINED_NOTE) if place.joins_objects else (VOID_NOTE,)
    return Dataset(FORMAT.name, folder, split, CLASSES, TASKS, records, decode, notes)


def decode(record: Record) -> SegmentMap:
    """The objects of one frame.

    Raises:
        FileNotFoundError: There is no such mask.
        ValueError: The mask is damaged or in colour.
    """
    mask, is_binary, joins_objects = record.annotation
    ids = read_label_map(Path(mask)).astype(np.int32)
    if is_binary:
        ids = np.minimum(ids, 1)
    elif joins_objects:
        ids = np.where(ids == VOID, VOID, np.minimum(ids, 1)).astype(np.int32)
    numbers = [number for number in np.unique(ids).tolist() if number not in (0, VOID)]
    return SegmentMap(ids, tuple(SegmentLabel(number, 0) for number in numbers))


def _read_sequence(place: Place, sequence: str, problems: Problems) -> Iterator[Record]:
    """The frames that have a mask."""
    frames = files_by_stem(place.images / sequence, IMAGE_SUFFIXES)
    masks = files_by_stem(place.masks / sequence, PNG)
    if not frames:
        problems.error(
            "missing image",
            f"sequence {sequence}{_listed(place)} has no frames in {place.images / sequence}; "
            f"add them or take it out",
            file=place.images / sequence,
        )
        return
    if not masks:
        problems.error(
            "missing annotation",
            f"sequence {sequence}{_listed(place)} has no masks in {place.masks / sequence}; "
            f"add them or take it out",
            file=place.masks / sequence,
        )
        return
    spare = [path for name, path in masks.items() if name not in frames]
    warn_spare(spare, len(masks), place.masks / sequence, problems)
    bare = [name for name in frames if name not in masks]
    if bare:  # no error: of many videos only some frames are annotated
        problems.warn(
            "image without annotation",
            f"{len(bare)} of the {len(frames)} frames of {place.images / sequence} have no mask "
            f"in {place.masks / sequence} and are left out: {first_few(bare)}; add masks if they "
            f"should be used",
            file=place.images / sequence,
        )
    is_binary = _is_binary(masks[name] for name in masks)
    for position, (name, frame) in enumerate(frames.items()):
        if name in masks:
            yield Record(
                image_id=f"{sequence}/{name}",
                image=frame,
                annotation=(str(masks[name]), is_binary, place.joins_objects),
                group=sequence,
                frame=position,
            )


def _is_binary(masks: Iterator[Path]) -> bool:
    """Whether 255 is the object: told by the first mask of a sequence that is not empty."""
    for mask in masks:
        try:
            values = set(np.unique(read_label_map(mask)).tolist()) - {0}
        except ValueError:
            continue  # a damaged mask is told when it is decoded
        if values:
            return values == {VOID}
    return False


def _sequences(place: Place) -> list[str]:
    """Names of the sequences of a split, in the order of its list."""
    if place.listed_in is None:
        return sorted({*_names_in(place.images), *_names_in(place.masks)})
    names = [_sequence_of(line.split()[0]) for line in read_lines(place.listed_in)]
    if not names:
        raise ValueError(f"{place.listed_in} names no sequences; write one a line")
    return list(dict.fromkeys(names))


def _sequence_of(entry: str) -> str:
    """Of `bear`, or of a frame as in the lists of 2016, `/JPEGImages/480p/bear/00000.jpg`."""
    return Path(entry).parent.name if Path(entry).suffix else entry


def _lists(folder: Path) -> dict[str, Path]:
    """The file of each split; those of an older year have the year in the name of the split."""
    lists: dict[str, Path] = {}
    for year in (*YEARS, ""):
        for path in files_in(folder / "ImageSets" / year, LISTS):
            lists.setdefault(path.stem if path.stem not in lists else f"{path.stem}{year}", path)
    return lists


def _has_sequence(place: Place) -> bool:
    """Whether a folder of frames has a folder of masks of the same name."""
    shared = _names_in(place.images) & _names_in(place.masks)
    return any(first_file(place.masks / name, PNG) for name in sorted(shared)[:1])


def _names_in(folder: Path) -> set[str]:
    """Of the folders in a folder."""
    return {path.name for path in folders_in(folder)}


def _listed(place: Place) -> str:
    return f" of {place.listed_in}" if place.listed_in else ""


FORMAT = Format(
    name="davis",
    layouts=("JPEGImages/[480p/]{sequence} + Annotations/[480p/]{sequence} [+ ImageSets]",),
    find=find,
    read=read,
)
