"""Maps of values per pixel in shards of other writers: which values are which classes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.formats.class_list import find_class_list, read_class_list
from mask2former.data.shards.pbtxt import find_pbtxt, read_pbtxt
from mask2former.masks.id_maps import MAX_ID
from mask2former.types import Classes

IGNORED = frozenset({0, 255})
"""What writers of panoptic maps give to unlabelled pixels, where no class has these ids."""


@dataclass(frozen=True)
class Listed:
    """What a file beside the shards says about classes."""

    names: dict[int, str]
    things: frozenset[int]
    ignored: int | None
    path: Path


def listed_classes(folder: Path) -> Listed | None:
    """Classes from `label_map.pbtxt`, or from a class list as beside PNG masks.

    Raises:
        ValueError: The file is damaged.
    """
    path = find_pbtxt(folder)
    if path is not None:
        return Listed(read_pbtxt(path), frozenset(), None, path)
    path = find_class_list(folder)
    if path is None:
        return None
    listed = read_class_list(path)
    return Listed(listed.names, listed.things, listed.ignore_label, path)


def make_classes(names: Mapping[int, str], things: Collection[int]) -> Classes:
    """Classes of these ids, ascending."""
    ids = tuple(sorted(names))
    return Classes(tuple(names[i] for i in ids), ids, tuple(i in things for i in ids))


def numbered(ids: Collection[int]) -> dict[int, str]:
    """Names for classes that have none."""
    return {i: f"class {i}" for i in sorted(ids)}


def choose_divisor(values: Collection[int], classes: Collection[int], where: object) -> int:
    """By what to divide `class x divisor + object`, which files do not tell.

    The smallest under which every value is of a known class: a divisor that is too small makes
    classes too large. 256 is COCO's, 1000 that of Cityscapes and ADE20K, 10000 MOTChallenge's.

    Args:
        values: All that occur.
        classes: Ids that are listed.
        where: For messages.

    Raises:
        ValueError: None fits.

    Source:
        DeepLab2, `data/dataset.py`.
    """
    known = set(classes) | IGNORED
    for divisor in (256, 1000, 10_000):
        if all(value // divisor in known for value in values):
            return divisor
    raise ValueError(
        f"{where} has panoptic values up to {max(values)}, which are no listed class times 256, "
        f"1000 or 10000 plus the number of an object; list all classes in label_map.pbtxt"
    )


def semantic_segments(
    values: NDArray[np.integer], class_ids: Mapping[int, int], ignored: Collection[int], where: str
) -> SegmentMap:
    """One segment a value.

    Args:
        values: Category id per pixel.
        class_ids: By category id.
        ignored: Values that are no class.
        where: For messages.

    Raises:
        ValueError: A value is unknown.
    """
    present = [value for value in np.unique(values).tolist() if value not in ignored]
    unknown = [value for value in present if value not in class_ids]
    if unknown:
        raise ValueError(
            f"{where} has pixel value {unknown[0]}, but the {len(class_ids)} classes have the "
            f"values {min(class_ids)} to {max(class_ids)} and {sorted(ignored)} is ignored; add "
            f"the class to the class list"
        )
    return SegmentMap(
        values.astype(np.int32), tuple(SegmentLabel(value, class_ids[value]) for value in present)
    )


def panoptic_segments(
    values: NDArray[np.int64],
    divisor: int,
    class_ids: Mapping[int, int],
    things: Collection[int],
    where: str,
) -> SegmentMap:
    """One segment a value `class x divisor + object`; values of no class are unlabelled.

    A thing without number is a crowd. Ids are the values + 1, so that in videos they stay.

    Args:
        values: Per pixel.
        divisor: Of the values.
        class_ids: By category id.
        things: Category ids.
        where: For messages.

    Raises:
        ValueError: A value is too large for an id, or of an unknown class.
    """
    present = np.unique(values).tolist()
    unknown = {v // divisor for v in present} - set(class_ids) - IGNORED
    if unknown or present[-1] >= MAX_ID:
        raise ValueError(
            f"{where} has category id {min(unknown, default=present[-1] // divisor)}, but the "
            f"{len(class_ids)} classes have the ids {min(class_ids)} to {max(class_ids)}; add the "
            f"class to the class list"
        )
    segments = tuple(
        SegmentLabel(
            value + 1,
            class_ids[value // divisor],
            is_crowd=value // divisor in things and value % divisor == 0,
        )
        for value in present
        if value // divisor in class_ids
    )
    return SegmentMap((values + 1).astype(np.int32), segments)
