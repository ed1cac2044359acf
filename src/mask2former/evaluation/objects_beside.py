"""The objects of COCO's panoptic images, as the instance annotations beside them have them."""

from pathlib import Path
from typing import NamedTuple

from mask2former.data.dataset import Record, TaskDataset
from mask2former.data.formats import coco_instance
from mask2former.data.formats.coco_json import agreed_categories, images_by_id, read_coco_json
from mask2former.data.formats.coco_masks import PackedObject
from mask2former.data.formats.listing import first_few
from mask2former.data.problems import Problem, Problems
from mask2former.data.records import PackedRecords
from mask2former.evaluation.truth import ScoredImages
from mask2former.types import Classes


class FoundObjects(NamedTuple):
    """Objects of all images of a data set."""

    dataset: TaskDataset
    """The same images in the same order, annotated for instance segmentation."""
    splits: tuple[str, ...]
    """Of the instance annotations that they are from."""


def find_objects(folder: Path, images: ScoredImages) -> FoundObjects | None:
    """Look for the images in the instance annotations of a folder, by their ids.

    The split of the same name comes first; others are read only where images are missing from it.
    The image files are not looked for, and the objects of other images not looked at.

    Args:
        folder: Of the data set.
        images: Of COCO's panoptic annotations, with things.

    Returns:
        None: there are no instance annotations.

    Raises:
        FileNotFoundError: A file is gone.
        ValueError: They lack an image, have other classes than the things, or are damaged.
    """
    found = coco_instance.find(folder)
    if found is None:
        return None
    derived = images.datasets["instance"]
    wanted = {record.image_id: record for record in images.main.records}
    objects: dict[int | str, list[PackedObject]] = {}
    used = []
    for split in sorted(found.splits, key=lambda name: name != images.main.split):
        missing = {i: record for i, record in wanted.items() if i not in objects}
        new = _read(found.splits[split], missing, derived.classes) if missing else {}
        objects |= new
        used += [split] if new else []
    missing = [image_id for image_id in wanted if image_id not in objects]
    if missing:
        raise ValueError(
            f"{' and '.join(str(path) for path in found.splits.values())} list {len(objects)} of "
            f"the {len(wanted)} images; missing are {first_few(missing)}"
        )
    records = PackedRecords(
        _record(record, objects[image_id]) for image_id, record in wanted.items()
    )
    dataset = TaskDataset(
        coco_instance.FORMAT.name,
        derived.folder,
        derived.split,
        derived.classes,
        ("instance",),
        records,
        coco_instance.decode,
    )
    return FoundObjects(dataset, tuple(used))


class _RaisesAll(Problems):
    """An object that is left out would be missed by the metrics, not by the model."""

    def take(self, problem: Problem) -> None:
        if problem.is_error:
            raise ValueError(problem.message)


def _read(
    path: Path, wanted: dict[int | str, Record], things: Classes
) -> dict[int | str, list[PackedObject]]:
    """The objects of those of the images that a file lists."""
    content = read_coco_json(path)
    in_file = [i for i in content["images"] if isinstance(i, dict) and _id(i, "id") in wanted]
    if not in_file:
        return {}
    listed = images_by_id({"images": in_file}, path, _RaisesAll())
    for image_id, image in listed.items():
        size = wanted[image_id].height, wanted[image_id].width
        if (int(image["height"]), int(image["width"])) != size:
            raise ValueError(
                f"{path} has size (h, w) = {(image['height'], image['width'])} for image "
                f"{image_id!r}, which the panoptic annotations have as {size}"
            )
    annotations = [
        entry
        for entry in content["annotations"]
        if isinstance(entry, dict) and _id(entry, "image_id") in listed
    ]
    classes = _as_in_file(path, things)
    objects = coco_instance.read_objects(annotations, listed, classes, path, _RaisesAll())
    return {image_id: objects[image_id] for image_id in listed}


def _as_in_file(path: Path, things: Classes) -> Classes:
    """The things in their own order, with the category ids that they have in a file."""
    categories = [
        (str(category["name"]), category["id"]) for category in agreed_categories({"": path})
    ]
    own = list(zip(things.names, things.category_ids, strict=True))
    if set(categories) == set(own):
        return things
    names = [name for name, _ in categories]
    if sorted(names) == sorted(things.names) and len(set(names)) == len(names):
        category_ids = dict(categories)
        return Classes(things.names, tuple(category_ids[n] for n in things.names), things.is_thing)
    differing = sorted(set(names) ^ set(things.names)) or sorted(names)
    raise ValueError(
        f"{path} has other classes than the things of the panoptic annotations: one of the two "
        f"lacks {first_few(differing)}"
    )


def _id(entry: dict, key: str) -> int | str | None:
    image_id = entry.get(key)
    return image_id if isinstance(image_id, int | str) else None


def _record(record: Record, objects: list[PackedObject]) -> Record:
    return Record(
        record.image_id,
        record.image,
        tuple(objects),
        record.height,
        record.width,
        num_objects=sum(not is_crowd for _, _, is_crowd, *_ in objects),
    )
