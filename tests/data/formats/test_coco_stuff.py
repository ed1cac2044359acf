import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from mask2former.data.annotations import Layered, SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task
from mask2former.data.formats import coco_instance
from mask2former.data.formats.coco_stuff import find, read
from mask2former.data.formats.format import Reading
from mask2former.data.problems import Collected, Problems, Strict

SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]
NAME = "000000000042"
# person (category id 1, place 0), banner (92, 80), wood (182, 170), in columns, and unlabelled
CATEGORY_IDS = [1, 92, 182]
PLACES = [0, 80, 170]


def save_map(path: Path, *values: int, height: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.tile(np.array(values, np.uint8), (height, 1))).save(path)


def save_image(path: Path, width: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 6)).save(path)


def write_2017(
    folder: Path, maps: str = "stuffthingmaps/train2017", images: str = "train2017"
) -> Path:
    save_image(folder / images / f"{NAME}.jpg")
    save_map(folder / maps / f"{NAME}.png", *[i - 1 for i in CATEGORY_IDS], 255)
    return folder


def objects_file(**changes: object) -> dict:
    return {
        "images": [{"id": 42, "file_name": f"{NAME}.jpg", "height": 6, "width": 4}],
        "annotations": [
            {"id": 1, "image_id": 42, "category_id": 1, "segmentation": [SQUARE], "area": 9}
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
    } | changes


def write_objects(folder: Path, split: str = "train2017", **changes: object) -> Path:
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(objects_file(**changes)))
    return path


def read_split(folder: Path, split: str = "train", problems: Problems | None = None) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(problems or Strict()))


def check_semantic(annotations: object) -> None:
    """The columns are person, banner, wood, unlabelled; ids are class ids + 1."""
    assert isinstance(annotations, SegmentMap)
    assert annotations.ids[0].tolist() == [*(place + 1 for place in PLACES), 0]
    assert annotations.segments == tuple(SegmentLabel(place + 1, place) for place in PLACES)


@pytest.mark.parametrize(
    ("maps", "images"),
    [
        ("stuffthingmaps/train2017", "train2017"),
        ("stuffthingmaps/train2017", "images/train2017"),
        ("annotations/train2017", "images/train2017"),
    ],
)
def test_maps_of_2017_hold_category_ids_less_one(tmp_path: Path, maps: str, images: str) -> None:
    dataset = read_split(write_2017(tmp_path, maps, images))
    assert len(dataset.classes) == 171
    assert dataset.classes.names[80] == "banner"
    assert dataset.tasks == ("semantic",)
    assert dataset.records[0].image_id == 42
    assert dataset.records[0].image == tmp_path / images / f"{NAME}.jpg"
    check_semantic(dataset.annotations(0))
    assert (
        "Maps hold the category id - 1 of COCO-Stuff's classes; pixel value 255" in dataset.notes[0]
    )


def test_prepared_maps_hold_places(tmp_path: Path) -> None:
    save_image(tmp_path / "images_detectron2/test/a.jpg")
    save_map(tmp_path / "annotations_detectron2/test/a.png", *PLACES, 255)
    dataset = read_split(tmp_path, "test")
    assert dataset.records[0].image_id == "a"
    check_semantic(dataset.annotations(0))


def test_prepared_maps_are_told_from_those_of_the_release(tmp_path: Path) -> None:
    save_image(tmp_path / "images/train2017" / f"{NAME}.jpg")
    save_map(tmp_path / "annotations/train2017" / f"{NAME}_labelTrainIds.png", *PLACES, 255)
    check_semantic(read_split(tmp_path).annotations(0))
    # beside the maps of the release, those are read
    dataset = read_split(write_2017(tmp_path, "annotations/train2017", "images/train2017"))
    assert len(dataset) == 1
    check_semantic(dataset.annotations(0))


def write_10k(folder: Path, *names: str) -> Path:
    for name in names:
        save_image(folder / "images" / f"{name}.jpg")
        values = np.tile(np.array([*CATEGORY_IDS, 0], np.uint8), (6, 1))
        (folder / "annotations").mkdir(exist_ok=True)
        scipy.io.savemat(folder / "annotations" / f"{name}.mat", {"S": values, "captions": "x"})
    (folder / "imageLists").mkdir()
    (folder / "imageLists" / "train.txt").write_text(f"{names[0]}\n")
    (folder / "imageLists" / "test.txt").write_text("".join(f"{name}\n" for name in names[1:]))
    (folder / "imageLists" / "all.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def test_matlab_files_of_10k_hold_category_ids(tmp_path: Path) -> None:
    folder = write_10k(tmp_path, "COCO_train2014_000000000077", "COCO_train2014_000000000088")
    found = find(folder)
    assert found is not None
    assert list(found.splits) == ["train", "test"]
    dataset = read_split(folder, "test")
    assert [r.image_id for r in dataset.records] == ["COCO_train2014_000000000088"]
    check_semantic(dataset.annotations(0))


@pytest.mark.parametrize("content", [b"", b"no matrix" * 100])
def test_damaged_matlab_file_is_named(tmp_path: Path, content: bytes) -> None:
    folder = write_10k(tmp_path, "a", "b")
    dataset = read_split(folder)
    path = folder / "annotations" / "a.mat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read the matrix S of .*a\.mat"):
        dataset.annotations(0)
    scipy.io.savemat(path, {"other": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"cannot read the matrix S of .*a\.mat"):
        dataset.annotations(0)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotation file at .*a\.mat"):
        dataset.annotations(0)


def test_objects_of_coco_are_a_layer_beside_the_classes(tmp_path: Path) -> None:
    write_objects(write_2017(tmp_path))
    dataset = read_split(tmp_path)
    assert dataset.tasks == ("semantic", "panoptic", "instance")
    record = dataset.records[0]
    assert (record.image_id, record.height, record.width, record.num_objects) == (42, 6, 4, 1)
    annotations = dataset.annotations(0)
    assert isinstance(annotations, Layered)
    check_semantic(annotations.semantic)
    (item,) = annotations.objects.items
    assert (item.class_id, item.area) == (0, 9)
    check_semantic(for_task(dataset, "semantic").annotations(0))
    assert "Objects are those of instances_train2017.json" in dataset.notes[1]


def test_splits_without_objects_are_semantic_only(tmp_path: Path) -> None:
    write_objects(write_2017(tmp_path))
    write_2017(tmp_path, "stuffthingmaps/val2017", "val2017")
    found = find(tmp_path)
    assert found is not None
    assert found.tasks == ("semantic",)
    assert read_split(tmp_path, "val").tasks == ("semantic",)


def test_coco_without_maps_is_not_of_this_format(tmp_path: Path) -> None:
    write_objects(tmp_path)
    save_image(tmp_path / "train2017" / f"{NAME}.jpg")
    assert find(tmp_path) is None
    assert coco_instance.find(tmp_path) is not None


@pytest.mark.parametrize(
    ("maps", "images"),
    [
        ("annotations/train", "images/train"),
        ("annotations/training2017", "images/training2017"),
        ("masks/train2017", "images/train2017"),
    ],
)
def test_other_folders_of_masks_are_not_of_this_format(
    tmp_path: Path, maps: str, images: str
) -> None:
    assert find(write_2017(tmp_path, maps, images)) is None


def test_masks_with_a_class_list_of_their_own_are_not_of_this_format(tmp_path: Path) -> None:
    write_2017(tmp_path, "annotations/train2017", "images/train2017")
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    assert find(tmp_path) is None


@pytest.mark.parametrize("value", [11, 182, 200])
def test_value_that_is_no_class_is_named(tmp_path: Path, value: int) -> None:
    # category id 12, street sign, has no annotations in COCO; 183 and more are none
    folder = write_2017(tmp_path)
    save_map(folder / "stuffthingmaps/train2017" / f"{NAME}.png", 0, value, 0, 0)
    with pytest.raises(
        ValueError, match=rf"{NAME}\.png has pixel value {value}; COCO-Stuff's maps"
    ):
        read_split(folder).annotations(0)


def test_map_of_another_size_than_its_objects_is_named(tmp_path: Path) -> None:
    write_objects(write_2017(tmp_path))
    save_map(tmp_path / "stuffthingmaps/train2017" / f"{NAME}.png", 0, 0, 0, 0, height=5)
    with pytest.raises(
        ValueError, match=rf"{NAME}\.png has size \(h, w\) = \(5, 4\) but .*\(6, 4\)"
    ):
        read_split(tmp_path).annotations(0)


def test_objects_of_another_data_set_are_refused(tmp_path: Path) -> None:
    write_objects(write_2017(tmp_path), categories=[{"id": 1, "name": "fig"}])
    with pytest.raises(ValueError, match=r"category 1 is 'fig', but in COCO-Stuff 'person'"):
        read_split(tmp_path)


def test_every_fault_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    write_2017(tmp_path)
    images = objects_file()["images"]
    gone = {"id": 50, "file_name": "000000000050.jpg", "height": 6, "width": 4}
    annotations = [
        *objects_file()["annotations"],
        {"id": 2, "image_id": 42, "category_id": 12, "segmentation": []},
    ]
    write_objects(tmp_path, images=[*images, gone], annotations=annotations)
    save_image(tmp_path / "train2017/000000000051.jpg")
    save_image(tmp_path / "train2017/000000000052.jpg")
    save_map(tmp_path / "stuffthingmaps/train2017/000000000052.png", 0, 0, 0, 0)
    problems = Collected()
    dataset = read_split(tmp_path, problems=problems)
    assert [(p.kind, p.image_id) for p in problems.found] == [
        ("image without annotation", "000000000051"),
        ("unknown class", 42),
        ("missing image", 50),
        ("image without annotation", "000000000052"),
    ]
    assert [r.image_id for r in dataset.records] == [42]
    with pytest.raises(ValueError, match=r"000000000051\.jpg has no annotation in .*train2017"):
        read_split(tmp_path)


def test_listed_image_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_10k(tmp_path, "a", "b")
    (folder / "images" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"a of .*train\.txt is not in .*images; add"):
        read_split(folder)


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    write_objects(write_2017(tmp_path))
    dataset = pickle.loads(pickle.dumps(read_split(tmp_path)))  # noqa: S301
    assert isinstance(dataset.annotations(0), Layered)
