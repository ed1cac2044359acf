"""Panoptic quality."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer

from mask2former.data.annotations import SegmentLabel
from mask2former.evaluation.averages import percent, unique_names
from mask2former.evaluation.segment_quality import SegmentQuality, check_sizes, count_pairs
from mask2former.masks.runs import find_runs
from mask2former.types import Classes, Segment

VOID = 0


class PanopticMetrics:
    """Counts matched segments image by image.

    Source:
        panopticapi `pq_compute`, whose counts these are. Areas of the ground truth are counted
        from its id map, not read from its JSON. For COCO and Cityscapes the two agree; for ADE20K
        the JSON of the authors' script has areas before objects cover each other, so that PQ can
        differ minutely.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.quality = SegmentQuality(len(classes))

    def update(
        self,
        predicted: Integer[np.ndarray, "h w"],
        predicted_segments: Sequence[Segment],
        truth: Integer[np.ndarray, "true_h true_w"],
        true_segments: Sequence[SegmentLabel],
    ) -> None:
        """Count one image.

        Args:
            predicted: An id per pixel; 0 where no segment is.
            predicted_segments: What the ids mean. One without pixels is not counted.
            truth: An id per pixel. Ids that no segment lists are not scored.
            true_segments: What the ids mean. One without pixels is missed.

        Raises:
            ValueError: The two maps differ in size, a predicted id has no segment, or a segment
                has a class that the data set lacks.
        """
        check_sizes(predicted, truth)
        classes = self._class_ids(predicted_segments, "predicted")
        true_classes = self._class_ids(true_segments, "true")
        is_crowd = np.array([s.is_crowd for s in true_segments], bool)
        shared = _shared_pixels(
            predicted, [s.id for s in predicted_segments], truth, [s.id for s in true_segments]
        )
        self.quality.add(shared, classes, true_classes, is_crowd)

    def merge(self, other: "PanopticMetrics") -> None:
        """Add what another process counted, on other images."""
        self.quality.merge(other.quality)

    def compute(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The metrics in percent, of all classes and of each; NaN where nothing defines one.

        The means are over the classes that have a true segment or a spurious one.
        """
        quality = self.quality.by_class()
        occurs = ~np.isnan(quality["PQ"])
        is_thing = np.array(self.classes.is_thing, bool)
        metrics = {
            name + suffix: percent(values[occurs & group])
            for suffix, group in (("", occurs), ("_th", is_thing), ("_st", ~is_thing))
            for name, values in quality.items()
        }
        per_class = {
            name: {metric: 100 * float(values[i]) for metric, values in quality.items()}
            for i, name in enumerate(unique_names(self.classes))
        }
        return metrics, per_class

    def _class_ids(
        self, segments: Sequence[Segment] | Sequence[SegmentLabel], whose: str
    ) -> Int64[np.ndarray, " segments"]:
        class_ids = [s.class_id for s in segments]
        unknown = sorted({i for i in class_ids if not 0 <= i < len(self.classes)})
        if unknown:
            raise ValueError(
                f"{whose} segments have class ids {unknown}; accepted are 0 to "
                f"{len(self.classes) - 1}: leave out segments of other classes"
            )
        return np.array(class_ids, np.int64)


def _shared_pixels(
    predicted: Integer[np.ndarray, "h w"],
    predicted_ids: Sequence[int],
    truth: Integer[np.ndarray, "h w"],
    true_ids: Sequence[int],
) -> Int64[np.ndarray, "p1 m1"]:
    """Pixels that each predicted and each true segment share.

    The last row is of pixels without a predicted segment, the last column of those that are not
    scored.

    Raises:
        ValueError: A predicted id is not listed.
    """
    starts, lengths = find_runs(predicted, truth)
    ids = predicted.ravel()[starts].astype(np.int64)
    rows = _positions(ids, predicted_ids)
    columns = _positions(truth.ravel()[starts].astype(np.int64), true_ids)
    unlisted = np.setdiff1d(ids[rows == len(predicted_ids)], [VOID])
    if unlisted.size:
        raise ValueError(f"no segment is given for predicted ids {unlisted.tolist()}; list all")
    return count_pairs(rows, columns, lengths, (len(predicted_ids) + 1, len(true_ids) + 1))


def _positions(
    values: Int64[np.ndarray, " runs"], ids: Sequence[int]
) -> Int64[np.ndarray, " runs"]:
    """Where each value stands in `ids`; their number when it does not."""
    if not ids:
        return np.zeros(len(values), np.int64)
    order = np.argsort(ids)
    ranked = np.asarray(ids)[order]
    rank = np.minimum(np.searchsorted(ranked, values), len(ids) - 1)
    return np.where(ranked[rank] == values, order[rank], len(ids))
