"""Classes per pixel that were predicted elsewhere: PNGs, or detectron2's list of masks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from mask2former.data.dataset import Record
from mask2former.data.formats.listing import PNG, files_below, first_few
from mask2former.data.images import read_label_map
from mask2former.evaluation.given_classes import (
    MEND,
    Numbering,
    choose_numbering,
    listed_classes,
)
from mask2former.evaluation.given_images import GivenImages, stem
from mask2former.evaluation.given_json import iterate_list
from mask2former.masks.rle import canonical_rle, decode_rle
from mask2former.tasks import Task
from mask2former.types import Classes, SemanticResult

NO_CLASS = -1


class GivenMaps:
    """Reads PNGs with one channel, named as the images are; in the folder or below.

    Values are explained by `classes.json` in the folder or beside it, which our own results have.
    Without it they are category ids of the data set, or one of the other numberings that tools use
    (`given_classes.numberings`): which one is told by the values, and noted. Values that no class
    has are refused, 255 like others: a result has a class everywhere.
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
        self.classes, numbering = self._read_numbering(classes)
        self.notes: tuple[str, ...] = (numbering.reason,) if numbering.reason else ()
        self._numbering = numbering
        self._table = _table(numbering)

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
            told = f" ({self._numbering.reason})" if self._numbering.reason else ""
            raise ValueError(
                f"{path} has value {first_few(wrong)}, which is no class: values are "
                f"{self._numbering.describe()}{told}; {MEND}"
            )
        return {"semantic": SemanticResult(torch.from_numpy(labels))}

    def unused(self) -> list[str]:
        """PNGs that were never asked for."""
        return self.images.unused()

    def _read_numbering(self, classes: Classes) -> tuple[Classes, Numbering]:
        listed = listed_classes(self.folder, classes)
        if listed is not None:
            return listed
        return classes, choose_numbering(classes, self._values(), str(self.folder))

    def _values(self) -> Iterator[tuple[str, list[int]]]:
        for path in self._paths.values():
            yield str(path), np.unique(read_label_map(path)).tolist()


class GivenMasks:
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
            folder = file_name.replace("\\", "/").rpartition("/")[0]
            name = f"{folder}/{stem(file_name)}" if folder else stem(file_name)
            self._masks.setdefault(self.images.add_name(name), []).extend(masks)
        found = {value for masks in self._masks.values() for value, _ in masks}
        self._numbering = choose_numbering(classes, [(str(path), found)], str(path))
        if not found <= self._numbering.class_ids.keys():
            wrong = first_few(sorted(found - self._numbering.class_ids.keys()))
            raise ValueError(
                f"{path} has the category ids {wrong}, which the data set lacks; it has "
                f"{self._numbering.describe()}"
            )
        self.notes: tuple[str, ...] = (self._numbering.reason,) if self._numbering.reason else ()

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
            except (ValueError, IndexError) as error:
                raise ValueError(f"{where}, category {value}: {error}") from error
            _paint(labels, mask, self._numbering.class_ids[value], where)
        if (labels == NO_CLASS).any():
            raise ValueError(
                f"{where}: {(labels == NO_CLASS).sum()} pixels are of no class; a result has a "
                f"class everywhere: write it anew"
            )
        return {"semantic": SemanticResult(torch.from_numpy(labels))}

    def unused(self) -> list[str]:
        """Images of the file that were never asked for."""
        return self.images.unused()


def _table(numbering: Numbering) -> Int64[np.ndarray, " values"]:
    """Class id by value."""
    table = np.full(max(numbering.class_ids) + 1, NO_CLASS, np.int64)
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
