"""Predictions kept in a folder while an evaluation goes on, so that it can be interrupted."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from mask2former.distributed import broadcast, is_main, rank, world_size
from mask2former.evaluation.predictions_file import (
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

SAMPLED = 64
"""Values of each tensor that tell one model from another; training changes all of them."""


class KeptPredictions:
    """A file for each process, in one folder; use it with `with`."""

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
        broadcast(None)  # nobody writes before all have read
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
    """What predictions depend on: the model's numbers, how it sees images, and which images."""
    model = hashlib.sha256()
    for name, tensor in segmenter.model.state_dict().items():
        values = tensor.detach().flatten()[:SAMPLED].float().cpu().numpy()
        model.update(f"{name} {tuple(tensor.shape)}".encode() + values.tobytes())
    of_all = hashlib.sha256()
    for record in images.main.records:
        of_all.update(f"{type(record.image_id).__name__} {record.image_id}\n".encode())
    return {
        "model": model.hexdigest(),
        "images": of_all.hexdigest(),
        "data": str(images.main.folder),
        "split": images.main.split,
        "task": images.task,
        "short_side": segmenter.short_side,
        "max_long_side": segmenter.max_long_side,
        "panoptic_score_threshold": segmenter.panoptic_score_threshold,
        "panoptic_overlap_threshold": segmenter.panoptic_overlap_threshold,
        "max_instances": segmenter.max_instances,
        "tta": None if segmenter.tta is None else asdict(segmenter.tta),
    }
