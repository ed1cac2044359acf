"""Many images, each segmented once, all kinds of files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.inference.predict_files import image_ids, needed_tasks, predict_files
from mask2former.inference.prediction import Prediction
from mask2former.inference.segmenter import Segmenter
from mask2former.types import Classes, InstanceResult, PanopticResult, Segment, SemanticResult

CLASSES = Classes(names=("sky", "nut"), category_ids=(7, 3), is_thing=(False, True))
SEGMENT = Segment(id=1, class_id=1, score=0.9, area=35, box=(0.0, 0.0, 7.0, 5.0))


class FakeSegmenter(Segmenter):
    """Finds one nut that fills the whole image, whatever the image."""

    task = "panoptic"
    classes = CLASSES

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str], float | None]] = []

    def check_tasks(self, tasks, score_threshold) -> None:
        if "semantic" in tasks and score_threshold is not None:
            raise ValueError("no scores")

    def predict_tasks(self, image, tasks, score_threshold):
        self.asked.append((image.name, tasks, score_threshold))
        pixels = np.asarray(Image.open(image))
        h, w = pixels.shape[:2]
        results = {
            "semantic": SemanticResult(torch.ones(h, w, dtype=torch.int64)),
            "panoptic": PanopticResult(torch.ones(h, w, dtype=torch.int64), [SEGMENT]),
            "instance": InstanceResult(h, w, [{"size": [h, w], "counts": b"0S1"}], [SEGMENT]),
        }
        return {task: Prediction(pixels, CLASSES, task, results[task]) for task in tasks}


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "in" / "a" / "0042.png", tmp_path / "in" / "b" / "nuts.png"]
    for path in paths:
        path.parent.mkdir(parents=True)
        Image.new("RGB", (7, 5), (200, 100, 50)).save(path)
    return paths


def test_each_image_is_segmented_once_for_all_files(images: list[Path], tmp_path: Path) -> None:
    segmenter = FakeSegmenter()
    kinds = ["overlay", "masks", "coco", "panoptic"]
    assert list(predict_files(segmenter, images, tmp_path / "out", kinds)) == images
    tasks = ["panoptic", "semantic", "instance"]
    assert segmenter.asked == [("0042.png", tasks, None), ("nuts.png", tasks, None)]
    for folder in ("overlay", "semantic", "panoptic"):
        written = sorted(path.name for path in (tmp_path / "out" / folder).iterdir())
        assert written == ["0042.png", "nuts.png"]
    coco = json.loads((tmp_path / "out" / "predictions.coco.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in coco] == [
        ("0042", 3),
        ("nuts", 3),
    ]
    panoptic = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [entry["image_id"] for entry in panoptic["annotations"]] == ["0042", "nuts"]


def test_what_the_model_cannot_do_is_refused_before_anything_is_written(
    images: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no scores"):
        list(
            predict_files(FakeSegmenter(), images, tmp_path / "out", ["masks"], score_threshold=0.5)
        )
    assert not (tmp_path / "out").exists()


def test_files_decide_which_tasks_are_needed() -> None:
    assert needed_tasks(["overlay"], "semantic") == ["semantic"]
    assert needed_tasks(["coco"], "semantic") == ["instance"]
    assert needed_tasks(["overlay", "coco", "panoptic"], "instance") == ["instance", "panoptic"]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000007", "12"], [7, 12]),
        (["7", "07"], ["7", "07"]),
        (["7", "nuts"], ["7", "nuts"]),
    ],
)
def test_ids_are_numbers_when_the_names_are_different_ones(names, ids) -> None:
    assert image_ids(names) == ids
