import json
import logging
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.formats.coco_instance import find, read
from mask2former.data.formats.format import Reading
from mask2former.data.problems import Collected, Problems, Strict
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


def read_split(folder: Path, split: str, problems: Problems | None = None) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(problems or Strict()))


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
    assert dataset.tasks == ("instance", "panoptic", "semantic")
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
            r"annotation 4 has run lengths .* size \(h, w\) = \(9, 6\) but the image \(6, 9\)",
        ),
        (
            {"segmentation": {"size": [6, 9], "counts": [50]}},
            r"annotation 4 has run lengths .* sum to 50 pixels",
        ),
    ],
)
def test_wrong_annotation_is_named_with_its_file(
    tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"_annotations\.coco\.json: {message}"):
        read_one(tmp_path, annotation(1), annotation(4, **changes))


@pytest.mark.parametrize("number", [1e9, -1e9, float("nan"), float("inf"), "x", None])
def test_impossible_coordinate_is_named_with_its_annotation(tmp_path: Path, number: object) -> None:
    with pytest.raises(ValueError, match=r"annotation 1 has a polygon .* no number or beyond"):
        read_one(tmp_path, annotation(1, segmentation=[[1, 2, 4, number, 4, 5]]))


def test_missing_images_are_named(tmp_path: Path) -> None:
    folder = write_roboflow(tmp_path, train=content())
    (folder / "train" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.png is not in .*1 of its 2 files are mis"):
        read_split(folder, "train")
    (folder / "train" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png, the first file of .*, is in none of"):
        read_split(folder, "train")


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_one(tmp_path, annotation(1))))  # noqa: S301
    assert instances(dataset, 0).items[0].class_id == 1


def test_every_fault_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    faulty = [
        annotation(2, category_id=5),
        annotation(3, image_id=8),
        annotation(4, image_id=[8]),
        annotation(5, segmentation=[]),
        annotation(6, segmentation=[[1, 2, 3]]),
        annotation(7, segmentation={"size": [6, 9], "counts": [50]}),
        annotation(8, segmentation={"counts": "0"}),
        annotation(9, segmentation={"size": None, "counts": 3}),
        "x",
    ]
    data = content(annotation(1), *faulty, annotation(10, image_id=1))
    data["images"] += [
        {"id": 0, "file_name": "c.png", "height": 6, "width": 9},
        {"id": 4, "file_name": "d.png", "height": 6, "width": 9},
        {"id": 5, "file_name": "e.png", "height": "tall", "width": 9},
        {"id": 6, "file_name": None, "height": 6, "width": 9},
        {"id": [7], "file_name": "f.png", "height": 6, "width": 9},
        "image",
    ]
    for image in content()["images"]:
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.new("RGB", (9, 6)).save(tmp_path / "train" / image["file_name"])
    path = tmp_path / "train" / "_annotations.coco.json"
    path.write_text(json.dumps(data))
    problems = Collected()
    dataset = read_split(tmp_path, "train", problems)
    assert [problem.kind for problem in problems.found] == [
        "duplicate id",
        *["unreadable annotation"] * 4,
        "missing image",
        "unknown class",
        "annotation without image",
        "annotation without image",
        "no mask",
        "bad polygon",
        *["bad run lengths"] * 3,
        "unreadable annotation",
    ]
    assert all(problem.is_error for problem in problems.found)
    assert {problem.file for problem in problems.found} == {str(path)}
    assert [record.num_objects for record in dataset.records] == [1, 1]


def test_annotation_ids_that_occur_twice_are_a_warning(tmp_path: Path) -> None:
    data = content(annotation(1), annotation(1), annotation(2), annotation(1))
    problems = Collected()
    dataset = read_split(write_roboflow(tmp_path, train=data), "train", problems)
    (problem,) = problems.found
    assert (problem.kind, problem.is_error) == ("duplicate id", False)
    assert "1 annotation ids occur more than once: 1; pycocotools" in problem.message
    assert dataset.records[0].num_objects == 4


def test_images_that_no_annotation_names_are_a_warning(tmp_path: Path) -> None:
    folder = write_roboflow(tmp_path, train=content(annotation(1)))
    for name in ("y.jpg", "x.PNG", "notes.txt"):
        (folder / "train" / name).touch()
    problems = Collected()
    read_split(folder, "train", problems)
    (problem,) = problems.found
    assert (problem.kind, problem.is_error) == ("image without annotation", False)
    assert "2 images of" in problem.message
    assert "are left out: x.PNG, y.jpg; annotate them" in problem.message


def test_image_ids_may_be_text(tmp_path: Path) -> None:
    data = content(annotation(1, image_id="b"))
    data["images"] = [image | {"id": "ab"[image["id"]]} for image in data["images"]]
    dataset = read_split(write_roboflow(tmp_path, train=data), "train")
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert len(instances(dataset, 1).items) == 1


@pytest.mark.parametrize("area", [None, "large", float("nan"), -1])
def test_an_area_that_is_no_number_is_counted(tmp_path: Path, area: object) -> None:
    assert instances(read_one(tmp_path, annotation(1, area=area)), 0).items[0].area == 9


def test_boxes_are_as_the_file_says(tmp_path: Path) -> None:
    (item,) = instances(read_one(tmp_path, annotation(1, bbox=[1, 2.5, 3, 0])), 0).items
    assert item.box == (1.0, 2.5, 3.0, 0.0)


@pytest.mark.parametrize(
    "box",
    [
        None,
        [],
        [1, 2, 3],
        "1 2 3 4",
        {"x": 1},
        [1, 2, "3", 4],
        [1, 2, None, 4],
        [1, 2, -3, 4],
        [0, 0, 0, 0],
        [1, 2, math.inf, 4],
        [math.nan, 2, 3, 4],
        [1, 2, 10**400, 4],
    ],
)
def test_a_box_that_is_none_is_left_out(tmp_path: Path, box: object) -> None:
    (item,) = instances(read_one(tmp_path, annotation(1, bbox=box)), 0).items
    assert item.box is None


def test_a_category_that_is_left_out_is_noted(tmp_path: Path) -> None:
    parent = {"id": 0, "name": "fruit", "supercategory": "none"}
    data = content(annotation(1), categories=[parent, *CATEGORIES])
    dataset = read_split(write_roboflow(tmp_path, train=data), "train")
    assert dataset.classes.names == ("fig", "date")
    (note,) = dataset.notes
    assert "Category 0 ('fruit') of _annotations.coco.json is no class: no object has it" in note
