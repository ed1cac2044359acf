"""Broken data sets are checked: every fault is named, with its file and its mend."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mask2former.check.check_folder import Check, check_folder
from mask2former.check.report import as_json, write_report
from mask2former.check.survey import survey
from mask2former.data.open import open_dataset, open_every_split
from mask2former.data.problems import Collected, Problem
from mask2former.data.shards.index import Kind
from mask2former.data.shards.pack import pack
from mask2former.data.shards.plan import make_plan
from mask2former.files import usable_folder


@pytest.fixture(scope="module")
def found(broken_coco: Path) -> Check:
    return check_folder(broken_coco, preset="tiny", task="instance", workers=0)


def named(check: Check, kind: str) -> list[Problem]:
    return [f.problem for f in check.findings if f.kind == kind]


# (kind, is an error, file, words of the mend)
FAULTS = [
    ("missing image", True, "missing.jpg", "add"),
    ("unreadable image", True, "cut_off.jpg", "replace it or take it out"),
    ("size mismatch", True, "other_size.jpg", "give the image that was annotated"),
    ("unknown class", True, "instances_train.json", "correct it or add the category"),
    ("annotation without image", True, "instances_train.json", "add the image or take"),
    ("image without annotation", False, "not_listed.jpg", ""),
    ("no mask", True, "instances_train.json", "give it a 'segmentation'"),
    ("bad run lengths", True, "instances_train.json", "damaged"),
    ("mask outside image", True, "outside.jpg", "correct the outline"),
    ("mask outside image", False, "outside.jpg", "check that outline and image belong"),
    ("degenerate polygon", False, "flat.jpg", "draw it again or take it out"),
    ("duplicate object", False, "twice.jpg", "take one of them out"),
    ("overlapping objects", False, "twice.jpg", "correct the outlines if"),
    ("more objects than queries", False, "crowded.jpg", "raise model.num_queries"),
    ("vanishing objects", False, "tiny.jpg", "raise data.test_size"),
    ("empty image", False, "empty.jpg", "annotate it if something is there"),
    ("duplicate image", False, "copy.jpg", "take one out"),
    ("similar image", False, "recompressed.jpg", "take one out"),
    ("leaked image", True, "leaked.jpg", "take it out of one"),
    ("leaked image", False, "alike.jpg", "take it out of one split"),
    ("unused class", False, "'never used'", "annotate some, or take the class out"),
    ("class in one split", False, "'only scored'", "move some of its images"),
    ("class imbalance", False, "'rare' has 1", "annotate more"),
]


@pytest.mark.parametrize(("kind", "is_error", "place", "mend"), FAULTS)
def test_every_fault_is_named_with_its_file_and_its_mend(
    found: Check, kind: str, is_error: bool, place: str, mend: str
) -> None:
    problems = [problem for problem in named(found, kind) if problem.is_error == is_error]
    assert problems
    assert any(place in p.message and mend in p.message for p in problems), problems


def test_every_duplicate_id_and_bad_polygon_is_named(found: Check) -> None:
    assert named(found, "duplicate id")
    assert any("5 numbers" in problem.message for problem in named(found, "bad polygon"))


def test_good_images_are_blamed_for_nothing(found: Check) -> None:
    blamed = {str(p.file) for p in (f.problem for f in found.findings)}
    assert not any(file.endswith(("good.jpg", "only.jpg")) for file in blamed)


def test_what_is_found_does_not_depend_on_the_number_of_processes(broken_coco: Path) -> None:
    alone, shared = (
        check_folder(broken_coco, preset="tiny", task="instance", workers=workers).findings
        for workers in (0, 2)
    )
    assert alone == shared


def test_faulty_masks_are_named(write_masks: Callable[[], Path]) -> None:
    found = check_folder(write_masks(), workers=0)
    expected = [
        ("unknown.png has pixel value 17", "add the class to the class list"),
        ("cut.png", "replace it or take it out"),
        ("other_size.jpg", "give the image that was annotated"),
        ("no_mask.jpg has no annotation", "add it or take the image out"),
        ("no_image.png", "add the images or take the files out"),
        ("ignored.jpg has no labelled pixel", "annotate it"),
    ]
    messages = [f.problem.message for f in found.findings]
    for place, mend in expected:
        assert [m for m in messages if place in m and mend in m], (place, messages)
    files = {str(f.problem.file).rpartition("/")[2] for f in found.findings}
    assert {"unknown.png", "cut.png", "other_size.jpg", "no_mask.jpg", "no_image.png"} <= files
    assert any("255" in note for note in found.notes)
    (unknown,) = named(found, "unknown class")
    assert str(unknown.file).endswith("unknown.png")
    assert unknown.is_error


def test_a_clean_folder_has_no_findings(clean_coco: Path) -> None:
    found = check_folder(clean_coco, workers=0)
    assert found.findings == ()
    answer = as_json(found)
    assert answer["format"] == "coco-instance"
    assert answer["task"] == "instance"
    assert answer["splits"] == {
        "train": {"images": 3, "objects": 6},
        "val": {"images": 3, "objects": 6},
    }
    assert answer["errors"] == answer["warnings"] == []


def test_overlaps_are_a_warning_where_a_pixel_goes_to_one_object(broken_coco: Path) -> None:
    found = check_folder(broken_coco, preset="tiny", task="panoptic", workers=0)
    overlaps = [f for f in found.findings if f.problem.kind == "overlapping objects"]
    assert {f.severity for f in overlaps} == {"warning"}
    assert any("twice.jpg" in f.problem.message for f in overlaps)


def test_the_report_lists_every_problem_for_programs(found: Check, tmp_path: Path) -> None:
    page = write_report(found, usable_folder(tmp_path / "report"))
    assert page == tmp_path / "report" / "report.html"
    content = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert len(content["problems"]) == sum(group.count for group in found.groups)
    kinds = {problem["kind"] for problem in content["problems"]}
    assert kinds == {kind for kind, *_ in FAULTS} | {"duplicate id", "bad polygon"}
    assert content["statistics"]["train"]["empty"] >= 1
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]


def test_a_split_whose_file_is_damaged_is_told_and_the_others_are_checked(
    clean_coco: Path,
) -> None:
    (clean_coco / "annotations" / "instances_val.json").write_text(
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}, '
        '{"id": 2, "name": "<script>alert(1)</script>"}]}',
        encoding="utf-8",
    )
    found = check_folder(clean_coco, workers=0)
    assert list(found.splits) == ["train"]
    errors = [f.problem for f in found.findings if f.problem.is_error]
    assert any("instances_val.json" in problem.message for problem in errors)


def test_masks_that_went_away_are_missing(write_masks: Callable[[], Path]) -> None:
    folder = write_masks()
    dataset = open_dataset(folder, "train", problems=Collected())
    (folder / "masks/train/good.png").unlink()
    (folder / "images/train/ignored.jpg").unlink()
    (found,) = survey({"train": dataset}, "semantic", workers=0).values()
    kinds = {image.image_id: [fault.kind for fault in image.findings] for image in found.images}
    assert kinds["good"] == ["missing annotation"]
    assert kinds["ignored"] == ["missing image"]


def test_a_folder_without_splits_is_checked_as_one(write_masks: Callable[[], Path]) -> None:
    folder = write_masks()
    for part in ("images", "masks"):
        for path in (folder / part / "train").iterdir():
            path.rename(folder / part / path.name)
    found = check_folder(folder, workers=0)
    assert list(found.splits) == ["all"]
    assert len(found.splits["all"].images) == 5
    divided = check_folder(folder, fractions=(0.6, 0.4), workers=0)
    assert {name: len(split.images) for name, split in divided.splits.items()} == {
        "train": 3,
        "val": 2,
    }
    of_reader = [f.problem for f in divided.findings if not f.places and f.problem.is_error]
    assert {p.message for p in of_reader} == {
        f.problem.message for f in found.findings if not f.places and f.problem.is_error
    }


def test_an_image_whose_objects_were_left_out_is_not_called_empty(clean_coco: Path) -> None:
    path = clean_coco / "annotations" / "instances_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for annotation in content["annotations"][:2]:
        annotation["category_id"] = 99
    path.write_text(json.dumps(content), encoding="utf-8")
    found = check_folder(clean_coco, workers=0)
    assert len(named(found, "unknown class")) == 2
    assert named(found, "empty image") == []


@pytest.mark.parametrize("kind", ["webdataset", "tfrecord"])
def test_shards_are_compared_with_their_hashes(
    clean_coco: Path, tmp_path: Path, kind: Kind
) -> None:
    datasets = open_every_split(clean_coco)
    plan = make_plan(datasets, kind, num_shards=1)
    index = pack(datasets, plan, tmp_path / "shards")
    assert check_folder(tmp_path / "shards", workers=0).findings == ()
    changed = tmp_path / "shards" / index.splits["val"].shards[0].name
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + b"?")
    (problem,) = named(check_folder(tmp_path / "shards", workers=0), "changed shard")
    assert problem.is_error
    assert problem.file == str(changed)
    assert "has changed; restore it" in problem.message


def test_what_the_task_makes_of_open_pixels_is_said(clean_coco: Path) -> None:
    notes = {
        task: " ".join(check_folder(clean_coco, task=task, workers=0).notes)
        for task in ("instance", "panoptic", "semantic")
    }
    assert "Objects may overlap: each keeps all of its pixels." in notes["instance"]
    assert "Pixels of no object are background, which is no class" in notes["instance"]
    assert "Crowds" not in notes["instance"]
    assert "Unlabelled pixels belong to no mask in training" in notes["panoptic"]
    assert "Crowds, where there are any, are pixels of their class." in notes["semantic"]
    path = clean_coco / "annotations" / "instances_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content), encoding="utf-8")
    found = check_folder(clean_coco, task="instance", workers=0)
    assert any(note.startswith("Crowds are not trained on") for note in found.notes)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data set of a known format"):
        check_folder(tmp_path)
