"""COCO panoptic segmentation: one JSON file a split, one PNG an image whose colours are ids.

The file is `annotations/panoptic_{split}*.json` or `panoptic_{split}*.json`; the PNGs lie in a
folder of the same name beside or below it, the images in `{split}*/`, `images/{split}*/`,
`images/` or `input_images/`. The split of `panoptic.json` or `panoptic_default.json` is the whole.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.coco_instance import image_folders, is_own_folder
from mask2former.data.formats.coco_json import (
    UNSPLIT,
    agreed_categories,
    images_by_id,
    left_out_note,
    read_coco_json,
    split_of,
)
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import JSON, files_in, is_file, is_folder
from mask2former.data.formats.named_files import find_files, shortening_note, warn_unnamed
from mask2former.data.images import read_panoptic_ids
from mask2former.data.problems import Problems
from mask2former.data.records import PackedRecords
from mask2former.masks.id_maps import MAX_ID
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("panoptic", "semantic", "instance")


def find(folder: Path) -> Found | None:
    """The annotation file of each split in a folder."""
    files: dict[str, Path] = {}
    for place in (folder / "annotations", folder):
        named = [path for path in files_in(place, JSON) if path.name.startswith("panoptic_")]
        for path in (*named, place / "panoptic.json"):
            if is_file(path) and any(map(is_folder, _png_folders(folder, path))):
                split = split_of(path.stem.removeprefix("panoptic").removeprefix("_"))
                files.setdefault(WHOLE if split in UNSPLIT else split, path)
    return Found(TASKS, files) if files else None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: Conventions, and what becomes of faults.

    Raises:
        ValueError: Something in the annotation file is wrong; the message names it.
        FileNotFoundError: Images or PNGs are missing.
    """
    path, problems = found.splits[split], reading.problems
    categories = agreed_categories(found.splits)
    classes = _read_classes(categories, found.splits)
    content = read_coco_json(path)
    images = images_by_id(content, path, problems)
    annotations = _by_image(content["annotations"], images, path, problems)
    if not annotations:
        raise ValueError(f"{path} has no usable annotation; annotate its images")
    places = [*image_folders(folder, split, path), folder / "input_images"]
    image_names = {image_id: images[image_id]["file_name"] for image_id in images}
    png_names = {image_id: annotation["file_name"] for image_id, annotation in annotations.items()}
    located = find_files(image_names, places, path, problems)
    if is_own_folder(located.folder, folder, split, found):
        warn_unnamed(located, path, problems)
    pngs = find_files(
        png_names, _png_folders(folder, path), path, problems, kind="missing annotation"
    )
    class_ids = classes.class_id_by_category()
    records = PackedRecords(
        Record(
            image_id=image_id,
            image=located.path(image_id),
            annotation=(
                str(pngs.path(image_id)),
                _segments(annotations[image_id], class_ids, path, problems),
            ),
            height=int(image["height"]),
            width=int(image["width"]),
        )
        for image_id, image in images.items()
        if image_id in located.names and image_id in pngs.names
    )
    notes = (*left_out_note(content, categories, path), *shortening_note(located, path))
    return Dataset(FORMAT.name, folder, split, classes, TASKS, records, decode, notes)


def decode(record: Record) -> SegmentMap:
    """The id map of one image.

    Raises:
        FileNotFoundError: There is no such PNG.
        ValueError: The PNG is damaged or of another size than the image.
    """
    png_path, segments = record.annotation
    ids = read_panoptic_ids(Path(png_path))
    if ids.shape != (record.height, record.width):
        raise ValueError(
            f"panoptic PNG {png_path} has size (h, w) = {ids.shape} but the annotation file gives "
            f"{(record.height, record.width)} for its image; make the two agree"
        )
    return SegmentMap(ids, tuple(SegmentLabel(*segment) for segment in segments))


def _png_folders(folder: Path, path: Path) -> list[Path]:
    name = path.stem
    places = [path.parent / name, folder / name]
    return places if name == "panoptic" else [*places, folder / name.removeprefix("panoptic_")]


def _read_classes(categories: list[dict], files: dict[str, Path]) -> Classes:
    for category in categories:
        if category.get("isthing") not in (0, 1):
            raise ValueError(
                f"category {category['id']} ({category['name']!r}) in "
                f"{', '.join(map(str, files.values()))} has isthing {category.get('isthing')!r}; "
                f"panoptic categories say 1 for things and 0 for stuff"
            )
    return Classes(
        names=tuple(str(category["name"]) for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        is_thing=tuple(bool(category["isthing"]) for category in categories),
    )


def _by_image(
    annotations: list[Any], images: Mapping[int | str, dict], path: Path, problems: Problems
) -> dict[int | str, dict]:
    by_image: dict[int | str, dict] = {}
    for annotation in annotations:
        wrong = _wrong_annotation(annotation)
        if wrong:
            problems.error("unreadable annotation", f"{path}: {wrong}", file=path)
            continue
        image_id = annotation["image_id"]
        if image_id not in images:
            problems.error(
                "annotation without image",
                f"{path}: the annotation of {annotation['file_name']} is for image id {image_id}, "
                f"which 'images' does not list; add the image or take the annotation out",
                file=path,
                image_id=image_id,
            )
        elif image_id in by_image:
            problems.error(
                "duplicate id",
                f"{path}: image id {image_id} has two annotations; keep one",
                file=path,
                image_id=image_id,
            )
        else:
            by_image[image_id] = annotation
    bare = [image_id for image_id in images if image_id not in by_image]
    for image_id in bare:
        problems.error(
            "image without annotation",
            f"{path}: image id {image_id} ({images[image_id]['file_name']}) has no annotation, one "
            f"of {len(bare)} such images of {len(images)}; annotate it or take it out",
            file=path,
            image_id=image_id,
        )
    return by_image


def _wrong_annotation(annotation: Any) -> str | None:
    """What is wrong with an entry of "annotations"."""
    keys = ("image_id", "file_name", "segments_info")
    if not isinstance(annotation, dict):
        return f"an annotation is {annotation!r}, no JSON object; take it out"
    missing = [key for key in keys if key not in annotation]
    if missing:
        return (
            f"an annotation with the keys {sorted(annotation)} has no {missing[0]!r}; panoptic "
            f"annotations have 'image_id', 'file_name' and 'segments_info'"
        )
    fits = (
        isinstance(annotation["image_id"], int | str)
        and isinstance(annotation["file_name"], str)
        and isinstance(annotation["segments_info"], list)
    )
    if fits:
        return None
    return (
        f"the annotation of image id {annotation['image_id']!r} has the file_name "
        f"{annotation['file_name']!r} and {type(annotation['segments_info']).__name__} "
        f"segments_info; give a text and a list of segments"
    )


def _segments(
    annotation: dict, class_ids: dict[int, int], path: Path, problems: Problems
) -> tuple[tuple[int, int, bool], ...]:
    """(id, class id, is crowd) of each segment of one image; wrong ones are told and left out."""
    image_id = annotation["image_id"]
    segments: dict[int, tuple[int, int, bool]] = {}
    for segment in annotation["segments_info"]:
        segment_id, category_id = _segment_ids(segment)
        where = f"{path}: image id {image_id}: segment {segment_id}"
        if segment_id is None or not 0 < segment_id <= MAX_ID:
            problems.error(
                "bad segment",
                f"{where} of {annotation['file_name']}: its id is not in 1..{MAX_ID} (0 is "
                f"unlabelled); renumber the segment in the file and its PNG",
                file=path,
                image_id=image_id,
            )
        elif category_id not in class_ids:
            problems.error(
                "unknown class",
                f"{where} has category id {category_id}, which 'categories' does not list; correct "
                f"it or add the category",
                file=path,
                image_id=image_id,
            )
        elif segment_id in segments:
            problems.error(
                "duplicate id",
                f"{where} is listed twice; list each segment once",
                file=path,
                image_id=image_id,
            )
        else:
            crowd = bool(segment.get("iscrowd", 0))
            segments[segment_id] = (segment_id, class_ids[category_id], crowd)
    return tuple(segments.values())


def _segment_ids(segment: Any) -> tuple[int | None, int | None]:
    """Segment and category id, where they are whole numbers."""
    entry = segment if isinstance(segment, dict) else {}
    segment_id, category_id = entry.get("id"), entry.get("category_id")
    return (
        segment_id if type(segment_id) is int else None,
        category_id if type(category_id) is int else None,
    )


FORMAT = Format(
    name="coco-panoptic",
    layouts=("annotations/panoptic_{split}*.json with a folder of PNGs of the same name",),
    find=find,
    read=read,
)
