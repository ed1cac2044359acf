"""Shards of other writers; ours: `tests/data/shards`."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances, SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE, Reading
from mask2former.data.formats.webdataset import find, read
from mask2former.data.images import read_image
from mask2former.data.problems import Collected, Problems, Strict

LABELS = np.array([[0, 0, 4, 4], [255, 0, 4, 4], [0, 0, 0, 0]], np.uint8)
TRIANGLE = [0.0, 0.0, 4.0, 0.0, 4.0, 3.0]
OBJECT = {"category_id": 5, "category": "cat", "segmentation": [TRIANGLE]}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PHOTO = png(np.zeros((3, 4, 3), np.uint8))


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def open_split(folder: Path, split: str, problems: Problems | None = None) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(problems=problems or Strict()))


@pytest.mark.parametrize(
    ("image", "mask"), [("jpg", "png"), ("jpg", "seg.png"), ("png", "mask.png")]
)
def test_maps_of_classes_are_read(tmp_path: Path, image: str, mask: str) -> None:
    members = {f"a/1.{image}": PHOTO, f"a/1.{mask}": png(LABELS), "a/1.cls": b"3"}
    write_tar(tmp_path / "train-0000.tar", members)
    write_tar(tmp_path / "val-0000.tar", {f"b.{image}": PHOTO, f"b.{mask}": png(LABELS * 0 + 7)})
    dataset = open_split(tmp_path, "train")
    assert dataset.tasks == ("semantic",)
    # the values of all splits together
    assert dataset.classes.names == ("class 0", "class 4", "class 7")
    record = dataset.records[0]
    assert (record.image_id, record.image.name) == ("a/1", f"1.{image}")
    assert read_image(record.image).shape == (3, 4, 3)
    annotations = dataset.annotations(0)
    assert isinstance(annotations, SegmentMap)
    assert annotations.segments == (SegmentLabel(0, 0), SegmentLabel(4, 1))
    np.testing.assert_array_equal(annotations.ids, LABELS)


def test_a_class_list_names_the_values(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0000.tar", {"1.jpg": PHOTO, "1.png": png(LABELS)})
    (tmp_path / "classes.json").write_text('{"classes": ["a", "b"], "ignore_label": 4}')
    dataset = open_split(tmp_path, "train")
    assert dataset.classes.names == ("a", "b")
    assert dataset.notes == ("Pixel value 4 and 255 is ignored.",)
    assert len(dataset.annotations(0).segments) == 1
    (tmp_path / "classes.json").write_text('["a", "b"]')
    with pytest.raises(ValueError, match="has pixel value 4, but the 2 classes"):
        open_split(tmp_path, "train").annotations(0)


def test_objects_as_coco_has_them_are_read(tmp_path: Path) -> None:
    content = json.dumps({"annotations": [OBJECT, OBJECT | {"iscrowd": 1}]}).encode()
    write_tar(tmp_path / "00000.tar", {"x.jpg": PHOTO, "x.json": content})
    dataset = open_split(tmp_path, WHOLE)
    assert dataset.tasks[0] == "instance"
    assert (dataset.classes.names, dataset.classes.category_ids) == (("cat",), (5,))
    record = dataset.records[0]
    assert (record.height, record.width, record.num_objects) == (3, 4, 1)
    annotations = dataset.annotations(0)
    assert isinstance(annotations, Instances)
    assert [item.is_crowd for item in annotations.items] == [False, True]
    assert isinstance(annotations.items[0].mask, tuple)
    np.testing.assert_array_equal(annotations.items[0].mask[0].ravel(), TRIANGLE)


def test_splits_may_be_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_tar(tmp_path / split / "00000.tar", {"1.jpg": PHOTO, "1.png": png(LABELS)})
    found = find(tmp_path)
    assert found is not None
    assert set(found.splits) == {"train", "val"}


def test_samples_without_annotations_are_told(tmp_path: Path) -> None:
    members = {"1.jpg": PHOTO, "1.png": png(LABELS), "2.jpg": PHOTO, "2.json": b"{}"}
    write_tar(tmp_path / "train-0000.tar", members)
    with pytest.raises(ValueError, match=r"sample 2 has neither a map of classes \(2\.seg\.png\)"):
        open_split(tmp_path, "train")
    problems = Collected()
    assert len(open_split(tmp_path, "train", problems)) == 1
    assert [p.kind for p in problems.found] == ["image without annotation"]


def test_tar_files_without_annotations_are_not_claimed(tmp_path: Path) -> None:
    write_tar(tmp_path / "images-2017.tar", {"1.jpg": PHOTO, "2.jpg": PHOTO})
    assert find(tmp_path) is None


def test_keys_that_begin_anew_in_each_shard_stay_apart(tmp_path: Path) -> None:
    json_of = {"annotations": [OBJECT], "height": 3, "width": 4}
    for folder, other in (("maps", png(LABELS)), ("objects", json.dumps(json_of).encode())):
        suffix = "png" if folder == "maps" else "json"
        for shard, keys in (("val-000000.tar", "01"), ("val-000001.tar", "02")):
            members = {f"{k}.{s}": c for k in keys for s, c in (("jpg", PHOTO), (suffix, other))}
            write_tar(tmp_path / folder / shard, members)
        dataset = open_split(tmp_path / folder, "val")
        found = [(record.image_id, record.image.path.name) for record in dataset.records]
        assert found == [
            ("val-000000.tar/0", "val-000000.tar"),
            ("1", "val-000000.tar"),
            ("val-000001.tar/0", "val-000001.tar"),
            ("2", "val-000001.tar"),
        ]
        assert dataset.notes[-1].startswith("2 of 4 images have an id that occurs several times;")


def test_a_key_that_comes_twice_in_a_shard_is_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "val-0000.tar", "w") as tar:
        for name in ("a.jpg", "a.png", "b.jpg", "b.png", "a.jpg", "a.png"):
            content = PHOTO if name.endswith("jpg") else png(LABELS)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(
        ValueError, match=r"image id 'val-0000.tar/a' occurs twice, as .*val-0000.tar: a"
    ):
        open_split(tmp_path, "val")
    problems = Collected()
    assert len(open_split(tmp_path, "val", problems)) == 2
    assert [problem.kind for problem in problems.found] == ["duplicate id"]
