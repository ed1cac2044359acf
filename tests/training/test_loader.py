"""From a configuration to what a run trains on and is scored on."""

import json
import logging
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.data.dataset import Dataset
from mask2former.data.open import open_dataset
from mask2former.training.loader import count_steps, make_loader, open_splits


def run_of(*folders: Path, task: str = "semantic", **data: object) -> Run:
    changes = {
        "preset": "tiny",
        "task": task,
        "data": {
            "paths": folders,
            "augmentation": {"crop": (32, 32), "short_sides": (32,)},
            **data,
        },
        "training": {"epochs": 2, "batch_size": 2},
    }
    return compose_run(changes, lambda: ("semantic",))


def write_masks(folder: Path, values: list[list[int]], names: list[str], split: str = "") -> None:
    """A picture and a mask for each list, whose pixels have its values; no split by default."""
    for place in ("images", "masks"):
        (folder / place / split).mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(names))
    for i, present in enumerate(values):
        mask = np.resize(np.array(present, np.uint8), (32, 40))
        Image.fromarray(mask).save(folder / "masks" / split / f"{i:02}.png")
        Image.fromarray(mask).save(folder / "images" / split / f"{i:02}.png")


def test_a_folder_without_splits_holds_images_out_and_the_run_remembers(tmp_path, caplog) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 20, ["sky", "road"])
    splits = open_splits(run_of(tmp_path / "set").data, "semantic")
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation)) == (18, 2)
    trained = {record.image_id for record in splits.train.dataset.records}
    assert not trained & {record.image_id for record in splits.validation.records}
    assert splits.data.split_fractions == (0.9, 0.1)
    [told] = caplog.messages
    assert "has no splits: 10% of the images are held out to validate; see --split" in told
    halves = open_splits(run_of(tmp_path / "set", split_fractions=(0.5, 0.5)).data, "semantic")
    assert (len(halves.train), halves.data.split_fractions) == (10, (0.5, 0.5))


def test_training_on_all_images_by_name_scores_none(tmp_path: Path, caplog) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 4, ["sky", "road"])
    splits = open_splits(run_of(tmp_path / "set", train_split="all").data, "semantic")
    assert (len(splits.train), splits.validation) == (4, None)
    assert splits.data.split_fractions is None
    assert "the run is not evaluated. --split 0.9/0.1 holds some training images" in caplog.text


def test_the_only_split_is_trained_on_and_told(tmp_path: Path, caplog) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 10, ["sky", "road"], "val")
    splits = open_splits(run_of(tmp_path / "set").data, "semantic")
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation)) == (9, 1)
    assert splits.data.split_fractions == (0.9, 0.1)
    assert "has only the split 'val', which is trained on: 10% of the images" in caplog.text


def test_training_data_alone_are_not_scored_until_they_are_divided(tmp_path: Path, caplog) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 10, ["sky", "road"], "train")
    splits = open_splits(run_of(tmp_path / "set").data, "semantic")
    assert (len(splits.train), splits.validation) == (10, None)
    assert splits.data.split_fractions is None
    assert "no validation split in" in caplog.text
    divided = open_splits(run_of(tmp_path / "set", split_fractions=(0.8, 0.2)).data, "semantic")
    assert divided.validation is not None
    assert (len(divided.train), len(divided.validation)) == (8, 2)


def test_several_folders_are_one_data_set(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    write_masks(tmp_path / "a", [[0, 1]] * 4, ["sky", "road"])
    write_masks(tmp_path / "c", [[0, 1]] * 2, ["car", "sky"], "training")
    write_masks(tmp_path / "c", [[0, 1]], ["car", "sky"], "validation")
    run = run_of(tmp_path / "a", tmp_path / "c", split_fractions=(0.5, 0.5))
    splits = open_splits(run.data, "semantic")
    assert splits.classes.names == ("sky", "road", "car")
    assert len(splits.train) == 2 + 2
    assert splits.validation is not None
    # half of a, and the validation split of c, which is not divided
    assert len(splits.validation) == 2 + 1
    assert f"{tmp_path / 'c'} keeps the splits that it has" in caplog.text
    batch = next(iter(make_loader(splits, run, start=0)))
    assert {str(image_id)[:2] for image_id in batch.image_ids} <= {"a/", "c/"}


def draws(run: Run, steps: int) -> Counter[str]:
    splits = open_splits(run.data, run.task)
    batches = islice(make_loader(splits, run, start=0), steps)
    return Counter(str(image_id) for batch in batches for image_id in batch.image_ids)


def test_folders_are_drawn_by_their_shares(tmp_path: Path) -> None:
    for name, count in (("a", 6), ("b", 2)):
        write_masks(tmp_path / name, [[0, 1]] * count, ["sky", "road"], "train")
    folders = (tmp_path / "a", tmp_path / "b")
    # an epoch is 8 images, which 4 steps draw
    by_size = draws(run_of(*folders), 4)
    assert set(by_size.values()) == {1}
    equal = draws(run_of(*folders, shares=(1, 1)), 4)
    assert sum(n for image, n in equal.items() if image.startswith("b/")) == 4


def test_images_of_rare_classes_come_more_often_and_make_an_epoch_longer(tmp_path: Path) -> None:
    values = [[0]] * 15 + [[0, 1]]
    write_masks(tmp_path / "a", values, ["sky", "road"], "train")
    # the road is in 1/16 of the images: sqrt(0.25 / (1 / 16)) = 2
    run = run_of(tmp_path / "a", repeat_threshold=0.25)
    splits = open_splits(run.data, "semantic")
    assert splits.repeats == [1.0] * 15 + [2.0]
    assert splits.epoch_length == 17
    assert count_steps(run, splits.epoch_length) == 17  # 2 epochs in batches of 2
    drawn = draws(run, 17)
    assert sorted(drawn.values()) == [2] * 15 + [4]


def test_shares_and_rare_classes_multiply(tmp_path: Path) -> None:
    write_masks(tmp_path / "a", [[0]] * 3 + [[0, 1]], ["sky", "road"], "train")
    write_masks(tmp_path / "b", [[0]] * 12, ["sky", "road"], "train")
    run = run_of(tmp_path / "a", tmp_path / "b", shares=(1, 1), repeat_threshold=0.25)
    # a has a quarter of the images and half of the draws: 2; the road repeats 2
    assert open_splits(run.data, "semantic").repeats == pytest.approx([2] * 3 + [4] + [8 / 12] * 12)


def test_images_without_object_teach_semantic_segmentation_what_is_background(tmp_path) -> None:
    (tmp_path / "train").mkdir()
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": 32, "width": 40} for i in range(2)
        ],
        "annotations": [
            {
                "id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "area": 64,
                "segmentation": [[0, 0, 8, 0, 8, 8, 0, 8]], "bbox": [0, 0, 8, 8],
            }
        ],
        "categories": [{"id": 1, "name": "nut"}],
    }  # fmt: skip
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    for i in range(2):
        Image.new("RGB", (40, 32)).save(tmp_path / "train" / f"{i}.png")
    semantic = open_splits(run_of(tmp_path).data, "semantic")
    assert (len(semantic.train), semantic.classes.names) == (2, ("nut", "background"))
    for task in ("instance", "panoptic"):
        assert len(open_splits(run_of(tmp_path, task=task).data, task).train) == 1


def test_validation_data_with_classes_of_their_own_are_refused(tmp_path, monkeypatch) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 2, ["sky", "road"], "train")
    write_masks(tmp_path / "set", [[0, 1]] * 2, ["sky", "road"], "val")

    def open_renamed(folder: Path, split: str, **options) -> Dataset:
        dataset = open_dataset(folder, split, **options)
        classes = replace(dataset.classes, names=("sky", "street"))
        return replace(dataset, classes=classes) if split == "val" else dataset

    monkeypatch.setattr("mask2former.training.loader.open_dataset", open_renamed)
    message = r"split val of .*set has the classes 'street', which split train .* does not have"
    with pytest.raises(ValueError, match=message):
        open_splits(run_of(tmp_path / "set").data, "semantic")


def test_no_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no data; give --data DIR, or data\.paths in"):
        open_splits(run_of().data, "semantic")
