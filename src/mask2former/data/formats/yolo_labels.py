"""The lines of YOLO's label files: a class and a polygon in shares of the image's size."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mask2former.data.formats.faults import Fault, tell_fault
from mask2former.data.problems import Problems

NUMBERS_OF_A_BOX = 4
OVERHANG = 0.02
"""Shares of the image by which polygons may stick out: careless drawing, which is cut off."""


class Line(NamedTuple):
    """One object."""

    class_id: int
    points: NDArray[np.float64]
    """(n, 2) as (x, y) in shares of the image."""
    overhangs: bool
    """It sticks out of the image, a little."""


def check_labels(
    path: Path, class_ids: dict[int, int], image_id: str, problems: Problems
) -> tuple[int, ...]:
    """Numbers of the lines of a file that are objects, from 0.

    Args:
        path: May be missing: no objects.
        class_ids: By the number in the file.
        image_id: Of the image that is labelled.
        problems: Told what is wrong with the other lines.
    """
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        message = f"{path} is no text ({error}); restore the file"
        problems.error("unreadable annotation", message, file=path, image_id=image_id)
        return ()
    good, overhanging = [], []
    for number, text in enumerate(lines):
        line = parse_line(text, class_ids) if text.strip() else None
        if isinstance(line, Fault):
            tell_fault(line, f"{path}: line {number + 1}", path, image_id, problems)
        elif line is not None:
            good.append(number)
            if line.overhangs:
                overhanging.append(number + 1)
    if overhanging:
        message = (
            f"{path}: line {overhanging[0]} has coordinates outside [0, 1] "
            f"({len(overhanging)} lines); they are moved to the border of the image"
        )
        problems.warn("mask outside image", message, file=path, image_id=image_id)
    return tuple(good)


def parse_line(text: str, class_ids: dict[int, int]) -> Line | Fault:
    """One object, or what is wrong with it.

    Args:
        text: Not blank.
        class_ids: By the number in the file.
    """
    try:
        value, *numbers = (float(word) for word in text.split())
    except ValueError:
        message = "is not a class and coordinates; write 'class x y x y x y ...'"
        return Fault("unreadable annotation", message, is_error=True)
    if value not in class_ids:
        known = f"{len(class_ids)} classes from {min(class_ids)} to {max(class_ids)}"
        message = f"has class {value:g}, but 'names' lists {known}; correct it or add the class"
        return Fault("unknown class", message, is_error=True)
    return _polygon(class_ids[int(value)], numbers)


def _polygon(class_id: int, numbers: Sequence[float]) -> Line | Fault:
    if len(numbers) == NUMBERS_OF_A_BOX:
        message = "has no mask, only a box; give polygons, since masks cannot be learnt from boxes"
        return Fault("no mask", message, is_error=True)
    if len(numbers) % 2:
        message = f"has {len(numbers)} coordinates; x and y come in pairs"
        return Fault("bad polygon", message, is_error=True)
    if not all(map(math.isfinite, numbers)):
        return Fault("bad polygon", "has a coordinate that is no number; correct it", True)
    if len(set(zip(numbers[::2], numbers[1::2], strict=True))) < 3:
        message = f"has {len(numbers) // 2} points, fewer than 3 different ones, and is left out"
        return Fault("degenerate polygon", message, is_error=False)
    low, high = min(numbers), max(numbers)
    if low < -OVERHANG or high > 1 + OVERHANG:
        message = (
            f"has coordinates from {low:g} to {high:g}, far outside [0, 1]; divide x by the width "
            f"and y by the height of the image"
        )
        return Fault("mask outside image", message, is_error=True)
    points = np.asarray(numbers, np.float64).reshape(-1, 2)
    return Line(class_id, points, overhangs=low < 0 or high > 1)
