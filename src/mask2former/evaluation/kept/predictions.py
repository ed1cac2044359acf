"""Predictions kept in a folder while an evaluation goes on, so that it can be interrupted."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from mask2former.data.sources import FileSlice
from mask2former.distributed import broadcast, is_main, rank, world_size
from mask2former.evaluation.kept.file import (
    PredictionsFile,
    check_header,
    offsets_by_image,
    read_image_at,
    whole_length,
)
from mask2former.evaluation.scores import Scores
from mask2former.evaluation.truth import ScoredImages
from mask2former.files import usable_folder
from mask2former.inference.segmenter import Segmenter
from mask2former.tasks import Task
from mask2former.types import Classes, Result

CHUNK = 1 << 24
"""Values of a tensor that are brought from the device at a time."""


class KeptPredictions:
    """A file for each process, in one folder; use it with `with`.

    Nobody waits for the others to have read: files only grow, so every line stays in its place.
    """

    def __init__(self, folder: Path, classes: Classes, fingerprint: Mapping[str, Any]) -> None:
        """Say whose predictions they are.

        Args:
            folder: It is made. Processes on several machines must share it.
            classes: Of the model.
            fingerprint: What must be the same for predictions to be used again; see `identity`.
        """
        self.folder = usable_folder(folder)
        path = self.folder / f"predictions-{rank()}.jsonl"
        self._file = PredictionsFile(path, classes, fingerprint)

    def score(self, images: ScoredImages, scores: Scores) -> frozenset[int]:
        """Count the predictions that are there already; several processes share them.

        Args:
            images: That are scored.
            scores: Take this process's share.

        Returns:
            The positions of all images that have a prediction.

        Raises:
            ValueError: The predictions are of something else, or damaged.
        """
        found = broadcast(self._find() if is_main() else {})
        positions = {record.image_id: i for i, record in enumerate(images.main.records)}
        for image_id in list(found)[rank() :: world_size()]:
            path, offset = found[image_id]
            scores.update(read_image_at(path, offset), images.truth(positions[image_id]))
        return frozenset(positions[image_id] for image_id in found)

    def _find(self) -> dict[int | str, tuple[Path, int]]:
        """File and place of each prediction, by image."""
        found: dict[int | str, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob("predictions-*.jsonl")):
            if whole_length(path):
                check_header(path, self._file.header)
                for image_id, offset in offsets_by_image(path).items():
                    found.setdefault(image_id, (path, offset))
        return found

    def __enter__(self) -> "KeptPredictions":
        self._file.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, traceback)

    def append(self, image_id: int | str, results: Mapping[Task, Result]) -> None:
        """Keep the prediction of an image."""
        self._file.append(image_id, results)


def identity(segmenter: Segmenter, images: ScoredImages) -> dict[str, Any]:
    """What predictions depend on: all of the model's numbers, how it sees images, and which images.

    Of an image its name, and the size and time of change of the file that it lies in.

    Raises:
        FileNotFoundError: There is no such file.
    """
    return {
        "model": _hash_of_model(segmenter.model.state_dict()),
        "images": _hash_of_images(images),
        "data": str(images.main.folder.resolve()),
        "split": images.main.split,
        "task": images.task,
        "short_side": segmenter.short_side,
        "max_long_side": segmenter.max_long_side,
        "panoptic_score_threshold": segmenter.panoptic_score_threshold,
        "panoptic_overlap_threshold": segmenter.panoptic_overlap_threshold,
        "max_instances": segmenter.max_instances,
        "tta": None if segmenter.tta is None else asdict(segmenter.tta),
    }


def _hash_of_model(tensors: Mapping[str, Tensor]) -> str:
    model = hashlib.sha256()
    for name, tensor in tensors.items():
        model.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        for values in tensor.detach().flatten().split(CHUNK):
            model.update(values.cpu().view(torch.uint8).numpy().data)
    return model.hexdigest()


def _hash_of_images(images: ScoredImages) -> str:
    of_all = hashlib.sha256()
    stamp = lru_cache(maxsize=None)(_stamp)  # thousands of images lie in one shard
    for record in images.main.records:
        image_id, image = record.image_id, record.image
        place = (image.offset, image.length) if isinstance(image, FileSlice) else ()
        path = image.path if isinstance(image, FileSlice) else image
        stamped = stamp(path) if isinstance(path, Path) else ()
        of_all.update(f"{image_id!r} {image.name} {place} {stamped}\n".encode())
    return of_all.hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
