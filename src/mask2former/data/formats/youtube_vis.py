"""YouTube-VIS and OVIS: videos in one JSON file a split, objects with a mask or none a frame.

The data set is one of frames: each is a record of its video. A file without annotations, as those
of the challenges' validation and test splits, can be predicted, not trained or scored.
"""

from collections.abc import Iterator
from pathlib import Path

from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.coco_json import agreed_categories, sniff, split_of
from mask2former.data.formats.coco_masks import decode_objects
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import JSON, files_in, is_file
from mask2former.data.formats.named_files import find_files, shortening_note, warn_unnamed
from mask2former.data.formats.splits import SPLIT_NAMES, SYNONYMS, split_folders
from mask2former.data.formats.text_files import read_json_object
from mask2former.data.formats.youtube_vis_entries import read_tracks, videos_by_id
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("instance", "panoptic", "semantic")
FILES = ("instances.json", "instances_ytvis.json", "annotations.json")
NO_TRUTH = (
    "There are no annotations in {}, as in the splits whose truth the challenges keep: it can be "
    "predicted, not trained or scored."
)
decode = decode_objects


def find(folder: Path) -> Found | None:
    """The annotation file of each split in a folder."""
    files: dict[str, Path] = {}
    for split, path in _candidates(folder):
        is_new = split not in files and not (split == WHOLE and files)
        if is_new and is_file(path) and sniff(path) == "videos":
            files[split] = path
    return Found(TASKS, files) if files else None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: Conventions, and what becomes of faults.

    Returns:
        A record a frame: its `group` is the video's id, its `image_id` that and the position.
        Serves no task when the file has no annotations.

    Raises:
        ValueError: Something in the annotation file is wrong; the message names it.
        FileNotFoundError: Frames are missing.
    """
    path, problems = found.splits[split], reading.problems
    categories = agreed_categories(found.splits)
    content = read_json_object(path)
    classes = Classes(
        names=tuple(str(category["name"]) for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        is_thing=(True,) * len(categories),
    )
    videos = videos_by_id(content, path, problems)
    file_names: dict[int | str, str] = {
        video.frame_id(position): name
        for video in videos.values()
        for position, name in enumerate(video.file_names)
    }
    located = find_files(file_names, _frame_folders(folder, split, path), path, problems)
    if len(found.splits) == 1 or all("/" in name for name in located.names.values()):
        warn_unnamed(located, path, problems)
    annotations = content.get("annotations")
    if annotations and not isinstance(annotations, list):
        raise ValueError(f"{path}: 'annotations' is no list; write one object a track")
    objects = read_tracks(annotations or [], videos, classes, path, problems)
    records = PackedRecords(
        Record(
            image_id=frame_id,
            image=located.path(frame_id),
            annotation=tuple(objects[frame_id]),
            height=video.height,
            width=video.width,
            num_objects=sum(not item[2] for item in objects[frame_id]) if annotations else None,
            group=str(video.id),
            frame=position,
        )
        for video in videos.values()
        for position in range(len(video.file_names))
        if (frame_id := video.frame_id(position)) in located.names
    )
    notes = shortening_note(located, path)
    if not annotations:
        notes = (*notes, NO_TRUTH.format(path.name))
    tasks = TASKS if annotations else ()
    return Dataset(FORMAT.name, folder, split, classes, tasks, records, decode, notes)


def _candidates(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file with a name that may be right, the surest names first."""
    for path in files_in(folder, JSON):
        split = split_of(path.stem.removeprefix("annotations_").removeprefix("instances_"))
        if split in SPLIT_NAMES:
            yield split, path
    for path in files_in(folder / "annotations", JSON):
        stem = path.stem.removeprefix("instances_").removesuffix("_sub")
        if split_of(stem) in SPLIT_NAMES:
            yield split_of(stem), path
    for split, child in split_folders(folder).items():
        yield from ((split, child / name) for name in FILES)
    yield from ((WHOLE, folder / name) for name in FILES)


def _frame_folders(folder: Path, split: str, path: Path) -> list[Path]:
    """Where the names of frames may start, the likeliest first."""
    splits = [split, *next((names for names in SYNONYMS if split in names), ())]
    return [
        *(folder / name / "JPEGImages" for name in splits),
        path.parent / "JPEGImages",
        *(folder / "JPEGImages" / name for name in splits),
        folder / "JPEGImages",
        *(folder / name for name in splits),
        *(folder / "images" / name for name in splits),
        folder / "images",
        folder,
    ]


FORMAT = Format(
    name="youtube-vis",
    layouts=(
        "{split}.json + [{split}/]JPEGImages",
        "{split}/instances.json + {split}/JPEGImages",
        "annotations/instances_{split}_sub.json + {split}/JPEGImages",
        "annotations_{split}.json + {split}",
        "instances.json + JPEGImages",
    ),
    find=find,
    read=read,
)
