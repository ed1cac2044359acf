import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.formats.coco_instance import find, read
from mask2former.data.formats.format import Found, Reading
from mask2former.masks.rle import decode_rle, encode_mask

SQUARE = [1, 2, 4, 2, 4, 5, 1, 5]
CATEGORIES = [
    {"id": 7, "name": "fig", "supercategory": "fruit"},
    {"id": 3, "name": "date", "supercategory": "fruit"},
]


def images(*names: str) -> list[dict]:
    return [{"id": i, "file_name": n, "height": 6, "width": 9} for i, n in enumerate(names)]


def annotation(annotation_id: int, **changes: object) -> dict:
    return {
        "id": annotation_id,
        "image_id": 0,
        "category_id": 3,
        "segmentation": [SQUARE],
        "area": 9.0,
        "bbox": [1, 2, 3, 3],
        "iscrowd": 0,
    } | changes


def content(*annotations: dict, categories: list[dict] = CATEGORIES) -> dict:
    return {
        "images": images("a.png", "b.png"),
        "annotations": list(annotations),
        "categories": categories,
    }


def write_roboflow(folder: Path, **splits: dict) -> Path:
    for split, data in splits.items():
        (folder / split).mkdir(parents=True)
        (folder / split / "_annotations.coco.json").write_text(json.dumps(data))
        for image in data["images"]:
            Image.new("RGB", (9, 6)).save(folder / split / image["file_name"])
    return folder


def read_split(folder: Path, split: str) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading())


def read_one(tmp_path: Path, *annotations: dict) -> Dataset:
    return read_split(write_roboflow(tmp_path, train=content(*annotations)), "train")


def instances(dataset: Dataset, index: int) -> Instances:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, Instances)
    return annotations


def test_classes_are_in_file_order_and_keep_their_sparse_ids(tmp_path: Path) -> None:
    dataset = read_one(tmp_path, annotation(1))
    assert dataset.classes.names == ("fig", "date")
    assert dataset.classes.category_ids == (7, 3)
    assert dataset.classes.is_thing == (True, True)
    assert dataset.tasks == ("instance",)
    assert instances(dataset, 0).items[0].class_id == 1


def test_objects_come_by_image_in_file_order(tmp_path: Path) -> None:
    dataset = read_one(
        tmp_path,
        annotation(1, image_id=1, area=5.5),
        annotation(2, category_id=7, iscrowd=1),
        annotation(3, image_id=1, category_id=7),
    )
    first, second = instances(dataset, 0), instances(dataset, 1)
    assert [(i.class_id, i.is_crowd) for i in first.items] == [(0, True)]
    assert [(i.class_id, i.area) for i in second.items] == [(1, 5.5), (0, 9.0)]
    assert (second.height, second.width) == (6, 9)
    assert [r.num_objects for r in dataset.records] == [0, 2]
    assert dataset.records[1].image == tmp_path / "train" / "b.png"


def test_image_without_objects_is_kept(tmp_path: Path) -> None:
    dataset = read_one(tmp_path, annotation(1))
    assert len(dataset) == 2
    assert instances(dataset, 1).items == ()


def test_polygons_keep_their_parts(tmp_path: Path) -> None:
    other = [0.5, 0.25, 2, 0, 2, 1]
    dataset = read_one(tmp_path, annotation(1, segmentation=[SQUARE, other]))
    parts = instances(dataset, 0).items[0].mask
    assert isinstance(parts, tuple)
    assert [part.tolist() for part in parts] == [
        [[1, 2], [4, 2], [4, 5], [1, 5]],
        [[0.5, 0.25], [2, 0], [2, 1]],
    ]


@pytest.mark.parametrize("form", ["list", "text"])
def test_run_lengths_are_read_in_both_forms(tmp_path: Path, form: str) -> None:
    mask = np.zeros((6, 9), bool)
    mask[2:5, 1:4] = True
    # down the columns: 6 + 2 outside, 3 inside, 3 outside, 3, 3, 3, then 1 + 5 * 6 outside
    counts = [8, 3, 3, 3, 3, 3, 31] if form == "list" else encode_mask(mask)["counts"].decode()
    segmentation = {"size": [6, 9], "counts": counts}
    dataset = read_one(tmp_path, annotation(1, segmentation=segmentation, iscrowd=1))
    (item,) = instances(dataset, 0).items
    assert isinstance(item.mask, dict)
    np.testing.assert_array_equal(decode_rle(item.mask), mask)


def test_missing_area_is_counted(tmp_path: Path) -> None:
    without_area = annotation(1)
    del without_area["area"]
    assert instances(read_one(tmp_path, without_area), 0).items[0].area == 9


def test_degenerate_polygons_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = read_one(
            tmp_path,
            annotation(1, segmentation=[[1, 1, 2, 2], SQUARE]),
            annotation(2, segmentation=[[1, 1, 2, 2]]),
        )
    assert "dropped 2 polygons with fewer than 3 points" in caplog.text
    (item,) = instances(dataset, 0).items
    assert len(item.mask) == 1


def test_classes_may_share_a_name(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "crane"}, {"id": 2, "name": "crane"}]
    data = content(annotation(1, category_id=2), categories=categories)
    dataset = read_split(write_roboflow(tmp_path, train=data), "train")
    assert dataset.classes.names == ("crane", "crane")
    assert instances(dataset, 0).items[0].class_id == 1


ROBOFLOW = [{"id": 0, "name": "fruit", "supercategory": "none"}, *CATEGORIES]


def test_placeholder_category_of_roboflow_is_dropped(tmp_path: Path) -> None:
    data = content(annotation(1), categories=ROBOFLOW)
    dataset = read_split(write_roboflow(tmp_path, train=data), "train")
    assert dataset.classes.names == ("fig", "date")


def test_category_0_that_any_split_uses_is_a_class_in_all(tmp_path: Path) -> None:
    used = content(annotation(1, category_id=0), categories=ROBOFLOW)
    unused = content(annotation(1), categories=ROBOFLOW)
    folder = write_roboflow(tmp_path, train=used, valid=unused)
    for split in ("train", "valid"):
        assert read_split(folder, split).classes.names == ("fruit", "fig", "date")


def test_order_of_classes_is_that_of_the_training_file(tmp_path: Path) -> None:
    valid = content(annotation(1), categories=CATEGORIES[::-1])
    folder = write_roboflow(tmp_path, train=content(annotation(1)), valid=valid)
    assert read_split(folder, "valid").classes == read_split(folder, "train").classes


@pytest.mark.parametrize(
    ("categories", "difference"),
    [
        (CATEGORIES[:1], "category 3 is 'date' in .*train.* but missing in .*valid"),
        ([CATEGORIES[0], {"id": 3, "name": "nut"}], "category 3 is 'date' .* but 'nut' in .*valid"),
        ([*CATEGORIES, {"id": 4, "name": "nut"}], "category 4 is missing in .* but 'nut' in"),
    ],
)
def test_splits_with_different_classes_are_refused(
    tmp_path: Path, categories: list[dict], difference: str
) -> None:
    valid = content(annotation(1, category_id=7), categories=categories)
    folder = write_roboflow(tmp_path, train=content(annotation(1)), valid=valid)
    for split in ("train", "valid"):
        with pytest.raises(ValueError, match=difference):
            read_split(folder, split)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category_id": 5}, r"annotation 4 has category id 5, but the categories are 7, 3; cor"),
        ({"image_id": 8}, r"annotation 4 is for image id 8, which 'images' does not list; add"),
        ({"segmentation": []}, r"annotation 4 has no mask, only a box; give it a 'segmentation'"),
        ({"segmentation": None}, r"annotation 4 has no mask, only a box"),
        ({"segmentation": "x"}, r"annotation 4 has a segmentation that is neither a list"),
        ({"segmentation": SQUARE}, r"annotation 4 has a segmentation that is neither a list"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, r"annotation 4 has a polygon of 7 numbers"),
        (
            {"segmentation": {"size": [9, 6], "counts": [54]}},
            r"annotation 4: .* size \(h, w\) = \(9, 6\) but the image \(6, 9\)",
        ),
        ({"segmentation": {"size": [6, 9], "counts": [50]}}, r"annotation 4: .* sum to 50 pixels"),
    ],
)
def test_wrong_annotation_is_named_with_its_file(
    tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"_annotations\.coco\.json: {message}"):
        read_one(tmp_path, annotation(1), annotation(4, **changes))


@pytest.mark.parametrize("number", [1e9, float("nan"), "x"])
def test_impossible_coordinate_is_named_with_its_image(tmp_path: Path, number: object) -> None:
    dataset = read_one(tmp_path, annotation(1, segmentation=[[1, 2, 4, number, 4, 5]]))
    with pytest.raises(ValueError, match=r"a polygon of image 0 .*a\.png.* no number or beyond"):
        dataset.annotations(0)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_file_without_a_list_is_refused(tmp_path: Path, key: str) -> None:
    folder = write_roboflow(tmp_path, train=content(annotation(1)))
    data = content(annotation(1))
    del data[key]
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f"has no list '{key}'; a COCO annotation file has"):
        read_split(folder, "train")


@pytest.mark.parametrize("text", ["", "{", '{"images": [}'])
def test_file_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "_annotations.coco.json").write_text(text)
    with pytest.raises(ValueError, match=r"_annotations\.coco\.json is not valid JSON"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "has no categories; list the classes"),
        ([{"id": 1}], "category {'id': 1} needs an 'id' and a 'name'"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "category id 1 occurs twice"),
    ],
)
def test_incomplete_categories_are_refused(
    tmp_path: Path, categories: list[dict], message: str
) -> None:
    folder = write_roboflow(tmp_path, train=content(categories=categories))
    with pytest.raises(ValueError, match=message):
        read_split(folder, "train")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "lists no images"),
        ([{"id": 1, "file_name": "a.png", "width": 3}], "has no 'height'; add it"),
        (images("a.png")[:1] * 2, "image id 0 occurs twice"),
    ],
)
def test_incomplete_images_are_refused(tmp_path: Path, listed: list[dict], message: str) -> None:
    folder = write_roboflow(tmp_path, train=content() | {"images": listed})
    with pytest.raises(ValueError, match=message):
        read_split(folder, "train")


def test_missing_images_are_named(tmp_path: Path) -> None:
    folder = write_roboflow(tmp_path, train=content())
    (folder / "train" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 files .* are not in .*first b\.png"):
        read_split(folder, "train")
    (folder / "train" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png, the first file of .*, is in none of"):
        read_split(folder, "train")


@pytest.mark.parametrize(
    "place", ["train2017", "images/train2017", "images/train", "train", "images"]
)
def test_images_of_the_coco_layout_are_found(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content(annotation(1))))
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 6)).save(tmp_path / place / name)
    assert find(tmp_path) == Found(("instance",), {"train": path})
    assert read_split(tmp_path, "train").records[0].image == tmp_path / place / "a.png"


def test_file_names_may_have_folders(tmp_path: Path) -> None:
    data = content(annotation(1)) | {"images": images("one/a.png", "two/b.png")}
    for name in ("one", "two"):
        (tmp_path / "train" / name).mkdir(parents=True)
    for image in data["images"]:
        Image.new("RGB", (9, 6)).save(tmp_path / "train" / image["file_name"])
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    dataset = read_split(tmp_path, "train")
    assert dataset.records[1].image == tmp_path / "train" / "two" / "b.png"


@pytest.mark.parametrize("position", ["first", "last"])
@pytest.mark.parametrize("padding", [0, 200_000])
def test_categories_are_found_wherever_they_stand(
    tmp_path: Path, position: str, padding: int
) -> None:
    data = content(annotation(1))
    data["info"] = {"description": "x" * padding}
    keys = ["categories", "info", "images", "annotations"]
    data = {key: data[key] for key in (keys if position == "first" else keys[::-1])}
    folder = write_roboflow(tmp_path, train=data)
    assert read_split(folder, "train").classes.names == ("fig", "date")


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_one(tmp_path, annotation(1))))  # noqa: S301
    assert instances(dataset, 0).items[0].class_id == 1
