from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mask2former.check.fast import LOOKED_AT, fast_check
from mask2former.data.annotations import Instances
from mask2former.data.dataset import Record, TaskDataset
from mask2former.data.derive import for_task
from mask2former.data.open import open_dataset
from mask2former.data.problems import Collected, Strict


def open_natural(folder: Path, split: str) -> TaskDataset:
    return for_task(open_dataset(folder, split, problems=Collected()), "instance")


def test_a_clean_data_set_has_no_problems(clean_coco: Path) -> None:
    train, val = (open_natural(clean_coco, split) for split in ("train", "val"))
    assert fast_check(train, num_queries=100, validation=val) == []


def test_faults_in_the_first_images_are_found(broken_coco: Path) -> None:
    train, val = (open_natural(broken_coco, split) for split in ("train", "val"))
    assert len(train) <= LOOKED_AT
    problems = fast_check(train, num_queries=20, validation=val)
    kinds = {(problem.kind, problem.is_error) for problem in problems}
    assert kinds == {
        ("more objects than queries", False),
        ("unreadable image", True),
        ("size mismatch", True),
        ("mask outside image", True),
        ("mask outside image", False),
        ("degenerate polygon", False),
        ("duplicate object", False),
    }
    first = next(problem for problem in problems if problem.is_error)
    with pytest.raises(ValueError, match=r"cut_off\.jpg"):
        Strict().take(first)


def test_training_images_that_are_scored_are_told(clean_coco: Path) -> None:
    train = open_natural(clean_coco, "train")
    held_out = replace(train, split="val")
    (problem,) = fast_check(train, num_queries=100, validation=held_out)
    assert problem.kind == "leaked image"
    assert "3 of the 3 images of split val are also in train" in problem.message


def test_crowded_images_are_told_once(clean_coco: Path) -> None:
    train = open_natural(clean_coco, "train")
    problems = fast_check(train, num_queries=1)
    [summary] = problems
    assert summary.message.startswith("3 images of split train show more objects than the model")
    assert "most of them" in summary.message


def test_faults_of_a_kind_are_one_line(clean_coco: Path) -> None:
    train = open_natural(clean_coco, "train")

    def decode_flat(record: Record) -> Instances:
        annotations = train.decode(record)
        assert isinstance(annotations, Instances)
        line = np.array([[1.0, 1.0], [30.0, 1.0], [30.0, 1.0]])
        flat = tuple(replace(annotations.items[0], mask=(line + i,)) for i in range(20))
        return replace(annotations, items=flat)

    flawed = replace(train, decode=decode_flat)
    [problem] = fast_check(flawed, num_queries=100)
    assert problem.kind == "degenerate polygon"
    # 20 objects in each of 3 images
    assert problem.message.endswith(
        "has a polygon without area; draw it again or take it out (60 of this kind in all 3 "
        f"images that were looked at; see `mask2former data check {clean_coco}`)"
    )
