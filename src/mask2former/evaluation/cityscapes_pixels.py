"""The metrics of Cityscapes' benchmark of pixels: IoU and iIoU of classes and of categories."""

import math

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from mask2former.data.annotations import SegmentMap
from mask2former.evaluation.averages import percent, ratio, unique_names
from mask2former.masks.id_maps import compact_ids
from mask2former.types import Classes

CATEGORIES = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}
"""The scored classes of each category, by name.

Source:
    cityscapesScripts `labels.py`.
"""
MEAN_OBJECT_AREA = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""In pixels of the original images, by the name of the class; other classes have no objects.

Source:
    cityscapesScripts `evalPixelLevelSemanticLabeling.py`, `avgClassSize`.
"""
RIGHT_CLASS, RIGHT_CATEGORY = 2, 3
"""Columns of `CityscapesPixels.objects`."""


class CityscapesPixels:
    """Counts pixels image by image; the metrics are of all images together.

    iIoU is IoU in which every object weighs the same, whatever its size: pixels of an object are
    weighed by the mean area of its class over the area of the object. Groups of objects weigh
    nothing, but finding their class there is no mistake.

    Source:
        cityscapesScripts `evalPixelLevelSemanticLabeling.py`, for predictions of the scored
        classes. There a predicted caravan or trailer counts as a vehicle in the iIoU of the
        category; here it is a class that the data set lacks.
    """

    def __init__(self, classes: Classes) -> None:
        """Make it, with nothing counted.

        Args:
            classes: Of Cityscapes, in any order.

        Raises:
            ValueError: A class is none of Cityscapes.
        """
        self.classes = classes
        names = np.array(classes.names)
        self._in_category: Bool[np.ndarray, "categories k"] = np.array(
            [np.isin(names, members) for members in CATEGORIES.values()]
        )
        if not self._in_category.any(axis=0).all():
            unknown = names[~self._in_category.any(axis=0)].tolist()
            known = [name for members in CATEGORIES.values() for name in members]
            raise ValueError(
                f"classes {unknown} are none of Cityscapes, which scores {', '.join(known)}; "
                f"evaluate other data sets by mIoU"
            )
        self._areas = np.array([MEAN_OBJECT_AREA.get(name, 0.0) for name in classes.names])
        self.confusion: Int64[np.ndarray, "k1 k"] = np.zeros(
            (len(classes) + 1, len(classes)), np.int64
        )
        """Pixels by predicted class (rows; the last is any class that the data set does not have)
        and true class (columns)."""
        self.objects: list[Int64[np.ndarray, "m 4"]] = []
        """Of the true objects of each image: class id, pixels, pixels that are predicted as the
        class, and as any class of its category."""

    def update(self, predicted: Integer[np.ndarray, "h w"], truth: SegmentMap) -> None:
        """Count one image.

        Args:
            predicted: Class ids; the number of classes where a class is predicted that the data
                set does not have.
            truth: The panoptic annotation: a segment per object, and groups as crowds. Pixels
                that no segment lists are not scored.

        Raises:
            ValueError: The two differ in size.
        """
        if predicted.shape != truth.ids.shape:
            raise ValueError(
                f"the prediction has size (h, w) = {predicted.shape} and the ground truth "
                f"{truth.ids.shape}; predict at the size of the ground truth"
            )
        pixels = self._by_segment(predicted, truth)
        class_ids = np.array([s.class_id for s in truth.segments], np.int64)
        is_crowd = np.array([s.is_crowd for s in truth.segments], bool)
        areas = pixels.sum(axis=1)
        np.add.at(self.confusion.T, class_ids, pixels)
        positions = np.flatnonzero((self._areas[class_ids] > 0) & ~is_crowd & (areas > 0))
        own = class_ids[positions]
        right = pixels[positions, own]
        is_related = self._in_category.T @ self._in_category  # (k, k)
        related = (pixels[positions, :-1] * is_related[own]).sum(axis=1)
        self.objects.append(np.stack([own, areas[positions], right, related], axis=1))

    def merge(self, other: "CityscapesPixels") -> None:
        """Add what another process counted, on other images."""
        self.confusion += other.confusion
        self.objects += other.objects

    def compute(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The metrics in percent: means over classes, and over categories (`_sup`).

        Unlike mIoU, the mean has 0 for a class that is predicted but nowhere true; only a class
        that is neither takes no part.

        Returns:
            The means, and iIoU of each class that has objects; NaN where nothing defines one.
        """
        iou, object_iou = self._of_classes()
        category_iou, category_object_iou = self._of_categories()
        metrics = {
            "IoU": _mean(iou),
            "iIoU": _mean(object_iou),
            "IoU_sup": _mean(category_iou),
            "iIoU_sup": _mean(category_object_iou),
        }
        per_class = {
            name: {"iIoU": 100 * float(object_iou[class_id])}
            for class_id, name in enumerate(unique_names(self.classes))
            if self._areas[class_id] > 0
        }
        return metrics, per_class

    def per_category(self) -> dict[str, dict[str, float]]:
        """IoU in percent of each category, and iIoU of those whose classes have objects.

        A table of its own, because "sky" is a class as well as a category.
        """
        iou, object_iou = self._of_categories()
        table = {name: {"IoU": 100 * float(iou[i])} for i, name in enumerate(CATEGORIES)}
        for i, (name, members) in enumerate(CATEGORIES.items()):
            if set(members) <= set(MEAN_OBJECT_AREA):
                table[name]["iIoU"] = 100 * float(object_iou[i])
        return table

    def _by_segment(
        self, predicted: Integer[np.ndarray, "h w"], truth: SegmentMap
    ) -> Int64[np.ndarray, "m k1"]:
        """Pixels of each true segment by predicted class."""
        shape = (len(truth.segments) + 1, len(self.confusion))
        rows = compact_ids(truth.ids, [s.id for s in truth.segments]).astype(np.int64)
        pairs = np.bincount((rows * shape[1] + predicted).ravel(), minlength=math.prod(shape))
        return pairs.reshape(shape)[1:]

    def _of_classes(self) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """IoU and iIoU of each class."""
        return self._iou(np.eye(len(self.classes), dtype=bool), RIGHT_CLASS)

    def _of_categories(
        self,
    ) -> tuple[Float64[np.ndarray, " categories"], Float64[np.ndarray, " categories"]]:
        """IoU and iIoU of each category."""
        return self._iou(self._in_category, RIGHT_CATEGORY)

    def _iou(
        self, is_member: Bool[np.ndarray, "groups k"], column: int
    ) -> tuple[Float64[np.ndarray, " groups"], Float64[np.ndarray, " groups"]]:
        """IoU and iIoU of groups of classes; NaN where nothing defines one.

        Args:
            is_member: Which classes are a group's.
            column: Of `objects`: the pixels that are right.
        """
        members = is_member.astype(np.int64)
        found = members @ self.confusion[:-1] @ members.T
        right, predicted = found.diagonal(), found.sum(axis=1)
        true = members @ self.confusion.sum(axis=0)
        objects = np.concatenate([np.empty((0, 4), np.int64), *self.objects])
        class_ids, areas = objects[:, 0], objects[:, 1]
        whole = self._areas[class_ids]  # the pixels of an object, weighed
        weighed = objects[:, column] * (whole / areas)
        of_group = is_member[:, class_ids]
        found_objects = np.array([math.fsum(weighed[some]) for some in of_group])
        true_objects = np.array([math.fsum(whole[some]) for some in of_group])
        # what is taken for the group and is not lies in no object of it, so it has no weight
        object_iou = ratio(found_objects, true_objects + (predicted - right))
        has_others = (is_member & (self._areas == 0)).any(axis=1)
        iou = ratio(right, predicted + true - right)
        return iou, np.where(has_others, np.nan, object_iou)


def _mean(values: Float64[np.ndarray, " n"]) -> float:
    return percent(values[~np.isnan(values)])
