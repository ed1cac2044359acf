"""The metrics as the reference tools find them; `evaluation.py` compares with them."""

import contextlib
import importlib.util
import io

import numpy as np
from evaluation_images import CLASSES, HEIGHT, THINGS, WIDTH
from pycocotools import coco, cocoeval

from mask2former.evaluation.truth import Truth
from mask2former.types import InstanceResult, PanopticResult, SemanticResult


class CocoFiles:
    """What COCOeval reads, as dictionaries."""

    def __init__(self) -> None:
        self.images: list[dict] = []
        self.truth: list[dict] = []
        self.detections: list[dict] = []

    def add(self, truth: Truth, result: InstanceResult) -> None:
        image = {"image_id": len(self.images) + 1}
        self.images.append({"id": image["image_id"], "height": HEIGHT, "width": WIDTH})
        for item in truth.objects:
            kind = {"category_id": item.class_id + 1, "iscrowd": int(item.is_crowd)}
            shape = {"segmentation": item.rle, "bbox": list(item.box), "area": item.area}
            self.truth.append({"id": len(self.truth) + 1, **image, **kind, **shape})
        for segment, rle in zip(result.segments, result.rles, strict=True):
            kind = {"category_id": segment.class_id + 1, "iscrowd": 0, "score": segment.score}
            shape = {"segmentation": rle, "bbox": list(segment.box), "area": float(segment.area)}
            self.detections.append({"id": len(self.detections) + 1, **image, **kind, **shape})

    def evaluate(self, kind: str, *, with_hotcoco: bool) -> float:
        """AP in percent."""
        detections = self.detections
        if kind == "bbox":
            detections = [{**d, "area": d["bbox"][2] * d["bbox"][3]} for d in detections]
        categories = [{"id": int(i) + 1, "name": CLASSES.names[i]} for i in THINGS]
        files = [
            {"images": self.images, "categories": categories, "annotations": annotations}
            for annotations in (self.truth, detections)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            if with_hotcoco:
                import hotcoco

                evaluation = hotcoco.COCOeval(*map(hotcoco.COCO, files), kind)
            else:
                evaluation = cocoeval.COCOeval(*map(indexed, files), kind)
            evaluation.evaluate()
            evaluation.accumulate()
        precision = np.asarray(evaluation.eval["precision"])[..., 0, -1]
        return 100 * float(precision[precision > -1].mean())


def indexed(content: dict) -> coco.COCO:
    read = coco.COCO()
    read.dataset = content
    read.createIndex()
    return read


class PlainPanoptic:
    """Panoptic quality, segment by segment with dictionaries, as panopticapi finds it."""

    def __init__(self) -> None:
        self.iou_sum = np.zeros(len(CLASSES))
        self.counts = np.zeros((3, len(CLASSES)))  # matched, spurious, missed

    def update(self, result: PanopticResult, truth: Truth) -> None:
        ids, labels = truth.panoptic_map
        offset = 256**3
        pairs = ids.astype(np.uint64) * offset + result.segment_map.numpy().astype(np.uint64)
        shared = {
            (int(pair) // offset, int(pair) % offset): int(pixels)
            for pair, pixels in zip(*np.unique(pairs, return_counts=True), strict=True)
        }
        true = {label.id: label for label in labels}
        true_areas = dict(zip(*np.unique(ids, return_counts=True), strict=True))
        found = {segment.id: segment for segment in result.segments}
        matched: set[int] = set()
        matched_true: set[int] = set()
        for (true_id, id_), pixels in shared.items():
            if true_id not in true or id_ not in found or true[true_id].is_crowd:
                continue
            class_id = true[true_id].class_id
            if class_id != found[id_].class_id:
                continue
            union = found[id_].area + true_areas[true_id] - pixels - shared.get((0, id_), 0)
            if pixels / union > 0.5:
                self.iou_sum[class_id] += pixels / union
                self.counts[0, class_id] += 1
                matched.add(id_)
                matched_true.add(true_id)
        crowds = {label.class_id: label.id for label in labels if label.is_crowd}
        for label in labels:
            if label.id not in matched_true and not label.is_crowd:
                self.counts[2, label.class_id] += 1
        for segment in result.segments:
            excused = shared.get((0, segment.id), 0)
            if segment.class_id in crowds:
                excused += shared.get((crowds[segment.class_id], segment.id), 0)
            if segment.id not in matched and excused / segment.area <= 0.5:
                self.counts[1, segment.class_id] += 1

    def quality(self) -> float:
        """PQ in percent."""
        halves = self.counts[0] + (self.counts[1] + self.counts[2]) / 2
        return 100 * float((self.iou_sum[halves > 0] / halves[halves > 0]).mean())


class PlainSemantic:
    """A confusion matrix of 64-bit integers, as detectron2 counts it."""

    def __init__(self) -> None:
        self.confusion = np.zeros((len(CLASSES) + 1,) * 2, np.int64)

    def update(self, result: SemanticResult, truth: Truth) -> None:
        size = len(self.confusion)
        true = np.where(truth.semantic_map < 0, size - 1, truth.semantic_map).astype(np.int64)
        pairs = size * result.label_map.numpy().astype(np.int64).reshape(-1) + true.reshape(-1)
        self.confusion += np.bincount(pairs, minlength=size * size).reshape(size, size)


def coco_tools() -> dict[str, bool]:
    """What is installed, and whether it is hotcoco."""
    tools = {"AP: pycocotools": False, "AP: hotcoco": True}
    return {n: h for n, h in tools.items() if not h or importlib.util.find_spec("hotcoco")}
