"""Regions along the boundaries of all classes of a label map, and what two maps share of them."""

import numpy as np
from jaxtyping import Bool, Int64, Integer

from mask2former.evaluation.boundary import boundary_distance


def near_boundary(labels: Integer[np.ndarray, "h w"], distance: int) -> Bool[np.ndarray, "h w"]:
    """Pixels with another label, or the outside of the image, at most `distance` pixels away.

    Distance is the larger of the horizontal and the vertical one. Of the pixels of one label
    these are the ones that an erosion of its mask by a square of side 2 * distance + 1 removes;
    here the masks of all labels are eroded at once.
    """
    near = np.ones(labels.shape, bool)
    if min(labels.shape) <= 2 * distance:
        return near
    inside = slice(distance, -distance)
    same_right = labels[:, 1:] == labels[:, :-1]
    even_rows = _all_of_each(same_right, 2 * distance)  # of 2 * distance + 1 pixels
    centers = labels[:, inside]
    same_down = even_rows[1:] & even_rows[:-1] & (centers[1:] == centers[:-1])
    near[inside, inside] = ~_all_of_each(same_down.T, 2 * distance).T
    return near


def near_boundaries(
    predicted: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"]
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Pixels near a boundary of the prediction, and of the truth.

    Pixels that are not scored (below 0 in the truth) are a region of their own in both.
    """
    distance = boundary_distance(*truth.shape)
    predicted, truth = predicted.astype(np.int32), truth.astype(np.int32)
    np.copyto(predicted, -1, where=truth < 0)
    return near_boundary(predicted, distance), near_boundary(truth, distance)


def count_boundaries(
    classes: Int64[np.ndarray, " runs"],
    true_classes: Int64[np.ndarray, " runs"],
    lengths: Int64[np.ndarray, " runs"],
    near: Bool[np.ndarray, "2 runs"],
    num_classes: int,
) -> Int64[np.ndarray, "3 k"]:
    """Pixels of the boundary region of each class: shared, predicted, true.

    Args:
        classes: Predicted in each run; `num_classes` for a class that the data set lacks.
        true_classes: True in each run; `num_classes` where the pixels are not scored.
        lengths: Pixels of each run.
        near: Whether they are near a boundary of the prediction, and of the truth.
        num_classes: k.
    """
    near_predicted, near_true = near
    predicted = near_predicted & (true_classes < num_classes)
    shared = predicted & near_true & (classes == true_classes)
    regions = ((classes, shared), (classes, predicted), (true_classes, near_true))
    return np.stack(
        [
            np.bincount(of_runs[inside], lengths[inside], num_classes + 1)[:-1].astype(np.int64)
            for of_runs, inside in regions
        ]
    )


def _all_of_each(flags: Bool[np.ndarray, "h w"], length: int) -> Bool[np.ndarray, "h windows"]:
    """Whether all flags hold of each window of `length` in a row.

    A window is two of half its length, which overlap where it is no power of two.
    """
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        flags = flags[:, :-step] & flags[:, step:]
        covered += step
    return flags
