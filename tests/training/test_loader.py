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

from mask2former.check.fast import fast_check
from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import Format, Found
from mask2former.data.locate import FORMATS
from mask2former.data.open import DataFolder
from mask2former.fractions import Fractions
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


def test_a_folder_without_splits_holds_images_out(tmp_path: Path, caplog) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 14, ["sky", "road"])
    splits = open_splits(run_of(tmp_path / "set").data, "semantic")
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation)) == (13, 1)
    trained = {record.image_id for record in splits.train.dataset.records}
    assert not trained & {record.image_id for record in splits.validation.main.records}
    assert caplog.messages == [
        f"{tmp_path / 'set'} has no splits; held out to validate: 1 of 14 images (see --split)"
    ]
    halves = open_splits(run_of(tmp_path / "set", split_fractions=(0.5, 0.5)).data, "semantic")
    assert len(halves.train) == 7
    assert len(caplog.messages) == 1


def test_one_image_is_trained_and_scored_with_one_warning(tmp_path: Path, caplog) -> None:
    write_masks(tmp_path / "set", [[0, 1]], ["sky", "road"])
    splits = open_splits(run_of(tmp_path / "set").data, "semantic")
    [(train, validation)] = splits.folders
    assert validation is not None
    assert (len(train), len(validation)) == (1, 1)
    assert fast_check(train, num_queries=9, validation=validation.main) == []
    assert caplog.messages == [
        f"{tmp_path / 'set'} is one image, of which nothing can be held out: the model is scored "
        f"on what it is trained on"
    ]


def test_training_on_all_images_by_name_scores_none(tmp_path: Path, caplog) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 4, ["sky", "road"])
    splits = open_splits(run_of(tmp_path / "set", train_split="all").data, "semantic")
    assert (len(splits.train), splits.validation) == (4, None)
    assert "so the run is not evaluated; leave data.train_split out to hold some" in caplog.text
    assert "--split" not in caplog.text
    contradiction = run_of(tmp_path / "set", train_split="all", split_fractions=(0.9, 0.1))
    with pytest.raises(
        ValueError, match=r"data\.train_split = all trains on every image, of which"
    ):
        open_splits(contradiction.data, "semantic")


@pytest.mark.parametrize("only", ["val", "test"])
def test_the_only_split_is_trained_on_and_told(tmp_path: Path, caplog, only: str) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 10, ["sky", "road"], only)
    splits = open_splits(run_of(tmp_path / "set").data, "semantic")
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation)) == (9, 1)
    assert caplog.messages == [
        f"{tmp_path / 'set'} has only the split {only!r}, which is trained on; held out to "
        f"validate: 1 of 10 images (see --split)"
    ]


def test_a_folder_of_other_splits_is_told_how_to_validate(tmp_path: Path, caplog) -> None:
    for split in ("train", "test"):
        write_masks(tmp_path / "set", [[0, 1]], ["sky", "road"], split)
    open_splits(run_of(tmp_path / "set").data, "semantic")
    assert "so the run is not evaluated; name another by data.val_split" in caplog.text
    with pytest.raises(ValueError, match="has the splits 'train', 'test', which fractions would"):
        open_splits(run_of(tmp_path / "set", split_fractions=(0.9, 0.1)).data, "semantic")


def test_training_data_alone_are_not_scored_until_they_are_divided(tmp_path: Path, caplog) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 10, ["sky", "road"], "train")
    splits = open_splits(run_of(tmp_path / "set").data, "semantic")
    assert (len(splits.train), splits.validation) == (10, None)
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
    assert [m for m in caplog.messages if "keeps" in m] == [
        f"{tmp_path / 'c'} keeps the splits that it has"
    ]
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith("2 classes are annotated in one folder only; their objects in the")
    batch = next(iter(make_loader(splits, run, start=0)))
    assert {str(image_id)[:2] for image_id in batch.image_ids} <= {"a/", "c/"}


def test_a_folder_without_splits_does_not_divide_its_neighbour(tmp_path: Path) -> None:
    write_masks(tmp_path / "a", [[0, 1]] * 10, ["sky", "road"])
    write_masks(tmp_path / "b", [[0, 1]] * 10, ["sky", "road"], "train")
    splits = open_splits(run_of(tmp_path / "a", tmp_path / "b").data, "semantic")
    held_out = [
        None if folder.validation is None else len(folder.validation) for folder in splits.folders
    ]
    assert ([len(folder.train) for folder in splits.folders], held_out) == ([9, 10], [1, None])
    assert len(splits.notes) == len({note.rpartition(": ")[2] for note in splits.notes})
    assert "a: split 'val' is 1 of 10 images, drawn by the fractions 0.9/0.1" in splits.notes


def test_a_folder_is_found_and_read_once(tmp_path: Path, monkeypatch) -> None:
    calls: Counter[str] = Counter()

    def counted(data_format: Format) -> Format:
        def find(folder: Path) -> Found | None:
            calls[f"find {data_format.name} {folder.name}"] += 1
            return data_format.find(folder)

        def read(folder: Path, *arguments) -> Dataset:
            calls[f"read {folder.name}"] += 1
            return data_format.read(folder, *arguments)

        return replace(data_format, find=find, read=read)

    monkeypatch.setattr("mask2former.data.locate.FORMATS", tuple(map(counted, FORMATS)))
    for name in ("a", "b"):
        write_masks(tmp_path / name, [[0, 1]] * 4, ["sky", "road"])
    open_splits(run_of(tmp_path / "a", tmp_path / "b").data, "semantic")
    assert set(calls.values()) == {1}
    assert {"read a", "read b", "find png-masks a"} <= set(calls)


@pytest.mark.parametrize("lines", ["", "nothing\n"])
def test_an_empty_list_is_refused_before_training(tmp_path: Path, lines: str) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 4, ["sky", "road"])
    (tmp_path / "set/train.txt").write_text("00\n01\n")
    (tmp_path / "set/val.txt").write_text(lines)
    with pytest.raises(FileNotFoundError, match=r"val\.txt names "):
        open_splits(run_of(tmp_path / "set").data, "semantic")


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


def test_shares_are_exact_with_rare_classes(tmp_path: Path) -> None:
    write_masks(tmp_path / "a", [[0]] * 3 + [[0, 1]], ["sky", "road"], "train")
    write_masks(tmp_path / "b", [[0]] * 12, ["sky", "road"], "train")
    run = run_of(tmp_path / "a", tmp_path / "b", shares=(1, 1), repeat_threshold=0.25)
    repeats = open_splits(run.data, "semantic").repeats
    # the road repeats 2, which makes 17 draws: 8.5 of a, in which its image counts for two of five
    assert repeats == pytest.approx([1.7] * 3 + [3.4] + [8.5 / 12] * 12)


def write_nuts(folder: Path, split: str, *, count: int, annotated: int) -> None:
    """COCO instances: pictures of which the first ones show an object."""
    (folder / split).mkdir()
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": 32, "width": 40} for i in range(count)
        ],
        "annotations": [
            {
                "id": i + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 64,
                "segmentation": [[0, 0, 8, 0, 8, 8, 0, 8]], "bbox": [0, 0, 8, 8],
            }
            for i in range(annotated)
        ],
        "categories": [{"id": 1, "name": "nut"}],
    }  # fmt: skip
    (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    for i in range(count):
        Image.new("RGB", (40, 32)).save(folder / split / f"{i}.png")


@pytest.mark.parametrize(("task", "warnings"), [("instance", 1), ("panoptic", 1), ("semantic", 0)])
def test_validation_without_objects_is_told_before_training(
    tmp_path: Path, caplog, task: str, warnings: int
) -> None:
    write_nuts(tmp_path, "train", count=2, annotated=2)
    write_nuts(tmp_path, "valid", count=2, annotated=0)
    open_splits(run_of(tmp_path, task=task).data, task)
    told = f"split 'valid' of {tmp_path} shows no object, so nothing can be scored on it"
    assert caplog.messages == [told] * warnings


def test_images_without_object_teach_semantic_segmentation_what_is_background(tmp_path) -> None:
    write_nuts(tmp_path, "train", count=2, annotated=1)
    semantic = open_splits(run_of(tmp_path).data, "semantic")
    assert (len(semantic.train), semantic.classes.names) == (2, ("nut", "background"))
    for task in ("instance", "panoptic"):
        assert len(open_splits(run_of(tmp_path, task=task).data, task).train) == 1


def test_validation_data_with_classes_of_their_own_are_refused(tmp_path, monkeypatch) -> None:
    write_masks(tmp_path / "set", [[0, 1]] * 2, ["sky", "road"], "train")
    write_masks(tmp_path / "set", [[0, 1]] * 2, ["sky", "road"], "val")
    names = ("sky", "street")

    def open_renamed(folder: DataFolder, split: str, fractions: Fractions | None) -> Dataset:
        dataset = open_folder(folder, split, fractions)
        classes = replace(dataset.classes, names=names, is_thing=(True, True))
        return replace(dataset, classes=classes) if split == "val" else dataset

    open_folder = DataFolder.open
    monkeypatch.setattr(DataFolder, "open", open_renamed)
    message = r"split val of .*set has the classes 'street', which the training split does not have"
    with pytest.raises(ValueError, match=message):
        open_splits(run_of(tmp_path / "set").data, "semantic")
    # other spellings, and flags that do not matter, are no other classes
    names = ("Sky", "_road")
    assert open_splits(run_of(tmp_path / "set").data, "semantic").validation is not None


def test_no_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no data; give --data DIR, or data\.paths in"):
        open_splits(run_of().data, "semantic")
