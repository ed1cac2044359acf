import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Dataset
from mask2former.data.derive import semantic_map
from mask2former.data.formats.ade20k_full import find, read
from mask2former.data.formats.format import Found, Reading
from mask2former.data.problems import Collected

# indices of objects in the release: wall, sky, tree, one that is none of the 847, and nothing
INDICES = np.array([[2978, 2420, 2855], [2978, 4, 0]])
SCENES = ("urban/street", "home_or_hotel/bedroom")


def segmentation(indices: np.ndarray = INDICES) -> np.ndarray:
    """Red is ten times the high byte and a level, green the low byte, blue the object's number."""
    red = indices // 256 * 10 + 1
    return np.stack([red, indices % 256, np.arange(indices.size).reshape(indices.shape)], -1)


def write_released(folder: Path, split: str = "training", with_labels: bool = True) -> Path:
    for i, scene in enumerate(SCENES):
        place = folder / "images" / "ADE" / split / scene
        name = f"ADE_{split[:5]}_0000000{i}"
        (place / name).mkdir(parents=True, exist_ok=True)  # masks of single objects
        Image.new("L", (3, 2)).save(place / name / f"instance_000_{name}.png")
        Image.new("RGB", (3, 2)).save(place / f"{name}.jpg")
        Image.new("RGB", (3, 2)).save(place / f"{name}_parts_1.png")
        if with_labels or i:
            Image.fromarray(segmentation().astype(np.uint8)).save(place / f"{name}_seg.png")
    return folder


def write_prepared(folder: Path, values: np.ndarray, split: str = "training") -> Path:
    for kind, suffix in (("images_detectron2", "jpg"), ("annotations_detectron2", "tif")):
        (folder / kind / split).mkdir(parents=True)
        image = Image.new("RGB", (3, 2)) if suffix == "jpg" else Image.fromarray(values)
        image.save(folder / kind / split / f"ADE_train_00000001.{suffix}")
    return folder


def prepared() -> np.ndarray:
    """What `prepare_ade20k_full_sem_seg.py` writes for images that need no reduction."""
    expected = np.full(INDICES.shape, 65535, np.uint16)
    for place, index in enumerate(class_table("ade20k_full").category_ids):
        expected[index == INDICES] = place
    return expected


def found_in(folder: Path) -> Found:
    found = find(folder)
    assert found is not None
    return found


def open_split(folder: Path, split: str = "training") -> Dataset:
    return read(folder, split, found_in(folder), Reading())


def labels(dataset: Dataset, index: int = 0) -> np.ndarray:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, SegmentMap)
    values = semantic_map(annotations, 847)
    return np.where(values < 0, 65535, values)


def test_released_labels_are_the_prepared_ones(tmp_path: Path) -> None:
    assert prepared().tolist() == [[0, 2, 3], [0, 65535, 65535]]
    dataset = open_split(write_released(tmp_path))
    assert dataset.tasks == ("semantic",)
    assert [r.image_id for r in dataset.records] == ["ADE_train_00000000", "ADE_train_00000001"]
    for i in range(2):
        np.testing.assert_array_equal(labels(dataset, i), prepared())


def test_prepared_labels_are_read_and_go_first(tmp_path: Path) -> None:
    dataset = open_split(write_prepared(write_released(tmp_path), prepared()))
    assert len(dataset) == 1
    np.testing.assert_array_equal(labels(dataset), prepared())


def test_archive_folder_is_entered(tmp_path: Path) -> None:
    write_released(tmp_path / "ADE20K_2021_17_01")
    write_released(tmp_path / "ADE20K_2021_17_01", "validation")
    assert sorted(found_in(tmp_path).splits) == ["training", "validation"]
    assert len(open_split(tmp_path, "validation")) == 2


def test_value_beyond_the_classes_is_named(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path, np.full((2, 3), 847, np.uint16))
    with pytest.raises(ValueError, match=r"\.tif has value 847; the classes are 0 to 846, and 65"):
        open_split(folder).annotations(0)


def test_image_without_labels_stops_reading_or_is_collected(tmp_path: Path) -> None:
    folder = write_released(tmp_path, with_labels=False)
    with pytest.raises(ValueError, match=r"ADE_train_00000000\.jpg has no annotation"):
        open_split(folder)
    problems = Collected()
    assert len(read(folder, "training", found_in(folder), Reading(problems))) == 1
    assert [p.image_id for p in problems.found] == ["ADE_train_00000000"]


def test_other_folders_are_not_claimed(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    # COCO-Stuff, prepared by another of the authors' scripts
    for kind, suffix in (("images_detectron2", "jpg"), ("annotations_detectron2", "png")):
        (tmp_path / kind / "train").mkdir(parents=True)
        Image.new("L", (3, 2)).save(tmp_path / kind / "train" / f"a.{suffix}")
    assert find(tmp_path) is None


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(open_split(write_released(tmp_path))))  # noqa: S301
    np.testing.assert_array_equal(labels(dataset), prepared())
