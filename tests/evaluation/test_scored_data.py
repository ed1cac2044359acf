"""Which images of which folders a trained model is scored on."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.config import Data
from mask2former.config_io import compose_run
from mask2former.data.dataset import Dataset
from mask2former.evaluation.scored_data import open_scored_data
from mask2former.evaluation.truth import ScoredImages
from mask2former.inference.segmenter import TrainedOn
from mask2former.masks.rle import rle_area
from mask2former.training.loader import open_splits

AUGMENTATION = {"crop": (32, 32), "short_sides": (32,)}


def write_masks(folder: Path, count: int, split: str = "", road: str = "road") -> Path:
    for place in ("images", "masks"):
        (folder / place / split).mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(["sky", road]))
    for i in range(count):
        picture = Image.fromarray(np.resize(np.array([0, 1], np.uint8), (8, 10)))
        picture.save(folder / "masks" / split / f"{i:02}.png")
        picture.save(folder / "images" / split / f"{i:02}.png")
    return folder


def trained_on(data: Data) -> TrainedOn:
    return TrainedOn(data.paths, data.format, data.split_fractions, data.train_split)


def data_of(*folders: Path, **options: object) -> Data:
    changes = {
        "preset": "tiny",
        "data": {"paths": folders, "augmentation": AUGMENTATION, **options},
    }
    return compose_run(changes, lambda: ("semantic",)).data


def scored(*folders: Path, run: TrainedOn, split: str | None = None) -> Dataset:
    return open_scored_data(folders, split, run, "semantic").main


def images(dataset: Dataset) -> set[str]:
    return {str(record.image) for record in dataset.records}


@pytest.mark.parametrize("split", ["", "val", "test"])
@pytest.mark.parametrize("fractions", [None, (0.6, 0.4)])
def test_the_images_that_a_run_held_out_are_found_again(tmp_path, split, fractions) -> None:
    folder = write_masks(tmp_path / "set", 10, split)
    data = data_of(folder, split_fractions=fractions)
    validation = open_splits(data, "semantic").validation
    assert validation is not None
    again = folder / ".." / "set"
    for folders in ((folder,), (again,), ()):
        found = scored(*folders, run=trained_on(data))
        assert {Path(image).name for image in images(found)} == {
            Path(image).name for image in images(validation.main)
        }
        assert not [note for note in found.notes if "--split" in note]


def test_a_neighbour_with_a_split_to_train_on_was_not_divided(tmp_path: Path) -> None:
    folders = write_masks(tmp_path / "a", 10), write_masks(tmp_path / "b", 10, "train")
    data = data_of(*folders)
    validation = open_splits(data, "semantic").validation
    assert validation is not None
    found = scored(*folders, run=trained_on(data))
    assert images(found) == images(validation.main)
    assert f"{folders[1]} has no split 'val' and is not scored" in found.notes


def test_other_data_are_scored_whole_unless_they_have_splits(tmp_path: Path) -> None:
    run = TrainedOn((tmp_path / "gone",), split_fractions=(0.5, 0.5))
    unsplit = write_masks(tmp_path / "unsplit", 4)
    found = scored(unsplit, run=run)
    assert len(found) == 4
    assert found.notes[-1] == f"{unsplit} has no splits: all 4 images are scored"
    assert len(scored(unsplit, run=run, split="all")) == 4
    split = write_masks(write_masks(tmp_path / "split", 3, "train"), 2, "valid")
    assert len(scored(split, run=run)) == 2
    assert len(scored(split, run=run, split="training")) == 3


def test_a_split_that_no_folder_has_is_refused_with_those_that_they_have(tmp_path: Path) -> None:
    run = TrainedOn()
    test, whole = write_masks(tmp_path / "test", 2, "test"), write_masks(tmp_path / "whole", 2)
    with pytest.raises(ValueError, match=rf"no split 'val' to score: {test} has 'test'; name one"):
        scored(test, run=run)
    with pytest.raises(ValueError, match=r"test has 'test'; .*whole has 'all'; name one of these"):
        scored(test, whole, run=run, split="val")
    with pytest.raises(ValueError, match="no data; give --data DIR"):
        scored(run=run)


def test_images_that_were_trained_on_are_told(tmp_path: Path) -> None:
    seen = "the model was trained on images of split"
    several = write_masks(tmp_path / "several", 10)
    one = write_masks(tmp_path / "one", 1)
    everything = trained_on(data_of(several, train_split="all"))
    cases = [
        (several, trained_on(data_of(several)), None, 1, False),
        (several, trained_on(data_of(several)), "train", 9, True),
        (several, trained_on(data_of(several)), "all", 10, True),
        (several, everything, None, 10, True),
        (several, everything, "all", 10, True),
        (one, trained_on(data_of(one)), None, 1, True),
        (several, trained_on(data_of(one)), None, 10, False),
    ]
    for folder, run, split, count, was_seen in cases:
        found = scored(folder, run=run, split=split)
        assert (len(found), any(note.startswith(seen) for note in found.notes)) == (count, was_seen)


def test_classes_of_one_folder_only_are_told(tmp_path: Path) -> None:
    folders = write_masks(tmp_path / "a", 1), write_masks(tmp_path / "b", 1, road="river")
    found = scored(*folders, run=TrainedOn())
    assert found.classes.names == ("sky", "road", "river")
    assert found.notes[-1].startswith("2 classes are annotated in one folder only;")


def write_coco(folder: Path, names: tuple[str, ...] = ("ball",)) -> Path:
    """Two images, half covered by a ball in the panoptic map and wholly in the instance file."""
    for place in ("val2017", "annotations/panoptic_val2017"):
        (folder / place).mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 6, "height": 4} for i in (3, 5)]
    ids = np.zeros((4, 6, 3), np.uint8)
    ids[:2, :, 0] = 1
    for image in images:
        Image.new("RGB", (6, 4)).save(folder / "val2017" / image["file_name"])
        Image.fromarray(ids).save(folder / "annotations/panoptic_val2017" / image["file_name"])
    segment = {"id": 1, "category_id": 9, "area": 12, "bbox": [0, 0, 6, 2], "iscrowd": 0}
    ball = {"id": 9, "name": "ball", "isthing": 1}
    panoptic = {
        "images": images,
        "categories": [{"id": 4, "name": "sky", "isthing": 0}, ball],
        "annotations": [
            {"image_id": i["id"], "file_name": i["file_name"], "segments_info": [segment]}
            for i in images
        ],
    }
    whole = [[0, 0, 6, 0, 6, 4, 0, 4]]
    instances = {
        "images": images[::-1],
        "categories": [{"id": 9, "name": name} for name in names],
        "annotations": [
            {
                "id": i["id"], "image_id": i["id"], "category_id": 9, "iscrowd": 0, "area": 24,
                "bbox": [0, 0, 6, 4], "segmentation": whole,
            }
            for i in images
        ],
    }  # fmt: skip
    for name, content in (("panoptic", panoptic), ("instances", instances)):
        (folder / f"annotations/{name}_val2017.json").write_text(json.dumps(content))
    return folder


def test_objects_of_cocos_panoptic_images_are_those_of_its_instance_file(tmp_path: Path) -> None:
    found = open_scored_data([write_coco(tmp_path)], None, TrainedOn(), "panoptic", "coco-panoptic")
    truth = found.truth(0)
    assert truth.image_id == 3
    assert [(o.class_id, rle_area(o.rle)) for o in truth.objects] == [(0, 24)]
    assert (truth.semantic_map == 1).sum() == 12
    told = "objects are compared with those of the instance annotations of 'val'"
    assert told in found.main.notes


def truths(found: ScoredImages) -> list[list[int]]:
    """Areas of the true objects by image: 24 as annotated, 12 as visible."""
    return [[rle_area(o.rle) for o in found.truth(i).objects] for i in range(len(found))]


def open_coco(folder: Path) -> tuple[list[list[int]], str]:
    found = open_scored_data([folder], None, TrainedOn(), "panoptic", "coco-panoptic")
    return truths(found), found.main.notes[-1]


def change(folder: Path, edit: Callable[[dict], object], split: str = "val2017") -> None:
    path = folder / f"annotations/instances_{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


VISIBLE = "objects are compared with what is visible of them, not with the instance annotations: "


def test_an_instance_file_of_other_classes_is_left_alone_and_told(tmp_path: Path) -> None:
    areas, note = open_coco(write_coco(tmp_path, names=("bird",)))
    assert areas == [[12], [12]]
    assert note.startswith(VISIBLE)
    assert note.endswith(
        "than the things of the panoptic annotations: one of the two lacks ball, bird"
    )


def test_category_ids_may_differ_between_the_two_files(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)

    def renumber(content: dict) -> None:
        for entry in (*content["categories"], *content["annotations"]):
            entry["category_id" if "image_id" in entry else "id"] = 77

    change(folder, renumber)
    assert open_coco(folder)[0] == [[24], [24]]


FAULTS = {
    "is not valid JSON": None,
    "missing are 5": lambda c: c["images"].pop(0),
    "has category id 999": lambda c: c["annotations"][0].update(category_id=999),
    "has no mask": lambda c: c["annotations"][0].update(segmentation=[]),
    r"size \(h, w\) = \(4, 9\)": lambda c: c["images"][0].update(width=9),
    "has no list 'annotations'": lambda c: c.pop("annotations"),
    "no categories": lambda c: c["categories"].clear(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_instance_file_refuses_no_panoptic_evaluation(tmp_path: Path, fault: str) -> None:
    folder = write_coco(tmp_path)
    edit = FAULTS[fault]
    if edit is None:
        (folder / "annotations/instances_val2017.json").write_text('{"images": [')
    else:
        change(folder, edit)
    areas, note = open_coco(folder)
    assert areas == [[12], [12]]
    assert note.startswith(VISIBLE)
    assert re.search(fault, note)


def test_images_and_objects_that_the_panoptic_split_lacks_are_not_looked_at(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)

    def add(content: dict) -> None:
        more = {"id": 99, "file_name": "gone.png", "width": 6, "height": 4}
        content["images"] += [more, {"id": 100}]
        content["annotations"].append({"id": 99, "image_id": 99, "segmentation": 3})

    change(folder, add)
    areas, note = open_coco(folder)
    assert areas == [[24], [24]]
    assert note == "objects are compared with those of the instance annotations of 'val'"


def test_images_of_other_splits_are_found(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    content = json.loads((folder / "annotations/instances_val2017.json").read_text())
    (folder / "annotations/instances_train2017.json").write_text(json.dumps(content))
    change(folder, lambda c: c["images"].pop(0))
    change(folder, lambda c: c["annotations"].pop())
    areas, note = open_coco(folder)
    assert areas == [[24], [24]]
    assert note.endswith("the instance annotations of 'val' and 'train'")


def test_a_run_and_its_evaluation_compare_with_the_same_objects(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    for path in (*folder.glob("annotations/*"), folder / "val2017"):
        path.rename(path.with_name(path.name.replace("val2017", "train2017")))
    changes = {
        "preset": "tiny",
        "data": {"path": folder, "augmentation": AUGMENTATION, "split_fractions": (0.5, 0.5)},
    }
    data = compose_run(changes, lambda: ("panoptic",)).data
    held_out = open_splits(data, "panoptic").validation
    assert held_out is not None
    again = open_scored_data([], None, trained_on(data), "panoptic")
    whole = open_scored_data([folder], "train", TrainedOn(), "panoptic")
    assert truths(held_out) == truths(again) == [[24]]
    assert truths(whole) == [[24], [24]]
