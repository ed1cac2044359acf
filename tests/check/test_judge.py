from dataclasses import replace
from pathlib import Path

import pytest

from mask2former.check.facts import ImageFacts
from mask2former.check.findings import Finding, group_findings
from mask2former.check.judge import class_findings, image_findings, judge
from mask2former.check.sizes import (
    evaluation_scales,
    training_scales,
    vanishing,
    vanishing_findings,
)
from mask2former.check.statistics import class_statistics, split_statistics
from mask2former.check.survey import Split, trained_on
from mask2former.config import Data, LargeScaleJitter, ShortestEdgeCrop, TestSize
from mask2former.config_io import compose_run
from mask2former.data.annotations import SegmentMap
from mask2former.data.dataset import Record, TaskDataset
from mask2former.data.problems import Problem
from mask2former.types import Classes
from surveyed import facts_of

CLASSES = Classes(("cat", "dog", "<b>"), (1, 2, 7), (True, True, False))
DATA = Data(
    augmentation=ShortestEdgeCrop(short_sides=(50, 100), max_long_side=400, crop=(64, 64)),
    test_size=TestSize(short_side=50, max_long_side=400),
)


def image(
    *objects: tuple[int, float],
    split: str = "train",
    index: int = 0,
    size: tuple[int, int] | None = (100, 120),
) -> ImageFacts:
    """With an object of each (class id, area)."""
    return facts_of(objects, split=split, index=index, size=size)


def unread(record: Record) -> SegmentMap:
    raise AssertionError(record)


def split_of(*images: ImageFacts, name: str = "train") -> Split:
    dataset = TaskDataset("png-masks", Path("d"), name, CLASSES, ("semantic",), (), unread)
    return Split(dataset, dataset, images)


def kinds(findings: list[Finding]) -> list[str]:
    return [f.problem.kind for f in findings]


def test_an_image_without_objects_is_a_warning() -> None:
    (found,) = image_findings(image(), "instance", 100)
    assert (found.problem.kind, found.severity) == ("empty image", "warning")


def test_emptiness_is_told_for_the_task() -> None:
    (found,) = image_findings(image(), "semantic", 100)
    assert "has no labelled pixel, so nothing is scored on it" in found.message
    (found,) = image_findings(image(), "panoptic", 100)
    assert "shows no segment" in found.message
    crowds = image((0, 9.0), (1, 9.0))
    crowds.objects["is_crowd"] = True
    (found,) = image_findings(crowds, "instance", 100)
    assert "shows crowds only (2)" in found.message


def test_an_image_that_the_reader_blamed_is_not_called_empty() -> None:
    splits = {"train": split_of(image((0, 900.0)), image(index=1), image(index=2))}
    run = compose_run({"preset": "tiny", "task": "instance"}, lambda: ("instance",))
    known = [Problem("unknown class", "...", is_error=True, image_id=2)]
    empty = [found for found in judge(splits, run, known) if found.kind == "empty image"]
    assert [found.problem.image_id for found in empty] == [1]


def test_unreadable_annotations_are_not_called_empty() -> None:
    assert not list(image_findings(replace(image(), is_annotated=False), "instance", 100))


@pytest.mark.parametrize(("count", "expected"), [(3, []), (4, ["more objects than queries"])])
def test_objects_beyond_the_queries_are_a_warning(count: int, expected: list[str]) -> None:
    facts = image(*[(0, 9.0)] * count)
    assert kinds(list(image_findings(facts, "instance", 3))) == expected


@pytest.mark.parametrize(
    ("task", "severity"), [("instance", "information"), ("panoptic", "warning")]
)
def test_overlaps_are_meant_for_instances_alone(task, severity: str) -> None:
    (found,) = image_findings(replace(image((0, 9.0)), overlap=5), task, 100)
    assert (found.problem.kind, found.severity) == ("overlapping objects", severity)
    assert "5 pixels" in found.problem.message


def test_classes_that_are_missing_somewhere_are_named() -> None:
    splits = {
        "train": split_of(image((0, 9.0), (1, 9.0))),
        "val": split_of(image((0, 9.0), split="val"), name="val"),
    }
    found = list(class_findings(splits, "semantic"))
    assert kinds(found) == ["class in one split", "unused class"]
    assert "'dog' is in split train but not in val, so it is learnt but never" in (
        found[0].problem.message
    )
    assert "'<b>'" in found[1].problem.message


def test_a_split_without_any_object_says_nothing_about_classes() -> None:
    full = image((0, 9.0), (1, 9.0), (2, 9.0))
    splits = {"train": split_of(full), "test": split_of(image(split="test"), name="test")}
    assert list(class_findings(splits, "semantic")) == []


def test_a_split_to_train_on_without_any_object_is_an_error() -> None:
    scored = image((0, 9.0), (1, 9.0), (2, 9.0), split="val")
    splits = {"train": split_of(image()), "val": split_of(scored, name="val")}
    (found,) = class_findings(splits, "instance")
    assert (found.kind, found.severity) == ("no objects", "error")
    assert "no image of split train shows an annotated object," in found.message
    (found,) = class_findings({"all": split_of(image(), name="all")}, "panoptic")
    assert "shows an annotated segment" in found.message
    crowds = image((0, 9.0))
    crowds.objects["is_crowd"] = True
    (found,) = class_findings({"train": split_of(crowds)}, "instance")
    assert "annotated object apart from crowds" in found.message


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("val", "train"), "train"), (("test", "trainval"), "trainval"), (("b", "a"), "b")],
)
def test_one_split_is_trained_on(names: tuple[str, ...], expected: str) -> None:
    splits = {name: split_of(image(), name=name) for name in names}
    assert trained_on(splits).name == expected


@pytest.mark.parametrize(("common", "is_told"), [(99, False), (100, True)])
def test_imbalance_is_told_from_a_hundred_times_on(common: int, is_told: bool) -> None:
    everything = image((1, 9.0), (2, 9.0), *[(0, 9.0)] * common)
    assert (
        "class imbalance" in kinds(list(class_findings({"a": split_of(everything)}, "instance")))
    ) == (is_told)


def test_objects_vanish_below_one_mask_pixel() -> None:
    # 100 x 120 becomes 50 x 60: areas shrink by 4; one mask pixel is 16 of the input
    facts = image((0, 63.9), (0, 64.0), (0, 3.9), (0, 1000.0))
    shares = vanishing(split_of(facts), evaluation_scales(DATA))
    assert (shares.gone, shares.below_stride) == (0.25, 0.5)
    # in training, half of the time nothing shrinks: 63.9 and 64 stay, 3.9 < 16 vanishes, not gone
    shares = vanishing(split_of(facts), training_scales(DATA))
    assert (shares.gone, shares.below_stride) == (0.125, 0.375)


def test_what_has_no_area_cannot_vanish() -> None:
    facts = image((0, 0.0), (0, 63.9), (0, 1000.0))
    assert vanishing(split_of(facts), evaluation_scales(DATA)).below_stride == 0.5
    assert vanishing_findings(split_of(image((0, 0.0), (0, 1000.0))), DATA) == []


def test_jitter_spreads_scales_evenly() -> None:
    jitter = LargeScaleJitter(crop=(200, 200), min_scale=0.5, max_scale=2.0)
    scales = training_scales(Data(augmentation=jitter))((100, 400))
    # the image fits the crop at a factor of 200 / 400
    assert (scales.min(), scales.max(), scales.mean()) == (0.25, 1.0, 0.625)


def test_vanishing_objects_name_the_worst_image() -> None:
    images = (image((0, 9.0), (0, 900.0)), image((0, 9.0), (0, 8.0), index=1))
    (found,) = vanishing_findings(split_of(*images), DATA)
    assert "75.0% of the objects" in found.problem.message
    assert found.problem.file == "train/1.jpg"
    assert vanishing_findings(split_of(image((0, 900.0))), DATA) == []
    assert vanishing_findings(split_of(image()), DATA) == []


def test_statistics_are_counted() -> None:
    crowd = image((0, 500.0), (1, 100.0))
    crowd.objects["is_crowd"][0] = True
    images = (image((0, 100.0), (0, 300.0)), crowd, image(size=None))
    split = split_of(*images)
    statistics = split_statistics(split, DATA)
    assert (statistics.images, statistics.objects, statistics.crowds) == (3, 3, 1)
    assert (statistics.empty, statistics.unreadable) == (1, 1)
    assert statistics.object_sides is not None
    assert statistics.object_sides.median == 10
    cat, dog, nothing = class_statistics({"train": split})["train"]
    assert (cat.images, cat.objects, cat.area) == (1, 2, 0.8)
    assert (dog.images, dog.objects, dog.area) == (1, 1, 0.2)
    assert (nothing.images, nothing.objects, nothing.area) == (0, 0, 0.0)


def test_findings_of_a_kind_are_one_group_with_the_worst_first() -> None:
    crowded = [image(*[(0, 9.0)] * n, index=n) for n in (4, 6, 5)]
    findings = [f for facts in crowded for f in image_findings(facts, "instance", 3)]
    (group,) = group_findings([*findings, *findings])
    assert group.count == 3
    assert group.files == ["train/6.jpg", "train/5.jpg", "train/4.jpg"]
    assert group.as_json()["message"].endswith("into tiles (and 2 more)")
