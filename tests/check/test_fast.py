from dataclasses import replace
from pathlib import Path

import pytest

from mask2former.check.fast import LOOKED_AT, fast_check
from mask2former.data.open import open_dataset
from mask2former.data.problems import Collected, Strict


def test_a_clean_data_set_has_no_problems(clean_coco: Path) -> None:
    train, val = (open_dataset(clean_coco, split) for split in ("train", "val"))
    assert fast_check(train, "instance", num_queries=100, validation=val) == []


def test_faults_in_the_first_images_are_found(broken_coco: Path) -> None:
    train, val = (
        open_dataset(broken_coco, split, problems=Collected()) for split in ("train", "val")
    )
    assert len(train) <= LOOKED_AT
    problems = fast_check(train, "instance", num_queries=20, validation=val)
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
    train = open_dataset(clean_coco, "train")
    held_out = replace(train, split="val")
    (problem,) = fast_check(train, "instance", num_queries=100, validation=held_out)
    assert problem.kind == "leaked image"
    assert "3 of the 3 images of split val are also in train" in problem.message


def test_crowded_images_are_told_once(clean_coco: Path) -> None:
    train = open_dataset(clean_coco, "train")
    problems = fast_check(train, "instance", num_queries=1)
    summary = [p for p in problems if "3 images of split train" in p.message]
    assert len(summary) == 1
    assert "most of them" in summary[0].message
