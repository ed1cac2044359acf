"""Average precision and recall of instances, as COCO defines them."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mask2former.data.derive import TrueObject
from mask2former.evaluation.average_precision import Accumulated, accumulate
from mask2former.evaluation.averages import percent, unique_names
from mask2former.evaluation.matching import (
    DETECTION,
    TRUE_OBJECT,
    ImageMatches,
    Overlap,
    match_image,
)
from mask2former.evaluation.summary import IOU_50, IOU_75, Curves
from mask2former.types import Classes, InstanceResult


class InstanceMetrics:
    """Matches detections image by image, and keeps some thirty bytes of each.

    Only the things among the classes take part. Whatever way the images are divided among
    processes, the metrics of the same predictions are the same to the last bit.
    """

    def __init__(self, classes: Classes, boundary: bool = True) -> None:
        """Make it, with nothing counted.

        Args:
            classes: Of the data set.
            boundary: Find boundary AP as well.
        """
        self.classes = classes
        self.boundary = boundary
        self.images: dict[int | str, ImageMatches] = {}
        self._accumulated: Accumulated | None = None
        """Of all images until now; none until it is asked for."""

    def update(
        self, image_id: int | str, result: InstanceResult, truth: Sequence[TrueObject]
    ) -> None:
        """Match one image.

        Args:
            image_id: As in the data set; among equal scores of several images the lower id is
                first, as in COCOeval.
            result: The prediction, in any order. Boxes are those of its segments.
            truth: All objects of the image, crowds among them.

        Raises:
            ValueError: The ground truth has another size than the prediction, or the image was
                counted already.
        """
        self._check_new([image_id])
        for item in truth:
            if list(item.rle["size"]) != [result.height, result.width]:
                raise ValueError(
                    f"the prediction has size (h, w) = {(result.height, result.width)} and the "
                    f"ground truth {tuple(item.rle['size'])}; predict at the size of the ground "
                    f"truth"
                )
        is_thing = np.array(self.classes.is_thing, bool)
        self.images[image_id] = match_image(result, truth, is_thing, boundary=self.boundary)
        self._accumulated = None

    def merge(self, other: "InstanceMetrics") -> None:
        """Add what another process matched, on other images.

        Raises:
            ValueError: Both have matched one image.
        """
        self._check_new(other.images)
        self.images.update(other.images)
        self._accumulated = None

    def compute(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The metrics in percent, of all things and of each; NaN where nothing defines one.

        Small, medium and large are by the area that the ground truth states, and the mask's pixels
        for predictions.

        Source:
            pycocotools `COCOeval`, with its thresholds, area ranges and 1, 10, 100 detections;
            boundary AP as Boundary IoU (Cheng et al., 2021) defines it for COCO.
        """
        precision, recall = self._accumulate()
        masks, boxes = precision[Overlap.MASK.lanes()], precision[Overlap.BOX.lanes()]
        boundaries = precision[Overlap.BOUNDARY.lanes()]
        metrics = {
            "AP": _mean(masks),
            "AP50": _mean(masks[IOU_50]),
            "AP75": _mean(masks[IOU_75]),
            "APs": _mean(precision[Overlap.MASK.lanes(1)]),
            "APm": _mean(precision[Overlap.MASK.lanes(2)]),
            "APl": _mean(precision[Overlap.MASK.lanes(3)]),
            "boxAP": _mean(boxes),
        }
        if self.boundary:
            metrics |= {"boundaryAP": _mean(boundaries), "boundaryAP50": _mean(boundaries[IOU_50])}
        metrics |= {name: _mean(recall[..., i]) for i, name in enumerate(("AR1", "AR10", "AR100"))}
        names = unique_names(self.classes)
        per_class = {}
        for k, class_id in sorted(enumerate(self._thing_ids()), key=lambda pair: pair[1]):
            of_class = {
                "AP": _mean(masks[..., k]),
                "AP50": _mean(masks[IOU_50, :, k]),
                "boxAP": _mean(boxes[..., k]),
            }
            if self.boundary:
                of_class["boundaryAP"] = _mean(boundaries[..., k])
            per_class[names[class_id]] = of_class
        return metrics, per_class

    def curves(self) -> Curves:
        """Precision by IoU threshold and recall, of each thing that has true objects."""
        masks = self._accumulate().precision[Overlap.MASK.lanes()]
        names = unique_names(self.classes)
        return {
            names[class_id]: masks[..., k]
            for k, class_id in sorted(enumerate(self._thing_ids()), key=lambda pair: pair[1])
            if not np.isnan(masks[0, 0, k])
        }

    def _accumulate(self) -> Accumulated:
        """Once for the metrics and the curves, which takes seconds of large data sets."""
        if self._accumulated is None:
            in_order = sorted(self.images, key=lambda id_: (isinstance(id_, str), id_))
            matches = [self.images[image_id] for image_id in in_order]
            detections = np.frombuffer(b"".join(m.detections for m in matches), DETECTION)
            objects = np.frombuffer(b"".join(m.true_objects for m in matches), TRUE_OBJECT)
            self._accumulated = accumulate(detections, objects, self._thing_ids())
        return self._accumulated

    def _check_new(self, image_ids: Iterable[int | str]) -> None:
        repeated = [image_id for image_id in image_ids if image_id in self.images]
        if repeated:
            raise ValueError(
                f"image {repeated[0]!r} was counted already, as one of {len(self.images)}; count "
                f"each image once, under an id of its own"
            )

    def _thing_ids(self) -> list[int]:
        """By category id, as COCOeval has them: the last digit of a mean depends on the order."""
        things = [i for i, is_thing in enumerate(self.classes.is_thing) if is_thing]
        return sorted(things, key=lambda i: self.classes.category_ids[i])


def _mean(values: NDArray[np.float64]) -> float:
    return percent(values[~np.isnan(values)])
