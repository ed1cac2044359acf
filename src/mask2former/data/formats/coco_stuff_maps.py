"""Maps of COCO-Stuff: what the value of a pixel means in each release."""

import zlib
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.images import read_label_map

Coding: TypeAlias = Literal["category id - 1", "category id", "place"]
"""What a pixel's value is; a place is that of the class among the 171."""
TABLE = "coco_stuff_10k"
UNLABELLED: dict[Coding, int] = {"category id - 1": 255, "category id": 0, "place": 255}
"""The value of pixels that are not scored.

Source:
    The README of COCO-Stuff (maps of 2017), that of COCO-Stuff 10k (MATLAB files), and
    detectron2's and mmsegmentation's scripts (places).
"""


def read_map(path: Path, coding: Coding) -> SegmentMap:
    """A class per pixel: ids are class ids + 1, id 0 is unlabelled.

    Args:
        path: A PNG, or a MATLAB file with the matrix S.
        coding: What its values are.

    Raises:
        FileNotFoundError: There is no such map.
        ValueError: It is damaged, or has a value that is no class.
    """
    values = _read_matlab(path) if path.suffix == ".mat" else read_label_map(path)
    classes = class_table(TABLE)
    class_ids = {
        "category id - 1": {c - 1: i for i, c in enumerate(classes.category_ids)},
        "category id": classes.class_id_by_category(),
        "place": {i: i for i in range(len(classes))},
    }[coding]
    present = [v for v in np.unique(values).tolist() if v != UNLABELLED[coding]]
    unknown = [value for value in present if value not in class_ids]
    if unknown:
        raise ValueError(
            f"map {path} has pixel value {unknown[0]}; COCO-Stuff's maps of this layout hold the "
            f"{coding} of its {len(classes)} classes and {UNLABELLED[coding]} for what is not "
            f"labelled: restore the map, or name the format png-masks if the classes are others"
        )
    table = np.zeros(256, np.int32)
    table[present] = [class_ids[value] + 1 for value in present]
    ids = table[values]
    return SegmentMap(
        ids, tuple(SegmentLabel(i, i - 1) for i in np.unique(table[present]).tolist())
    )


def _read_matlab(path: Path) -> NDArray[np.integer]:
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file at {path}; restore it")
    import scipy.io  # half a second, and one release alone needs it

    broken = (scipy.io.matlab.MatReadError, KeyError, ValueError, TypeError, IndexError)
    try:
        values = scipy.io.loadmat(path, variable_names=["S"])["S"]
    except (*broken, OSError, zlib.error, NotImplementedError) as error:
        raise ValueError(
            f"cannot read the matrix S of {path} ({error}); restore the file of COCO-Stuff 10k"
        ) from error
    return np.asarray(values).astype(np.int32)
