"""Files that TensorFlow wrote; see `tests/data/fixtures`. Ours: `tests/data/shards`."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mask2former.data.annotations import Instances, SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import Reading
from mask2former.data.formats.tfrecord import FORMAT, find, read
from mask2former.data.images import read_image
from mask2former.data.problems import Strict
from mask2former.data.shards.distinct_ids import distinct_ids
from mask2former.data.shards.foreign_records import scan_file
from mask2former.data.shards.tf_example import encode_example
from mask2former.data.shards.tf_record import frame
from mask2former.masks.rle import decode_rle

FIXTURES = Path(__file__).parents[1] / "fixtures/tfrecord"
FILE = "train-00000-of-00001.tfrecord"

# the pixels that make_tfrecord.py draws: a cat, dogs in the first column, grass below
CAT = np.zeros((7, 9), bool)
CAT[1:4, 2:6] = True
DOGS = np.zeros((7, 9), bool)
DOGS[:, 0] = True
GRASS = np.zeros((7, 9), bool)
GRASS[4:, 1:8] = True


def open_layout(folder: Path, split: str = "train") -> Dataset:
    found = find(folder)
    assert found is not None
    dataset = read(folder, split, found, Reading())
    assert dataset.tasks == found.tasks
    return dataset


def pixels(annotations: object, segment_id: int) -> np.ndarray:
    assert isinstance(annotations, SegmentMap)
    return annotations.ids == segment_id


def test_objects_with_masks_are_read() -> None:
    dataset = open_layout(FIXTURES / "objects")
    assert dataset.tasks[0] == "instance"
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.classes.category_ids == (3, 7)
    empty, record = dataset.records
    assert (empty.image_id, record.image_id, record.image.name) == (10, 11, "000011.jpg")
    assert (empty.num_objects, record.num_objects) == (0, 1)
    assert read_image(record.image, annotated_size=(7, 9)).shape == (7, 9, 3)
    nothing, annotations = dataset.annotations(0), dataset.annotations(1)
    assert nothing == Instances(7, 9, ())
    assert isinstance(annotations, Instances)
    cat, dogs = annotations.items
    assert (cat.class_id, cat.is_crowd, cat.area) == (0, False, 11.5)
    assert (dogs.class_id, dogs.is_crowd, dogs.area) == (1, True, 7.0)
    for item, expected in ((cat, CAT), (dogs, DOGS)):
        assert isinstance(item.mask, dict)
        np.testing.assert_array_equal(decode_rle(item.mask), expected)


def test_pairs_of_panoptic_masks_are_read() -> None:
    dataset = open_layout(FIXTURES / "pairs")
    assert dataset.tasks[0] == "panoptic"
    assert dataset.classes.names == ("cat", "dog", "grass {green}")
    assert dataset.classes.is_thing == (True, True, False)
    annotations = dataset.annotations(0)
    # ids are category x 256 + number of the object + 1
    ids = (3 * 256 + 1 + 1, 7 * 256 + 2 + 1, 12 * 256 + 1)
    assert isinstance(annotations, SegmentMap)
    assert annotations.segments == tuple(SegmentLabel(i, c) for c, i in enumerate(ids))
    for segment_id, expected in zip(ids, (CAT, DOGS, GRASS), strict=True):
        np.testing.assert_array_equal(pixels(annotations, segment_id), expected)


def test_raw_panoptic_maps_of_a_video_are_read() -> None:
    dataset = open_layout(FIXTURES / "raw")
    assert "class x 1000 + object" in dataset.notes[0]
    assert [(r.group, r.frame) for r in dataset.records] == [("0002", 0), ("0002", 1)]
    assert len({record.image_id for record in dataset.records}) == 2
    for i in range(2):
        annotations = dataset.annotations(i)
        for segment_id, expected in ((3002, CAT), (7003, DOGS), (12001, GRASS)):
            np.testing.assert_array_equal(pixels(annotations, segment_id), expected)


def test_semantic_maps_are_read(tmp_path: Path) -> None:
    dataset = open_layout(FIXTURES / "semantic")
    assert dataset.tasks == ("semantic",)
    assert dataset.classes.names == ("class 3", "class 7", "class 12")
    assert dataset.notes == ("Pixel value 255 is ignored.",)
    np.testing.assert_array_equal(pixels(dataset.annotations(0), 12), GRASS)
    shutil.copytree(FIXTURES / "semantic", tmp_path, dirs_exist_ok=True)
    (tmp_path / "classes.json").write_text('{"3": "cat", "7": "dog", "9": "tree"}')
    with pytest.raises(ValueError, match="has pixel value 12, but the 3 classes have the values"):
        open_layout(tmp_path).annotations(0)


def test_raw_maps_need_a_class_list(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "raw" / FILE, tmp_path)
    with pytest.raises(ValueError, match=r"the divisor is unknown; write label_map\.pbtxt"):
        open_layout(tmp_path)
    (tmp_path / "label_map.pbtxt").write_text('item { id: 200 name: "a" }')
    with pytest.raises(ValueError, match="panoptic values up to 12000, which are no listed class"):
        open_layout(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("coco_train2017.record-00000-of-00001", "train"),
        ("val-00000-of-00001.tfrecord", "val"),
        ("valid.tfrecord", "valid"),
        ("Squirrels.tfrecord", "Squirrels"),
        ("test/a.tfrecords", "test"),
    ],
)
def test_names_tell_the_split(tmp_path: Path, name: str, split: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    shutil.copy(FIXTURES / "objects" / FILE, tmp_path / name)
    found = find(tmp_path)
    assert found is not None
    assert found.splits == {split: [tmp_path / name]}
    assert len(FORMAT.read(tmp_path, split, found, Reading())) == 2


def test_classes_need_no_labels(tmp_path: Path) -> None:
    features = {
        "image/encoded": [b"x"],
        "image/height": np.array([7], np.int64),
        "image/width": np.array([9], np.int64),
        "image/object/mask": [b"x", b"x"],
        "image/object/class/text": [b"dog", b"cat"],
    }
    (tmp_path / "a.tfrecord").write_bytes(frame(encode_example(features)))
    assert open_layout(tmp_path, "a").classes.names == ("cat", "dog")


def test_boxes_alone_are_refused(tmp_path: Path) -> None:
    features = {"image/encoded": [b"x"], "image/object/bbox/xmin": np.zeros(1, np.float32)}
    (tmp_path / "train.tfrecord").write_bytes(frame(encode_example(features)))
    with pytest.raises(ValueError, match=r"train\.tfrecord has only boxes; write masks"):
        open_layout(tmp_path)


def test_images_without_id_or_name_differ_between_shards(tmp_path: Path) -> None:
    features = {
        "image/encoded": [b"x"],
        "image/height": np.array([7], np.int64),
        "image/width": np.array([9], np.int64),
        "image/object/mask": [b"x"],
        "image/object/class/text": [b"dog"],
    }
    for name in ("train-0.tfrecord", "train-1.tfrecord"):
        (tmp_path / name).write_bytes(frame(encode_example(features)) * 2)
    ids = [record.image_id for record in open_layout(tmp_path).records]
    assert len(set(ids)) == 4
    assert [str(i).split("/")[0] for i in ids] == ["train-0.tfrecord"] * 2 + [
        "train-1.tfrecord"
    ] * 2


def test_source_ids_that_begin_anew_in_each_shard_can_be_told_apart(tmp_path: Path) -> None:
    features = {
        "image/encoded": [b"x"],
        "image/height": np.array([7], np.int64),
        "image/width": np.array([9], np.int64),
        "image/object/mask": [b"x"],
    }
    records = []
    for name, source_ids in (("a.tfrecord", (b"1", b"2")), ("b.tfrecord", (b"1", b"3"))):
        examples = [encode_example(features | {"image/source_id": [i]}) for i in source_ids]
        (tmp_path / name).write_bytes(b"".join(map(frame, examples)))
        records += scan_file(tmp_path / name, "objects", with_values=False).records
    distinct, notes = distinct_ids(records, Strict())
    assert [record.image_id for record in distinct] == ["a.tfrecord/1", 2, "b.tfrecord/1", 3]
    assert notes[0].startswith("2 of 4 images have an id that occurs several times;")
    assert distinct_ids(distinct, Strict()) == (distinct, ())
