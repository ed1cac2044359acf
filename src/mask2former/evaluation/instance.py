"""Average precision and recall of instances, as COCO defines them."""

import contextlib
import importlib.util
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mask2former.evaluation.averages import percent, unique_names
from mask2former.masks.rle import rle_box
from mask2former.types import Classes, InstanceResult

TrueInstance: TypeAlias = tuple[int, dict, bool, float]
"""(class id, RLE, is crowd, area in pixels), as `data.derive.instance_rles` gives them."""

Backend: TypeAlias = Literal["pycocotools", "hotcoco"]

IOU_50, IOU_75 = 0, 5
"""Positions in COCOeval's thresholds 0.50, 0.55, ..., 0.95."""


def fastest_backend() -> Backend:
    """Hotcoco where it is installed: the same numbers tens of times sooner."""
    return "hotcoco" if importlib.util.find_spec("hotcoco") else "pycocotools"


class InstanceMetrics:
    """Collects run lengths image by image; the metrics are of all images together.

    Only the things among the classes take part.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.images: dict[int | str, tuple[InstanceResult, list[TrueInstance]]] = {}

    def update(
        self, image_id: int | str, result: InstanceResult, truth: Sequence[TrueInstance]
    ) -> None:
        """Keep one image.

        Args:
            image_id: As in the data set; among equal scores of several images the lower id is
                first, as in COCOeval. An image that comes twice (padded batches of several
                processes) counts once.
            result: The prediction.
            truth: All objects of the image, crowds among them.

        Raises:
            ValueError: The ground truth has another size than the prediction.
        """
        for _, rle, _, _ in truth:
            if list(rle["size"]) != [result.height, result.width]:
                raise ValueError(
                    f"the prediction has size (h, w) = {(result.height, result.width)} and the "
                    f"ground truth {tuple(rle['size'])}; predict at the size of the ground truth"
                )
        self.images[image_id] = (result, list(truth))

    def merge(self, other: "InstanceMetrics") -> None:
        """Add what another process collected."""
        self.images.update(other.images)

    def compute(
        self, backend: Backend | None = None
    ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The metrics in percent, of all things and of each; NaN where nothing defines one.

        Boxes of predictions and ground truth are those of the masks. Small, medium and large are
        by the area that the ground truth states, and the mask's pixels for predictions.

        Args:
            backend: Who computes. None: `fastest_backend`.

        Source:
            pycocotools `COCOeval`, with its thresholds, area ranges and 1, 10, 100 detections.
        """
        backend = backend or fastest_backend()
        dataset = self._truth(), self._detections()
        masks = _evaluate(backend, "segm", *dataset)
        boxes = _evaluate(backend, "bbox", *dataset)
        precision, recall = masks["precision"], masks["recall"]
        metrics = {
            "AP": _mean(precision[..., 0, -1]),
            "AP50": _mean(precision[IOU_50, ..., 0, -1]),
            "AP75": _mean(precision[IOU_75, ..., 0, -1]),
            "APs": _mean(precision[..., 1, -1]),
            "APm": _mean(precision[..., 2, -1]),
            "APl": _mean(precision[..., 3, -1]),
            "boxAP": _mean(boxes["precision"][..., 0, -1]),
            "AR1": _mean(recall[..., 0, 0]),
            "AR10": _mean(recall[..., 0, 1]),
            "AR100": _mean(recall[..., 0, 2]),
        }
        names = unique_names(self.classes)
        per_class = {
            names[class_id]: {
                "AP": _mean(precision[:, :, i, 0, -1]),
                "AP50": _mean(precision[IOU_50, :, i, 0, -1]),
                "boxAP": _mean(boxes["precision"][:, :, i, 0, -1]),
            }
            for i, class_id in enumerate(self._thing_ids())
        }
        return metrics, per_class

    def _thing_ids(self) -> list[int]:
        return [i for i, is_thing in enumerate(self.classes.is_thing) if is_thing]

    def _truth(self) -> dict:
        return self._coco_dataset(
            (image, class_id, rle, {"area": area, "iscrowd": int(is_crowd)})
            for image, (_, truth) in self._in_order()
            for class_id, rle, is_crowd, area in truth
        )

    def _detections(self) -> dict:
        return self._coco_dataset(
            (image, s.class_id, rle, {"area": float(s.area), "iscrowd": 0, "score": s.score})
            for image, (result, _) in self._in_order()
            for s, rle in zip(result.segments, result.rles, strict=True)
        )

    def _in_order(self) -> Iterator[tuple[int, tuple[InstanceResult, list[TrueInstance]]]]:
        """The images numbered from 1 in the order of their ids; numbers before text."""
        ids = sorted(self.images, key=lambda id_: (isinstance(id_, str), id_))
        return ((i, self.images[id_]) for i, id_ in enumerate(ids, start=1))

    def _coco_dataset(self, objects: Iterable[tuple[int, int, dict, dict]]) -> dict:
        """A COCO data set; ids are positions + 1, since COCOeval takes 0 for "not matched"."""
        annotations = [
            {
                "id": i,
                "image_id": image,
                "category_id": class_id + 1,
                "segmentation": rle,
                "bbox": list(rle_box(rle)),
                **properties,
            }
            for i, (image, class_id, rle, properties) in enumerate(objects, start=1)
            if self.classes.is_thing[class_id]
        ]
        return {
            "images": [
                {"id": image, "height": result.height, "width": result.width}
                for image, (result, _) in self._in_order()
            ],
            "categories": [{"id": i + 1, "name": str(i)} for i in self._thing_ids()],
            "annotations": annotations,
        }


def _evaluate(
    backend: Backend, kind: Literal["segm", "bbox"], truth: dict, detections: dict
) -> dict[str, NDArray[np.float64]]:
    """Precision by (threshold, recall, class, area range, detections), and recall; -1: undefined.

    The area of a detection is that of what is compared: its mask, or its box.
    """
    if kind == "bbox":
        boxes = [{**d, "area": d["bbox"][2] * d["bbox"][3]} for d in detections["annotations"]]
        detections = {**detections, "annotations": boxes}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its steps
        evaluation = _coco_eval(backend, kind, truth, detections)
        evaluation.evaluate()
        evaluation.accumulate()
    return {key: np.asarray(evaluation.eval[key]) for key in ("precision", "recall")}


def _coco_eval(
    backend: Backend, kind: Literal["segm", "bbox"], truth: dict, detections: dict
) -> Any:
    if backend == "hotcoco":
        import hotcoco

        return hotcoco.COCOeval(hotcoco.COCO(truth), hotcoco.COCO(detections), kind)
    from pycocotools import coco, cocoeval

    return cocoeval.COCOeval(_indexed(coco.COCO(), truth), _indexed(coco.COCO(), detections), kind)


def _indexed(coco: Any, dataset: dict) -> Any:
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _mean(values: NDArray[np.float64]) -> float:
    return percent(values[values > -1])
