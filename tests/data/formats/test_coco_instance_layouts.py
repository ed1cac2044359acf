"""Where COCO's annotation files and images lie, as tools write them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.formats.coco_instance import find, read
from mask2former.data.formats.coco_json import sniff
from mask2former.data.formats.format import WHOLE, Found, Reading
from mask2former.data.images import read_image
from mask2former.data.problems import Collected, Problems, Strict

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)

CATEGORIES = [{"id": 7, "name": "fig"}, {"id": 3, "name": "date"}]
OBJECT = {
    "id": 1,
    "image_id": 0,
    "category_id": 3,
    "segmentation": [[1, 2, 4, 2, 4, 5, 1, 5]],
    "area": 9.0,
}


def content(*names: str) -> dict:
    names = names or ("a.png", "b.png")
    images = [{"id": i, "file_name": n, "height": 6, "width": 9} for i, n in enumerate(names)]
    return {"images": images, "annotations": [OBJECT], "categories": CATEGORIES}


def read_split(folder: Path, split: str, problems: Problems | None = None) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(problems or Strict()))


def write_json(path: Path, data: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def save_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (9, 6)).save(folder / name)


@pytest.mark.parametrize(
    "place", ["train2017", "images/train2017", "images/train", "train", "images"]
)
def test_images_of_the_coco_layout_are_found(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content()))
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 6)).save(tmp_path / place / name)
    assert find(tmp_path) == Found(("instance", "panoptic", "semantic"), {"train": path})
    assert read_split(tmp_path, "train").records[0].image == tmp_path / place / "a.png"


def test_file_names_may_have_folders(tmp_path: Path) -> None:
    data = content("one/a.png", "two/b.png")
    for name in ("one", "two"):
        (tmp_path / "train" / name).mkdir(parents=True)
    for image in data["images"]:
        Image.new("RGB", (9, 6)).save(tmp_path / "train" / image["file_name"])
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    dataset = read_split(tmp_path, "train")
    assert dataset.records[1].image == tmp_path / "train" / "two" / "b.png"


def test_images_of_other_splits_in_a_shared_folder_are_no_fault(tmp_path: Path) -> None:
    write_json(tmp_path / "annotations" / "instances_train.json", content())
    write_json(tmp_path / "annotations" / "instances_val.json", content())
    save_images(tmp_path / "images", "a.png", "b.png", "of_the_other_split.png")
    problems = Collected()
    read_split(tmp_path, "train", problems)
    assert problems.found == []


@pytest.mark.parametrize(
    ("file", "place", "split"),
    [
        ("annotations.json", "JPEGImages", WHOLE),
        ("annotations.json", "images", WHOLE),
        ("annotations.json", ".", WHOLE),
        ("_annotations.coco.json", ".", WHOLE),
        ("labels.json", "data", WHOLE),
        ("val/labels.json", "val/data", "val"),
        ("result.json", "images", WHOLE),
        ("annotations/instances_default.json", "images", WHOLE),
        ("annotations/instances_default.json", "images/default", WHOLE),
        ("train.json", "train", "train"),
        ("train.json", "images", "train"),
        ("train2017.json", "train2017", "train"),
        ("annotations/test.json", "images/test", "test"),
        ("annotations/val.json", "JPEGImages", "val"),
    ],
)
def test_layouts_of_other_tools_are_found(
    tmp_path: Path, file: str, place: str, split: str
) -> None:
    write_json(tmp_path / file, content())
    save_images(tmp_path / place, "a.png", "b.png")
    found = find(tmp_path)
    assert found is not None
    assert found.splits == {split: tmp_path / file}
    assert read_split(tmp_path, split).records[1].image == tmp_path / place / "b.png"


VIDEOS = {
    "videos": [{"id": 1, "file_names": ["a.png"], "height": 6, "width": 9}],
    "annotations": [],
    "categories": CATEGORIES,
}
PANOPTIC = content() | {"annotations": [{"image_id": 0, "segments_info": []}]}


@pytest.mark.parametrize(
    "file", ["train.json", "annotations/train.json", "annotations/instances_train_sub.json"]
)
@pytest.mark.parametrize("data", [VIDEOS, PANOPTIC])
def test_files_of_videos_and_segments_are_not_of_this_format(
    tmp_path: Path, file: str, data: dict
) -> None:
    write_json(tmp_path / file, data)
    assert find(tmp_path) is None


@pytest.mark.parametrize("data", [content(), VIDEOS, PANOPTIC])
def test_the_kind_of_a_large_file_is_told_from_its_ends(tmp_path: Path, data: dict) -> None:
    path = tmp_path / "train.json"
    write_json(path, data)
    kind = sniff(path)
    assert kind is not None
    write_json(path, {"info": "x" * 3_000_000} | data)
    assert sniff(path) == kind
    write_json(path, data | {"info": "x" * 3_000_000})
    assert sniff(path) == kind


@pytest.mark.parametrize("data", [{"shapes": [], "imagePath": "a.png"}, {"images": 3}])
def test_files_of_other_tools_are_not_of_this_format(tmp_path: Path, data: dict) -> None:
    write_json(tmp_path / "annotations.json", data)
    write_json(tmp_path / "train.json", data)
    assert find(tmp_path) is None


def test_a_file_for_the_whole_is_not_a_split_beside_others(tmp_path: Path) -> None:
    write_json(tmp_path / "train" / "_annotations.coco.json", content())
    write_json(tmp_path / "annotations.json", content())
    found = find(tmp_path)
    assert found is not None
    assert list(found.splits) == ["train"]


@pytest.mark.parametrize(
    "start", ["/home/her/set/images/", "C:\\her\\images\\", "../upload/1/", "images/"]
)
def test_images_are_found_by_their_bare_names_and_it_is_noted(tmp_path: Path, start: str) -> None:
    data = content(f"{start}a.png", f"{start}b.png")
    write_json(tmp_path / "result.json", data)
    save_images(tmp_path / "images", "a.png", "b.png")
    dataset = read_split(tmp_path, WHOLE)
    assert [record.image.name for record in dataset.records] == ["a.png", "b.png"]
    if start != "images/":
        assert "2 file names of result.json begin with folders that are not" in dataset.notes[0]


# (folder, split, images, classes, objects), from the samples' own README
COUNTS = [
    ("nuts_coco", "train", 12, 3, 101),
    ("nuts_coco", "valid", 6, 3, 64),
    ("coco_instances", "train", 50, 80, 470),
    ("coco_instances", "val", 50, 80, 382),
    ("labelme_instances/data_dataset_coco", WHOLE, 3, 20, 12),
]


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize(("name", "split", "num_images", "num_classes", "num_objects"), COUNTS)
def test_real_data_have_the_counts_that_are_known(
    name: str, split: str, num_images: int, num_classes: int, num_objects: int
) -> None:
    dataset = read_split(SAMPLES / name, split)
    annotations = [dataset.annotations(i) for i in range(num_images)]
    items = [a.items for a in annotations if isinstance(a, Instances)]
    assert (len(dataset), len(dataset.classes)) == (num_images, num_classes)
    assert sum(map(len, items)) == num_objects
    for record in dataset.records:
        assert record.height is not None
        assert record.width is not None
        read_image(record.image, (record.height, record.width))
