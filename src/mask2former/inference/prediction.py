"""What a user gets for one image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image

from mask2former.inference.draw import draw_result
from mask2former.masks.rle import decode_rle
from mask2former.tasks import Task
from mask2former.types import (
    Classes,
    InstanceResult,
    PanopticResult,
    Result,
    Segment,
    SemanticResult,
)

DRAWN_SCORE = 0.5
"""Instances below it are not drawn unless another threshold was asked for."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result for one image, with what is needed to read and draw it."""

    image: UInt8[np.ndarray, "h w 3"]
    """RGB, upright."""
    classes: Classes
    task: Task
    result: Result
    score_threshold: float | None = None
    """As asked for; none: the result holds everything that the task's rules leave."""

    @property
    def segments(self) -> list[Segment]:
        """What is in the image (panoptic and instance)."""
        return self._result_of(PanopticResult, InstanceResult).segments

    @property
    def segment_map(self) -> Int64[np.ndarray, "h w"]:
        """`Segment.id` per pixel, 0 where no segment is (panoptic)."""
        return self._result_of(PanopticResult).segment_map.cpu().numpy()

    @property
    def label_map(self) -> Int64[np.ndarray, "h w"]:
        """Class id per pixel (semantic)."""
        return self._result_of(SemanticResult).label_map.cpu().numpy()

    @property
    def rles(self) -> list[dict]:
        """The mask of each segment as COCO run lengths (instance)."""
        return self._result_of(InstanceResult).rles

    @property
    def masks(self) -> Bool[np.ndarray, "m h w"]:
        """The mask of each segment in full (panoptic and instance); large for many segments."""
        if self.task == "panoptic":
            segment_map = self.segment_map
            masks = [segment_map == segment.id for segment in self.segments]
        else:
            masks = [decode_rle(rle) for rle in self.rles]
        return np.stack(masks) if masks else np.zeros((0, *self.image.shape[:2]), bool)

    def class_name(self, segment: Segment) -> str:
        return self.classes.names[segment.class_id]

    def draw(self) -> Image.Image:
        """The image with what was found drawn over it; small ones are enlarged.

        Of instances, those with a score of at least 0.5 are drawn, or of the threshold that was
        given to `predict`.
        """
        threshold = DRAWN_SCORE if self.score_threshold is None else self.score_threshold
        return draw_result(self.image, self.result, self.classes, min_score=threshold)

    def _result_of(self, *kinds: type) -> Any:
        if not isinstance(self.result, kinds):
            raise ValueError(
                f"a {self.task} prediction has no such attribute; it has {ATTRIBUTES[self.task]}"
            )
        return self.result


ATTRIBUTES: dict[Task, str] = {
    "semantic": "label_map",
    "instance": "segments, rles and masks",
    "panoptic": "segments, segment_map and masks",
}
