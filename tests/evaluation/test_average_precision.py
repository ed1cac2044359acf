"""What ranking all detections costs; its numbers: `test_instance.py`."""

import tracemalloc

import numpy as np

from mask2former.evaluation.average_precision import accumulate
from mask2former.evaluation.matching import DETECTION, TRUE_OBJECT


def test_ranking_takes_little_more_memory_than_the_detections() -> None:
    detections = np.zeros(200_000, DETECTION)
    detections["score"] = np.random.default_rng(0).random(len(detections))
    detections["positive"][::9] = (1 << 58) - 1
    objects = np.zeros(30_000, TRUE_OBJECT)
    objects["ranges"] = 0b1111
    tracemalloc.start()
    try:
        precision, recall = accumulate(detections, objects, [0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # a ranked copy, and a few numbers of 8 bytes a detection; a number of 4 bytes for each of some
    # sixty lanes would be eight copies
    assert peak < 3 * detections.nbytes
    # every ninth detection finds one of 30,000 objects, in every lane
    assert np.all(recall[:, 0, -1] == len(detections[::9]) / len(objects))
    assert not np.isnan(precision[:58]).any()
