"""COCO-Stuff: a class per pixel, of 80 things and 91 kinds of stuff.

Releases differ in how they store a class: the maps for COCO 2017 hold its category id - 1, the
MATLAB files of COCO-Stuff 10k its category id, and the maps that detectron2's and
mmsegmentation's scripts prepare its place among the 171. Where COCO's own file of objects lies
beside the maps, the two are read together, as layers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mask2former.data.annotations import Layered, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.class_list import find_class_list
from mask2former.data.formats.coco_instance import read_objects
from mask2former.data.formats.coco_json import images_by_id, read_coco_json, split_of
from mask2former.data.formats.coco_masks import PackedObject, decode_objects
from mask2former.data.formats.coco_stuff_maps import TABLE, UNLABELLED, Coding, read_map
from mask2former.data.formats.format import Format, Found, Reading
from mask2former.data.formats.listing import PNG, files_by_stem, first_file, folders_in, is_file
from mask2former.data.formats.pairs import pair_by_name
from mask2former.data.formats.text_files import read_lines
from mask2former.data.images import IMAGE_SUFFIXES
from mask2former.data.problems import Problems
from mask2former.data.records import PackedRecords
from mask2former.tasks import Task
from mask2former.types import Classes

TASKS: tuple[Task, ...] = ("semantic", "panoptic", "instance")
SEMANTIC_ONLY: tuple[Task, ...] = ("semantic",)
MATLAB = frozenset({".mat"})
PREPARED_ENDING = "_labelTrainIds"
COCO_SPLIT = re.compile(r"(train|val|test)\d{4}")
COCO_NAME = re.compile(rf"(COCO_\w+_)?\d{{12}}({PREPARED_ENDING})?")


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    images: Path
    maps: Path
    coding: Coding
    ending: str = ""
    """Of the names of maps, where images have none."""
    listed_in: Path | None = None
    """The file that names the images; none: all that there are."""
    objects: Path | None = None
    """COCO's annotation file of the same images."""


def find(folder: Path) -> Found | None:
    """The folder of maps of each split."""
    splits: dict[str, Place] = {}
    for candidates in (_coco_2017(folder), _prepared_10k(folder), _original_10k(folder)):
        for split, place in candidates:
            splits.setdefault(split, place)
    if not splits:
        return None
    layered = all(place.objects is not None for place in splits.values())
    return Found(TASKS if layered else SEMANTIC_ONLY, splits)


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: What becomes of faults; the unlabelled value is the release's own.

    Raises:
        ValueError: Images and maps do not pair, or the file of objects is wrong.
        FileNotFoundError: A listed image is missing.
    """
    place: Place = found.splits[split]
    problems = reading.problems
    classes = class_table(TABLE)
    images = files_by_stem(place.images, IMAGE_SUFFIXES)
    maps = _maps_by_stem(place)
    if place.listed_in is not None:
        names = list(dict.fromkeys(read_lines(place.listed_in)))
        images = _select(images, names, place, problems)
        maps = {name: maps[name] for name in names if name in maps}
    pairs = pair_by_name(images, maps, place.maps, problems)
    if place.objects is None:
        records = PackedRecords(
            Record(_image_id(name), image, (str(path), place.coding, None))
            for name, (image, path) in pairs.items()
        )
    else:
        records = PackedRecords(_layered_records(pairs, images, place, classes, problems))
    notes = (
        f"Maps hold the {place.coding} of COCO-Stuff's classes; pixel value "
        f"{UNLABELLED[place.coding]} is ignored.",
    )
    if place.objects is not None:
        notes += (f"Objects are those of {place.objects.name}, classes of pixels those of maps.",)
    tasks = SEMANTIC_ONLY if place.objects is None else TASKS
    return Dataset(FORMAT.name, folder, split, classes, tasks, records, decode, notes)


def decode(record: Record) -> SegmentMap | Layered:
    """A class per pixel and, where they are annotated, the objects.

    Raises:
        FileNotFoundError: There is no such map.
        ValueError: The map is damaged, or has a value that is no class.
    """
    name, coding, objects = record.annotation
    path = Path(name)
    semantic = read_map(path, coding)
    if objects is None:
        return semantic
    if semantic.ids.shape != (record.height, record.width):
        raise ValueError(
            f"map {path} has size (h, w) = {semantic.ids.shape} but the file of objects gives "
            f"{(record.height, record.width)} for its image; restore the one that is wrong"
        )
    instances = decode_objects(
        Record(record.image_id, record.image, objects, record.height, record.width)
    )
    return Layered(instances, semantic)


def _coco_2017(folder: Path) -> Iterator[tuple[str, Place]]:
    """Maps of the release, or prepared ones, in `stuffthingmaps` or in `annotations` itself."""
    for parent in (folder / "stuffthingmaps", folder / "annotations"):
        for maps in folders_in(parent):
            first = first_file(maps, PNG) if COCO_SPLIT.fullmatch(maps.name) else None
            if first is None or not COCO_NAME.fullmatch(first.stem):
                continue
            if parent.name == "annotations" and find_class_list(folder) is not None:
                continue  # maps of other classes
            images = [folder / maps.name, folder / "images" / maps.name]
            there = next((i for i in images if first_file(i, IMAGE_SUFFIXES)), images[0])
            objects = folder / "annotations" / f"instances_{maps.name}.json"
            # the scripts that prepare maps write them beside those of the release
            is_raw = is_file(maps / f"{first.stem.removesuffix(PREPARED_ENDING)}.png")
            yield (
                split_of(maps.name),
                Place(
                    images=there,
                    maps=maps,
                    coding="category id - 1" if is_raw else "place",
                    ending="" if is_raw else PREPARED_ENDING,
                    objects=objects if is_file(objects) else None,
                ),
            )


def _prepared_10k(folder: Path) -> Iterator[tuple[str, Place]]:
    """As detectron2 prepares COCO-Stuff 10k."""
    for split in ("train", "test"):
        images, maps = (
            folder / "images_detectron2" / split,
            folder / "annotations_detectron2" / split,
        )
        if first_file(images, IMAGE_SUFFIXES) and first_file(maps, PNG):
            yield split, Place(images, maps, "place")


def _original_10k(folder: Path) -> Iterator[tuple[str, Place]]:
    """The release of COCO-Stuff 10k."""
    images, maps = folder / "images", folder / "annotations"
    if first_file(maps, MATLAB) is None:
        return
    for split in ("train", "test"):
        listed_in = folder / "imageLists" / f"{split}.txt"
        if is_file(listed_in):
            yield split, Place(images, maps, "category id", listed_in=listed_in)


def _maps_by_stem(place: Place) -> dict[str, Path]:
    """By the name of the image."""
    files = files_by_stem(place.maps, MATLAB if place.coding == "category id" else PNG)
    if place.ending:
        files = {name: path for name, path in files.items() if name.endswith(place.ending)}
    else:
        files = {n: path for n, path in files.items() if not n.endswith(PREPARED_ENDING)}
    return {name.removesuffix(place.ending): path for name, path in files.items()}


def _select(
    images: dict[str, Path], names: list[str], place: Place, problems: Problems
) -> dict[str, Path]:
    """The listed images; each one missing is told."""
    for name in names:
        if name not in images:
            problems.error(
                "missing image",
                f"{name} of {place.listed_in} is not in {place.images}; add the image or take the "
                f"line out",
                file=place.listed_in,
                image_id=name,
            )
    return {name: images[name] for name in names if name in images}


def _layered_records(
    pairs: dict[str, tuple[Path, Path]],
    images_there: dict[str, Path],
    place: Place,
    classes: Classes,
    problems: Problems,
) -> Iterator[Record]:
    """A record for each image that has a map and is in the file of objects."""
    path = place.objects
    assert path is not None
    content = read_coco_json(path)
    _check_categories(content["categories"], classes, path)
    images = images_by_id(content, path, problems)
    objects = read_objects(content["annotations"], images, classes, path, problems)
    ids = {Path(image["file_name"]).stem: image_id for image_id, image in images.items()}
    for name in [name for name in ids if name not in images_there]:
        problems.error(
            "missing image",
            f"{name} is not in {place.images}, but {path} names it; add the image or take it out "
            f"of {path.name}",
            file=path,
            image_id=ids[name],
        )
    for name, (image, map_path) in pairs.items():
        if name not in ids:
            problems.error(
                "image without annotation",
                f"{image} has a map but is not in {path}; add it there or take it out",
                file=path,
                image_id=name,
            )
            continue
        image_id = ids[name]
        items: tuple[PackedObject, ...] = tuple(objects[image_id])
        yield Record(
            image_id=image_id,
            image=image,
            annotation=(str(map_path), place.coding, items),
            height=int(images[image_id]["height"]),
            width=int(images[image_id]["width"]),
            num_objects=sum(not item[2] for item in items),
        )


def _check_categories(categories: list[dict], classes: Classes, path: Path) -> None:
    names = dict(zip(classes.category_ids, classes.names, strict=True))
    for category in categories:
        category_id, name = category.get("id", 0), category.get("name")
        if names.get(category_id) != name:
            raise ValueError(
                f"{path}: category {category_id} is {name!r}, but in COCO-Stuff "
                f"{names.get(category_id)!r}; the objects are of another data set than the maps, "
                f"so put them into a folder of their own"
            )


def _image_id(name: str) -> int | str:
    """COCO's id of an image, where its name is the id."""
    return int(name) if name.isdigit() else name


FORMAT = Format(
    name="coco-stuff",
    layouts=(
        "stuffthingmaps/{split}2017",
        "annotations/{split}2017/*.png",
        "images_detectron2/{split} + annotations_detectron2/{split}",
        "imageLists/{split}.txt + annotations/*.mat",
    ),
    find=find,
    read=read,
)
