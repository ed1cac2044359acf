"""Objects found elsewhere, as a list in COCO's results format."""

import math
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.data.annotations import Box
from mask2former.data.dataset import Record
from mask2former.data.formats.coco_masks import known_box
from mask2former.data.formats.listing import first_few
from mask2former.evaluation.given.image_names import GivenImages, name_of
from mask2former.evaluation.given.json_lists import iterate_list
from mask2former.evaluation.given.reader import ResultsReader
from mask2former.masks.polygons import Polygons, polygons_to_rle
from mask2former.masks.rle import canonical_rle, rle_area, rle_box
from mask2former.tasks import Task
from mask2former.types import Classes, InstanceResult, Segment

SMALLEST_POLYGON = 6
"""Coordinates: three points."""
NO_BOX = (math.nan,) * 4


class GivenObjects(ResultsReader):
    """Reads a list of `{image_id, category_id, segmentation, score}`, with or without `bbox`.

    `segmentation` is a run-length encoding, compressed or not, or polygons. Areas are those of the
    masks, and so are boxes where the file has none, or only zeros. What else an object has is not
    read, but for `file_name`: where it is there, it names the image, and `image_id` may be left
    out. Images that nothing was found in have no entry; an empty list is of none that has.
    """

    tasks: tuple[Task, ...] = ("instance",)
    may_lack_images = True

    def __init__(self, path: Path, classes: Classes) -> None:
        """Read the list, entry by entry; only what is scored stays in memory.

        Args:
            path: Of the JSON file.
            classes: What its category ids are of.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, or an entry is no object that was found.
        """
        self.path = path
        self.classes = classes
        self.images = GivenImages(str(path))
        self._found: dict[str, _Objects] = {}
        self._names: set[str] = set()
        class_ids = classes.class_id_by_category()
        unknown: dict[int, None] = {}
        for number, entry in enumerate(iterate_list(path), start=1):
            try:
                self._add(entry, class_ids, unknown)
            except ValueError as error:
                raise ValueError(f"{path}: entry {number}{_image_of(entry)} {error}") from error
        if unknown:
            raise ValueError(
                f"{path} has the category ids {first_few(sorted(unknown))}, which the data set "
                f"lacks; it has {first_few(sorted(class_ids))}: number the results by these, or "
                f"give the data set that they are of"
            )

    def find(self, record: Record, height: int, width: int) -> Mapping[Task, InstanceResult]:
        """The objects of an image, the best first; equal scores in the order of the file.

        Raises:
            ValueError: A mask is of another size, or damaged.
        """
        entry = self.images.find(record)
        if entry is None:
            return {"instance": InstanceResult(height, width, [], [])}
        objects = self._found[entry]
        order = sorted(range(len(objects)), key=lambda i: -objects.scores[i])
        rles, segments = [], []
        for position, i in enumerate(order):
            try:
                rle = objects.rle(i, height, width)
            except ValueError as error:
                raise ValueError(f"{self.path}: object {i + 1} of {entry}: {error}") from error
            rles.append(rle)
            score, class_id = objects.scores[i], objects.class_ids[i]
            box = objects.box(i) or rle_box(rle)
            segments.append(Segment(position, class_id, score, rle_area(rle), box))
        return {"instance": InstanceResult(height, width, rles, segments)}

    def _add(self, entry: Any, class_ids: Mapping[int, int], unknown: dict[int, None]) -> None:
        _check_keys(entry)
        score = entry["score"]
        if type(score) not in (int, float) or not math.isfinite(score):
            raise ValueError(f"has the score {score!r}; a finite number is expected")
        category_id = entry["category_id"]
        if type(category_id) is not int:
            raise ValueError(f"has the category_id {category_id!r}; a whole number is expected")
        class_id = class_ids.get(category_id)
        if class_id is None:
            unknown[category_id] = None
            return
        file_name = entry.get("file_name")
        file_name = file_name if isinstance(file_name, str) and file_name else None
        if entry.get("image_id") is None and file_name is not None:
            image = self._add_name(file_name)
        else:
            image = self.images.add_id(image_id_of(entry), file_name)
        objects = self._found.get(image)
        if objects is None:
            objects = self._found[image] = _Objects()
        box = known_box(entry.get("bbox"))
        objects.add(class_id, float(score), entry["segmentation"], box)

    def _add_name(self, file_name: str) -> str:
        name = name_of(file_name)
        if name not in self._names:
            self._names.add(name)
            self.images.add_name(name)
        return name


class _Objects:
    """What was found in an image; one array for all objects of each kind of value."""

    def __init__(self) -> None:
        self.class_ids = array("i")
        self.scores = array("d")
        self._boxes = array("d")
        """Four numbers each; NaN where there is none."""
        self._sizes: list[tuple[int, int]] = []
        """(height, width) that masks were encoded at; mostly one."""
        self._size_ids = array("i")
        self._ends = array("q")
        self._counts = bytearray()
        self._polygons: dict[int, Polygons] = {}

    def __len__(self) -> int:
        return len(self.scores)

    def add(self, class_id: int, score: float, segmentation: Any, box: Box | None) -> None:
        size = None
        if isinstance(segmentation, list):
            self._polygons[len(self)] = _read_polygons(segmentation)
        else:
            size, counts = _read_rle(segmentation)
            self._counts += counts
            if size not in self._sizes:
                self._sizes.append(size)
        self._size_ids.append(-1 if size is None else self._sizes.index(size))
        self._ends.append(len(self._counts))
        self.class_ids.append(class_id)
        self.scores.append(score)
        self._boxes.extend(box or NO_BOX)

    def box(self, i: int) -> Box | None:
        x, y, width, height = self._boxes[4 * i : 4 * i + 4]
        return None if math.isnan(x) else (x, y, width, height)

    def rle(self, i: int, height: int, width: int) -> dict:
        if i in self._polygons:
            return polygons_to_rle(self._polygons[i], height, width)
        counts = self._counts[self._ends[i - 1] if i else 0 : self._ends[i]]
        rle = {"size": self._sizes[self._size_ids[i]], "counts": bytes(counts)}
        return canonical_rle(rle, height, width)


def image_id_of(entry: Mapping[str, Any]) -> int | str:
    """The image id of an entry of a result file.

    Raises:
        ValueError: It is neither a whole number nor a text.
    """
    image_id = entry.get("image_id")
    if isinstance(image_id, float) and image_id.is_integer():
        return int(image_id)
    if isinstance(image_id, bool) or not isinstance(image_id, int | str):
        raise ValueError(f"has the image_id {image_id!r}; a number or a text is expected")
    return image_id


def _check_keys(entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ValueError("is no JSON object; results are {image_id, category_id, ...}")
    if "score" not in entry:
        raise ValueError(
            "has no 'score'; annotations are no results: give what a model found, with how sure "
            "it was"
        )
    if "segmentation" not in entry:
        raise ValueError("has no 'segmentation'; masks are scored, boxes alone are not enough")
    if "image_id" not in entry and "file_name" not in entry:
        raise ValueError(
            "has no 'image_id' and no 'file_name'; results have one of them, category_id and score"
        )
    if "category_id" not in entry:
        raise ValueError("has no 'category_id'; results have image_id, category_id and score")


def _image_of(entry: Any) -> str:
    if not isinstance(entry, dict):
        return ""
    names = {"image id": entry.get("image_id"), "image": entry.get("file_name")}
    return next((f" ({kind} {name!r})" for kind, name in names.items() if name is not None), "")


def _read_rle(segmentation: Any) -> tuple[tuple[int, int], bytes]:
    """(height, width) in pixels and compressed counts."""
    if segmentation is None:
        raise ValueError("has the segmentation null; give its mask, or leave the object out")
    try:
        height, width = (int(length) for length in segmentation["size"])
        counts = segmentation["counts"]
        if isinstance(counts, str):
            return (height, width), counts.encode("ascii")
        negative = [run for run in counts if run < 0]
        if negative:
            raise ValueError(f"has a run of {negative[0]} pixels in its mask; runs are 0 or more")
        rle = canonical_rle({"size": (height, width), "counts": list(counts)}, height, width)
    except (TypeError, KeyError, UnicodeEncodeError, OverflowError) as error:
        raise ValueError(
            f"has a segmentation that is neither polygons nor a run-length encoding with 'size' "
            f"(height, width) and 'counts' ({type(error).__name__}: {error})"
        ) from error
    return (height, width), rle["counts"]


def _read_polygons(segmentation: list) -> Polygons:
    try:
        parts = [np.asarray(part, np.float64) for part in segmentation]
    except (TypeError, ValueError) as error:
        raise ValueError(f"has polygons that are no lists of numbers ({error})") from error
    if not parts or any(p.ndim != 1 or p.size < SMALLEST_POLYGON or p.size % 2 for p in parts):
        raise ValueError(
            f"has a polygon that is no list [x, y, x, y, ...] of at least {SMALLEST_POLYGON} "
            f"numbers; correct it or leave the object out"
        )
    if not all(np.isfinite(part).all() for part in parts):
        raise ValueError("has a polygon with a coordinate that is no finite number; correct it")
    return [part.reshape(-1, 2) for part in parts]
