"""The ground truth of real data, scored against itself."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former.data.open import DataFolder, natural_tasks
from mask2former.evaluation.scored_data import open_scored
from mask2former.evaluation.scores import Scores
from mask2former.evaluation.truth import ScoredImages, Truth
from mask2former.masks.rle import rle_area
from mask2former.tasks import Task
from mask2former.types import InstanceResult, PanopticResult, Result, Segment, SemanticResult

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "data"
FOLDERS = (
    "ade20k_sample", "camvid", "caps_video", "cityscapes_sample", "coco_instances",
    "coco_panoptic", "davis_video", "labelme_instances", "labelme_instances/data_annotated",
    "labelme_instances/data_dataset_coco", "labelme_instances/data_dataset_voc", "labelme_video",
    "mapillary_sample", "nuts_coco", "pan_clips", "panopticapi_sample", "penn_fudan",
)  # fmt: skip
FEW_DETECTIONS = ("AR1", "AR10")
"""Recall of so few objects an image cannot be whole where there are more."""

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
    ),
]


def as_results(truth: Truth, tasks: list[Task]) -> dict[Task, Result]:
    """What a model would say that knows everything."""
    results: dict[Task, Result] = {}
    if "semantic" in tasks:
        # where nothing is scored, anything may be said
        results["semantic"] = SemanticResult(torch.from_numpy(truth.semantic_map.clip(0)))
    if "panoptic" in tasks:
        ids, labels = truth.panoptic_map
        labels = [label for label in labels if not label.is_crowd]
        kept = np.where(np.isin(ids, [label.id for label in labels]), ids, 0).astype(np.int64)
        areas = {label.id: int((kept == label.id).sum()) for label in labels}
        segments = [
            Segment(label.id, label.class_id, 1.0, areas[label.id], (0.0, 0.0, 0.0, 0.0))
            for label in labels
            if areas[label.id]
        ]
        results["panoptic"] = PanopticResult(torch.from_numpy(kept), segments)
    if "instance" in tasks:
        objects = [o for o in truth.objects if not o.is_crowd]
        segments = [
            Segment(i, o.class_id, 1.0, rle_area(o.rle), o.box) for i, o in enumerate(objects)
        ]
        results["instance"] = InstanceResult(*truth.size, [o.rle for o in objects], segments)
    return results


def every_split(folder: Path, task: Task) -> list[ScoredImages]:
    opened = DataFolder(folder, task=task)
    return [open_scored(opened, split, None, task) for split in opened.splits()]


@pytest.mark.parametrize("name", FOLDERS)
def test_ground_truth_scores_100_against_itself(name: str) -> None:
    defined: set[str] = set()
    for task in natural_tasks(SAMPLES / name):
        for images in every_split(SAMPLES / name, task):
            scores = Scores(images, images.classes)
            for index in range(len(images)):
                truth = images.truth(index)
                scores.update(as_results(truth, scores.tasks), truth)
            found = scores.compute()
            for of, values in {"all": found.metrics, **found.per_class}.items():
                for metric, value in values.items():
                    if not math.isnan(value) and metric not in FEW_DETECTIONS:
                        assert value == pytest.approx(100, abs=1e-9), (task, of, metric)
                        defined.add(metric)
    assert defined
