"""COCO panoptic segmentation: one JSON file a split, one PNG an image whose colours are ids.

The file is `annotations/panoptic_{split}*.json` or `panoptic_{split}*.json`; the PNGs lie in a
folder of the same name beside or below it, the images in `{split}*/`, `images/{split}*/`,
`images/` or `input_images/`.
"""

from pathlib import Path

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.coco_instance import image_folders, split_of
from mask2former.data.formats.coco_json import (
    agreed_categories,
    find_image_folder,
    images_by_id,
    read_coco_json,
)
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.images import read_panoptic_ids
from mask2former.data.records import PackedRecords
from mask2former.masks.id_maps import MAX_ID
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("panoptic", "semantic", "instance")


def find(folder: Path) -> Found | None:
    """The annotation file of each split in a folder."""
    files: dict[str, Path] = {}
    for pattern in ("annotations/panoptic_*.json", "panoptic_*.json"):
        for path in sorted(folder.glob(pattern)):
            if any(candidate.is_dir() for candidate in _png_folders(folder, path)):
                files.setdefault(split_of(path, "panoptic_"), path)
    return Found(TASKS, files) if files else None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:  # noqa: ARG001 one signature for all formats
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
    path = found.splits[split]
    classes = _read_classes(found.splits)
    content = read_coco_json(path)
    images = images_by_id(content, path)
    name = path.stem.removeprefix("panoptic_")
    candidates = [*image_folders(folder, split, name), folder / "input_images"]
    root = find_image_folder([i["file_name"] for i in images.values()], candidates, path)
    annotations = _by_image(content["annotations"], images, path)
    png_names = [annotation["file_name"] for annotation in annotations.values()]
    png_root = find_image_folder(png_names, _png_folders(folder, path), path)
    class_ids = classes.class_id_by_category()
    records = PackedRecords(
        Record(
            image_id=image_id,
            image=root / image["file_name"],
            annotation=(
                str(png_root / annotations[image_id]["file_name"]),
                _segments(annotations[image_id], class_ids, path),
            ),
            height=int(image["height"]),
            width=int(image["width"]),
        )
        for image_id, image in images.items()
    )
    return Dataset(FORMAT.name, folder, split, classes, TASKS, records, decode)


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
    return [path.parent / name, folder / name, folder / name.removeprefix("panoptic_")]


def _read_classes(files: dict[str, Path]) -> Classes:
    categories = agreed_categories(files)
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


def _by_image(annotations: list[dict], images: dict, path: Path) -> dict[int | str, dict]:
    by_image: dict[int | str, dict] = {}
    for annotation in annotations:
        missing = [k for k in ("image_id", "file_name", "segments_info") if k not in annotation]
        if missing:
            raise ValueError(
                f"{path}: an annotation with the keys {sorted(annotation)} has no {missing[0]!r}; "
                f"panoptic annotations have 'image_id', 'file_name' and 'segments_info'"
            )
        image_id = annotation["image_id"]
        if image_id not in images:
            raise ValueError(
                f"{path}: the annotation of {annotation['file_name']} is for image id {image_id}, "
                f"which 'images' does not list; add the image or take the annotation out"
            )
        if image_id in by_image:
            raise ValueError(f"{path}: image id {image_id} has two annotations; keep one")
        by_image[image_id] = annotation
    bare = [image_id for image_id in images if image_id not in by_image]
    if bare:
        raise ValueError(
            f"{path}: {len(bare)} of {len(images)} images have no annotation, first image id "
            f"{bare[0]}; annotate them or take them out"
        )
    return by_image


def _segments(
    annotation: dict, class_ids: dict[int, int], path: Path
) -> tuple[tuple[int, int, bool], ...]:
    """(id, class id, is crowd) of each segment of one image."""
    where = f"{path}: image id {annotation['image_id']}"
    segments = []
    for segment in annotation["segments_info"]:
        if segment["category_id"] not in class_ids:
            raise ValueError(
                f"{where}: segment {segment['id']} has category id {segment['category_id']}, "
                f"which 'categories' does not list; correct it or add the category"
            )
        if not 0 < segment["id"] <= MAX_ID:
            raise ValueError(
                f"{where}: segment id {segment['id']} is not in 1..{MAX_ID} (0 is unlabelled); "
                f"renumber the segment in the file and its PNG"
            )
        crowd = bool(segment.get("iscrowd", 0))
        segments.append((segment["id"], class_ids[segment["category_id"]], crowd))
    ids = [segment[0] for segment in segments]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{where}: a segment id occurs twice in {ids}; list each segment once")
    return tuple(segments)


FORMAT = Format(
    name="coco-panoptic",
    layouts=("annotations/panoptic_{split}*.json with a folder of PNGs of the same name",),
    find=find,
    read=read,
)
