"""Panoptic results made elsewhere: a JSON file with a list of segments, and a PNG an image."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int32
from scipy.ndimage import find_objects

from mask2former.data.dataset import Record
from mask2former.data.formats.listing import first_few, is_file
from mask2former.data.formats.text_files import read_json_object
from mask2former.data.images import read_panoptic_ids
from mask2former.evaluation.given.classes import agreed_classes, classes_of_categories
from mask2former.evaluation.given.coco import image_id_of
from mask2former.evaluation.given.image_names import GivenImages, stem
from mask2former.evaluation.given.reader import ResultsReader
from mask2former.masks.id_maps import MAX_ID, compact_ids
from mask2former.tasks import Task
from mask2former.types import Classes, PanopticResult, Segment


class GivenSegment(NamedTuple):
    """An entry of `segments_info`; area and box are those of the pixels."""

    id: int
    class_id: int
    score: float


class GivenImage(NamedTuple):
    """An entry of `annotations`."""

    png: Path
    segments: tuple[GivenSegment, ...]


class GivenPanoptic(ResultsReader):
    """Reads `{"annotations": [{image_id, file_name, segments_info: [{id, category_id}]}]}`.

    The PNGs lie in a folder of the file's name beside it, in `panoptic/`, or beside the file.
    Their colours are ids: red + 256 green + 65536 blue, 0 where no segment is.
    """

    tasks: tuple[Task, ...] = ("panoptic",)

    def __init__(self, path: Path, classes: Classes) -> None:
        """Read the list; the PNGs are read when they are asked for.

        Args:
            path: Of the JSON file.
            classes: Of the data set. Where the file has categories with other ids, those count.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged or empty, an entry is wrong, or a PNG is missing.
        """
        self.path = path
        self.images = GivenImages(str(path))
        content = read_json_object(path)
        annotations = content.get("annotations")
        if not isinstance(annotations, list) or not annotations:
            raise ValueError(
                f"{path} has no 'annotations'; panoptic results have one for each image, with "
                f"image_id, file_name and segments_info"
            )
        self.classes = agreed_classes(classes_of_categories(content.get("categories")), classes)
        class_ids = self.classes.class_id_by_category()
        self.are_annotations = "categories" in content and not _has_score(annotations)
        names = _image_names(content.get("images"))
        self._entries: dict[str, GivenImage] = {}
        folders = list(dict.fromkeys([path.with_suffix(""), path.parent / "panoptic", path.parent]))
        for number, annotation in enumerate(annotations, start=1):
            try:
                self._add(annotation, names, class_ids, folders)
            except ValueError as error:
                raise ValueError(f"{path}: annotation {number} {error}") from error

    def find(self, record: Record, height: int, width: int) -> Mapping[Task, PanopticResult]:
        """The segments of an image, in the order of the file.

        Raises:
            ValueError: There are none, or the PNG is damaged, of another size, or has other
                segments than the JSON file lists.
        """
        entry = self._entries[self.images.require(record)]
        ids = read_panoptic_ids(entry.png)
        if ids.shape != (height, width):
            raise ValueError(
                f"panoptic PNG {entry.png} has size (h, w) = {ids.shape} but image {record.image} "
                f"{(height, width)}; save the result at the size of the image"
            )
        segments = _measure(ids, entry, self.path)
        return {"panoptic": PanopticResult(torch.from_numpy(ids.astype(np.int64)), segments)}

    def _add(
        self,
        annotation: Any,
        names: Mapping[int | str, str],
        class_ids: Mapping[int, int],
        folders: Sequence[Path],
    ) -> None:
        for key, kind in (("image_id", object), ("file_name", str), ("segments_info", list)):
            if not isinstance(annotation, dict) or not isinstance(annotation.get(key), kind):
                raise ValueError(
                    "is no panoptic one, which has image_id, file_name and a list segments_info"
                )
        image_id, file_name = image_id_of(annotation), annotation["file_name"]
        image = self.images.add_id(image_id, names.get(image_id))
        if image in self._entries:
            raise ValueError(f"is for {image}, as an earlier one is; keep one of them")
        if image_id not in names:
            self.images.add_alias(image, stem(file_name))
        png = next((folder / file_name for folder in folders if is_file(folder / file_name)), None)
        if png is None:
            places = ", ".join(map(str, folders))
            raise ValueError(
                f"({image}) has the PNG {file_name}, which is in none of {places}; put it there"
            )
        try:
            segments = _read_segments(annotation["segments_info"], class_ids)
        except ValueError as error:
            raise ValueError(f"({image}, {file_name}) {error}") from error
        self._entries[image] = GivenImage(png, segments)


def _has_score(annotations: Sequence[Any]) -> bool:
    """Whether a segment has one, as those of models often have, and annotations never."""
    return any(
        isinstance(segment, dict) and "score" in segment
        for annotation in annotations
        if isinstance(annotation, dict) and isinstance(annotation.get("segments_info"), list)
        for segment in annotation["segments_info"]
    )


def _image_names(images: Any) -> dict[int | str, str]:
    """File name by image id, where the file has a list of images."""
    entries = images if isinstance(images, list) else []
    return {
        entry["id"]: entry["file_name"]
        for entry in entries
        if isinstance(entry, dict)
        and isinstance(entry.get("id"), int | str)
        and isinstance(entry.get("file_name"), str)
    }


def _read_segments(
    segments_info: list[Any], class_ids: Mapping[int, int]
) -> tuple[GivenSegment, ...]:
    segments: dict[int, GivenSegment] = {}
    for segment in segments_info:
        entry = segment if isinstance(segment, dict) else {}
        segment_id, category_id = entry.get("id"), entry.get("category_id")
        if type(segment_id) is not int or not 0 < segment_id <= MAX_ID:
            raise ValueError(
                f"has a segment of id {segment_id!r}; ids are in 1..{MAX_ID} (0 is unlabelled)"
            )
        if type(category_id) is not int or category_id not in class_ids:
            raise ValueError(
                f"has segment {segment_id} of category {category_id!r}, which the data set lacks; "
                f"it has {first_few(sorted(class_ids))}: number the results by these, or give the "
                f"data set that they are of"
            )
        if segment_id in segments:
            raise ValueError(f"lists segment {segment_id} twice; list each once")
        score = entry.get("score", 1.0)
        if type(score) not in (int, float) or math.isnan(score):
            raise ValueError(f"has segment {segment_id} of score {score!r}; give a number, or none")
        segments[segment_id] = GivenSegment(segment_id, class_ids[category_id], float(score))
    return tuple(segments.values())


def _measure(ids: Int32[np.ndarray, "h w"], image: GivenImage, path: Path) -> list[Segment]:
    """The segments with area and box of their pixels.

    Raises:
        ValueError: The PNG has other segments than the JSON file.

    Source:
        panopticapi refuses both: segments without a pixel, and pixels of no segment.
    """
    positions = compact_ids(ids, [segment.id for segment in image.segments])
    unknown = np.unique(ids[(positions == 0) & (ids != 0)]).tolist()
    if unknown:
        raise ValueError(
            f"panoptic PNG {image.png} has the segments {first_few(unknown)}, which {path} does "
            f"not list; the two are of different results: write them together"
        )
    count = len(image.segments)
    areas = np.bincount(positions.ravel(), minlength=count + 1)[1:].tolist()
    empty = [s.id for s, area in zip(image.segments, areas, strict=True) if area == 0]
    if empty:
        raise ValueError(
            f"{path} lists the segments {first_few(empty)}, of which panoptic PNG {image.png} has "
            f"no pixel; the two are of different results: write them together"
        )
    segments = []
    places = find_objects(positions.astype(np.int32), max_label=count)
    for segment, area, (rows, columns) in zip(image.segments, areas, places, strict=True):
        x, y = float(columns.start), float(rows.start)
        box = (x, y, float(columns.stop) - x, float(rows.stop) - y)
        segments.append(Segment(segment.id, segment.class_id, segment.score, area, box))
    return segments
