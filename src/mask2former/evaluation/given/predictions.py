"""Predictions that an evaluation of ours has kept, as results to score again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mask2former.data.dataset import Record
from mask2former.evaluation.given.image_names import GivenImages
from mask2former.evaluation.given.reader import ResultsReader
from mask2former.evaluation.kept.file import (
    check_header,
    iterate,
    offsets_by_image,
    read_image_at,
    read_predictions,
    whole_length,
)
from mask2former.tasks import Task
from mask2former.types import InstanceResult, PanopticResult, Result


class GivenPredictions(ResultsReader):
    """Reads predictions files of one evaluation, one for each of its processes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Find the images; their results are read when they are asked for.

        Args:
            paths: At least one.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: One is damaged, holds predictions of something else than the first, or an
                image that another one has, too; or there is no image at all.
        """
        header = read_predictions(paths[0])
        self.classes = header.classes
        self.images = GivenImages(str(paths[0] if len(paths) == 1 else paths[0].parent))
        self._places: dict[str, tuple[Path, int]] = {}
        for path in paths:
            check_header(path, header)
            for image_id, offset in offsets_by_image(path).items():
                entry = self.images.add_id(image_id)
                if entry in self._places:
                    raise ValueError(
                        f"{entry} is in {self._places[entry][0]} and in {path}; keep one of them"
                    )
                self._places[entry] = (path, offset)
        if not self._places:
            raise ValueError(f"{self.images.where} holds no image yet; let the evaluation go on")
        first = next(path for path, _ in self._places.values())
        self.tasks: tuple[Task, ...] = tuple(next(iterate(first))[1])

    def find(self, record: Record, height: int, width: int) -> Mapping[Task, Result]:
        """The results of an image.

        Raises:
            ValueError: There are none, or they are damaged or of another size.
        """
        path, offset = self._places[self.images.require(record)]
        results = read_image_at(path, offset)
        for result in results.values():
            if size_of(result) != (height, width):
                raise ValueError(
                    f"{path} has a result of size (h, w) = {size_of(result)} for image "
                    f"{record.image}, which has {(height, width)}; predict it again"
                )
        if tuple(results) != self.tasks:
            raise ValueError(
                f"{path} has results for {', '.join(results) or 'no task'} of image "
                f"{record.image}, but for {', '.join(self.tasks)} of others; predict it again"
            )
        return results


def count_kept(folder: Path) -> int:
    """How many images an evaluation has kept predictions of in a folder."""
    files = (path for path in folder.glob("predictions-*.jsonl") if whole_length(path))
    return len({image_id for path in files for image_id in offsets_by_image(path)})


def size_of(result: Result) -> tuple[int, int]:
    """(height, width) in pixels."""
    if isinstance(result, InstanceResult):
        return result.height, result.width
    ids = result.segment_map if isinstance(result, PanopticResult) else result.label_map
    return ids.shape[0], ids.shape[1]
