"""Strips of validation images: the image, what is true of it, what the model makes of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former.data.annotations import (
    Annotations,
    Instance,
    Instances,
    SegmentLabel,
    SegmentMap,
)
from mask2former.data.dataset import Record, TaskDataset
from mask2former.evaluation.truth import ScoredImages
from mask2former.inference.draw import draw_annotations, draw_masks, draw_result
from mask2former.inference.prediction import Prediction
from mask2former.tasks import Task
from mask2former.training.log.pictures import draw_validation
from mask2former.training.log.strips import extend_strip, read_strip
from mask2former.types import Classes, SemanticResult

CLASSES = Classes(("ball", "grass", "sky"), (1, 2, 3), (True, False, False))
SIZE = (450, 620)
SAME = {0: 0, 1: 1, 2: 2}
BALL = (np.array([[100.0, 100.0], [300.0, 100.0], [300.0, 300.0], [100.0, 300.0]]),)
SPOT = (np.array([[150.0, 150.0], [180.0, 150.0], [180.0, 180.0], [150.0, 180.0]]),)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def ground() -> np.ndarray:
    labels = np.full(SIZE, 2, np.int32)
    labels[200:] = 1
    return labels


def in_segments() -> SegmentMap:
    """Grass below sky, numbered as semantic annotations are."""
    return SegmentMap(ground() + 1, (SegmentLabel(2, 1), SegmentLabel(3, 2)))


def scored(annotations: Annotations, task: Task, classes: Classes = CLASSES) -> ScoredImages:
    def decode(_: Record) -> Annotations:
        return annotations

    record = Record(image_id=0, image=Path("0.jpg"), annotation=None)
    dataset = TaskDataset("png-masks", Path("data"), "val", classes, (task,), (record,), decode)
    return ScoredImages(task, {task: dataset})


def predicted(image: np.ndarray) -> Prediction:
    labels = torch.zeros(SIZE, dtype=torch.int64)
    return Prediction(image, CLASSES, "semantic", SemanticResult(labels))


def test_truth_looks_like_a_prediction_that_is_right() -> None:
    image = picture()
    right = SemanticResult(torch.from_numpy(ground()).long())
    expected = draw_result(image, right, CLASSES, min_score=0.5)
    truth = draw_annotations(image, in_segments(), CLASSES, SAME)
    assert np.array_equal(np.asarray(truth), np.asarray(expected))


def test_small_objects_are_drawn_over_large_ones_and_crowds_not_at_all() -> None:
    image = picture()
    spot, ball = (Instance(0, mask, is_crowd=False, area=1.0) for mask in (SPOT, BALL))
    drawn = [
        np.asarray(draw_annotations(image, Instances(*SIZE, items), CLASSES, SAME))
        for items in ((spot, ball), (ball, spot), (ball,), (replace(ball, is_crowd=True),), ())
    ]
    both, both_turned, large, crowd, nothing = drawn
    inside = np.zeros(SIZE, bool)
    inside[150:180, 150:180] = True
    # the two have their own shade of the class, by their order in the file
    for pixels in (both, both_turned):
        assert (pixels[inside] != large[inside]).any(axis=-1).mean() > 0.9
    assert np.array_equal(crowd, image)
    assert np.array_equal(nothing, image)


def test_crowded_segments_are_not_drawn() -> None:
    image = picture()
    segments = (SegmentLabel(2, 1, is_crowd=True), SegmentLabel(3, 2))
    annotations = replace(in_segments(), segments=segments)
    drawn = np.asarray(draw_annotations(image, annotations, CLASSES, SAME))
    assert np.array_equal(drawn[201:], image[201:])
    assert (drawn[:199] != image[:199]).any()


@pytest.mark.parametrize("number", [1, 2])
def test_a_strip_begins_with_the_image_and_its_truth_however_often_it_grows(
    tmp_path: Path, number: int
) -> None:
    path, image = tmp_path / "0.png", picture()
    images = scored(in_segments(), "semantic")
    for step in (10, 20, 30, 20)[: 2 * number]:
        draw_validation(path, predicted(image), images=images, index=0, step=step)
    columns = read_strip(path)
    assert [column.label for column in columns] == ["image", "ground truth", 10, 20]
    plain = draw_masks(image, [], [])
    small = plain.resize((round(620 * 400 / 450), 400))
    assert np.array_equal(np.asarray(columns[0].picture), np.asarray(small))
    truth = draw_annotations(image, in_segments(), CLASSES, SAME).resize(small.size)
    assert np.array_equal(np.asarray(columns[1].picture), np.asarray(truth))


def test_a_strip_that_was_cut_short_begins_anew(tmp_path: Path) -> None:
    path, image = tmp_path / "0.png", picture()
    extend_strip(path, draw_masks(image, [], []), "image")  # and the machine went off
    images = scored(in_segments(), "semantic")
    draw_validation(path, predicted(image), images=images, index=0, step=10)
    assert [column.label for column in read_strip(path)] == ["image", "ground truth", 10]


def test_truth_has_the_names_and_colors_of_the_model_s_classes(tmp_path: Path) -> None:
    image = picture()
    turned = Classes(("sky", "ball", "grass"), (3, 1, 2), (False, True, False))
    annotations = SegmentMap(ground() + 1, (SegmentLabel(2, 2), SegmentLabel(3, 0)))
    for name, images in (
        ("own", scored(in_segments(), "semantic")),
        ("turned", scored(annotations, "semantic", turned)),
    ):
        draw_validation(tmp_path / name, predicted(image), images=images, index=0, step=10)
    own, other = (read_strip(tmp_path / name)[1].picture for name in ("own", "turned"))
    assert np.array_equal(np.asarray(own), np.asarray(other))
