"""Classes per pixel that were predicted elsewhere: PNGs, or detectron2's list of masks."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image

from mask2former.data.dataset import Record
from mask2former.data.formats.listing import PNG, files_below, first_few
from mask2former.data.images import read_label_map
from mask2former.evaluation.given.classes import (
    MEND,
    Numbering,
    choose_numbering,
    listed_classes,
)
from mask2former.evaluation.given.image_names import GivenImages, name_of
from mask2former.evaluation.given.json_lists import iterate_list
from mask2former.evaluation.given.reader import ResultsReader
from mask2former.masks.rle import canonical_rle, decode_rle
from mask2former.tasks import Task
from mask2former.types import Classes, SemanticResult

NO_CLASS = -1


class GivenMaps(ResultsReader):
    """Reads PNGs with one channel, named as the images are; in the folder or below.

    Values are explained by `classes.json` in the folder or beside it, which our own results have.
    Without it they are category ids of the data set, or one of the other numberings that tools use
    (`given.classes.numberings`): which one is told by the values, and noted. Pixels of 255, and of
    0 where classes count from 1, have nothing predicted: they are wrong wherever a class is true,
    and a note counts them. Other values that no class has are refused.
    """

    tasks: tuple[Task, ...] = ("semantic",)

    def __init__(self, folder: Path, classes: Classes) -> None:
        """List the PNGs, and read some of them if need be, to tell what their values mean.

        Args:
            folder: Of the PNGs.
            classes: Of the data set.

        Raises:
            ValueError: There are none, or their values are no classes of the data set or may be
                several.
        """
        self.folder = folder
        self.images = GivenImages(str(folder))
        self._paths: dict[str, Path] = {}
        for path in files_below(folder, PNG):
            name = path.relative_to(folder).with_suffix("").as_posix()
            self._paths[self.images.add_name(name)] = path
        if not self._paths:
            raise ValueError(f"no PNG lies in {folder}; give the folder of the results")
        _check_grey(next(iter(self._paths.values())), folder)
        self.classes, numbering = self._read_numbering(classes)
        self._told = (numbering.reason,) if numbering.reason else ()
        self.notes = self._told
        self._numbering = numbering
        self._table = _table(numbering, len(self.classes))
        self._without_class = Counter[int]()

    def find(self, record: Record, height: int, width: int) -> Mapping[Task, SemanticResult]:
        """The map of an image.

        Raises:
            ValueError: There is none, or it is damaged, of another size, or has a value of no
                class.
        """
        path = self._paths[self.images.require(record)]
        values = read_label_map(path)
        if values.shape != (height, width):
            raise ValueError(
                f"{path} has size (h, w) = {values.shape} but image {record.image} "
                f"{(height, width)}; save the result at the size of the image"
            )
        values = values.astype(np.int64)
        is_known = (values >= 0) & (values < len(self._table))
        labels = np.where(is_known, self._table[np.where(is_known, values, 0)], NO_CLASS)
        if (labels == NO_CLASS).any():
            wrong = np.unique(values[labels == NO_CLASS]).tolist()
            raise ValueError(
                f"{path} has value {first_few(wrong)}, which is no class: values are "
                f"{self._numbering.describe()}; {MEND}"
            )
        self._count_nothing(values[labels == len(self.classes)])
        return {"semantic": SemanticResult(torch.from_numpy(labels))}

    def _count_nothing(self, values: Int64[np.ndarray, " pixels"]) -> None:
        """Note how many pixels have nothing predicted."""
        if not len(values):
            return
        self._without_class.update(dict(enumerate(np.bincount(values).tolist())))
        counts = {value: count for value, count in self._without_class.items() if count}
        parts = [
            f"{count:,} {'pixel has' if count == 1 else 'pixels have'} the value {value}"
            for value, count in counts.items()
        ]
        self.notes = (
            *self._told,
            f"{self.folder}: {' and '.join(parts)}, which is no class: wrong wherever a class "
            f"is true",
        )

    def _read_numbering(self, classes: Classes) -> tuple[Classes, Numbering]:
        listed = listed_classes(self.folder, classes)
        if listed is not None:
            return listed
        return classes, choose_numbering(classes, self._values(), str(self.folder))

    def _values(self) -> Iterator[tuple[str, list[int]]]:
        for path in self._paths.values():
            values = read_label_map(path).ravel()
            counts = np.bincount(values) if values.min(initial=0) >= 0 else None
            found = np.unique(values) if counts is None else np.flatnonzero(counts)
            yield str(path), found.tolist()


class GivenMasks(ResultsReader):
    """Reads a list of `{file_name, category_id, segmentation}`, one mask a class of an image.

    `file_name` is the path of the image where the results were made. Together the masks of an
    image cover it, without overlap.

    Source:
        detectron2 `SemSegEvaluator`, `sem_seg_predictions.json`.
    """

    tasks: tuple[Task, ...] = ("semantic",)

    def __init__(self, path: Path, classes: Classes) -> None:
        """Read the list, entry by entry.

        Args:
            path: Of the JSON file.
            classes: Of the data set.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, or its category ids are no classes of the data set or may be
                several.
        """
        self.path = path
        self.classes = classes
        self.images = GivenImages(str(path))
        self._masks: dict[str, list[tuple[int, dict]]] = {}
        by_file: dict[str, list[tuple[int, dict]]] = {}
        for number, entry in enumerate(iterate_list(path), start=1):
            file_name, value, rle = _read_mask(entry, f"{path}: entry {number}")
            by_file.setdefault(file_name, []).append((value, rle))
        for file_name, masks in by_file.items():
            self._masks.setdefault(self.images.add_name(name_of(file_name)), []).extend(masks)
        found = {value for masks in self._masks.values() for value, _ in masks}
        self._numbering = choose_numbering(classes, [(str(path), found)], str(path))
        if not found <= self._numbering.class_ids.keys():
            wrong = first_few(sorted(found - self._numbering.class_ids.keys()))
            raise ValueError(
                f"{path} has the category ids {wrong}, which the data set lacks; it has "
                f"{self._numbering.describe()}: number the results by these, or give the data set "
                f"that they are of"
            )
        self.notes = (self._numbering.reason,) if self._numbering.reason else ()

    def find(self, record: Record, height: int, width: int) -> Mapping[Task, SemanticResult]:
        """The map of an image.

        Raises:
            ValueError: There is none, or masks are damaged, of another size, overlap, or leave
                pixels without a class.
        """
        entry = self.images.require(record)
        where = f"{self.path}: {entry}"
        labels = np.full((height, width), NO_CLASS, np.int64)
        for value, rle in self._masks[entry]:
            try:
                mask = decode_rle(canonical_rle(rle, height, width))
            except ValueError as error:
                raise ValueError(f"{where}, category {value}: {error}") from error
            _paint(labels, mask, self._numbering.class_ids[value], where)
        if (labels == NO_CLASS).any():
            raise ValueError(
                f"{where}: {(labels == NO_CLASS).sum()} pixels are of no class; a result has a "
                f"class everywhere: write it anew"
            )
        return {"semantic": SemanticResult(torch.from_numpy(labels))}


def _check_grey(path: Path, folder: Path) -> None:
    """Refuse PNGs in colour, as panoptic ones are."""
    try:
        with Image.open(path) as image:
            mode = image.mode
    except (OSError, SyntaxError):  # damaged: told where it is read
        return
    if mode in ("RGB", "RGBA"):
        raise ValueError(
            f"{path} has colours, as panoptic PNGs have, whose segments are listed in a JSON file: "
            f"give that file (panoptic.json) instead of {folder}; a class per pixel is a number, "
            f"in a PNG of one channel"
        )


def _table(numbering: Numbering, num_classes: int) -> Int64[np.ndarray, " values"]:
    """Class id by value; the number of classes where nothing was predicted."""
    table = np.full(max(*numbering.class_ids, *numbering.nothing, 0) + 1, NO_CLASS, np.int64)
    table[list(numbering.nothing)] = num_classes
    table[list(numbering.class_ids)] = list(numbering.class_ids.values())
    return table


def _read_mask(entry: Any, where: str) -> tuple[str, int, dict]:
    try:
        file_name, value = entry["file_name"], entry["category_id"]
        size = [int(length) for length in entry["segmentation"]["size"]]
        rle = {"size": size, "counts": entry["segmentation"]["counts"]}
        if not isinstance(file_name, str) or type(value) is not int:
            raise TypeError(f"file_name {file_name!r}, category_id {value!r}")
        if isinstance(rle["counts"], str):
            rle["counts"] = rle["counts"].encode("ascii")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} is no mask of a class ({type(error).__name__}: {error}); an entry has "
            f"file_name, category_id and a run-length encoding as segmentation"
        ) from error
    return file_name, value, rle


def _paint(labels: Int64[np.ndarray, "h w"], mask: np.ndarray, class_id: int, where: str) -> None:
    if (labels[mask] != NO_CLASS).any():
        raise ValueError(
            f"{where}: masks of several classes cover the same pixels; a pixel has one class: "
            f"write the results anew"
        )
    labels[mask] = class_id
