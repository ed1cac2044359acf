import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import Found, Reading
from mask2former.data.formats.yolo import find, label_path, read
from mask2former.data.problems import Collected
from mask2former.masks.polygons import rasterize_polygons

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)

SQUARE = "1 0.25 0.5 0.75 0.5 0.75 1 0.25 1"


def write(
    folder: Path,
    labels: dict[str, str | None],
    *,
    images: str = "images/train",
    texts: str = "labels/train",
) -> Path:
    """Images of 8 x 4 pixels with the given labels, and without a label file for none."""
    for place in (images, texts):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for name, text in labels.items():
        Image.new("RGB", (8, 4)).save(folder / images / f"{name}.jpg")
        if text is not None:
            (folder / texts / f"{name}.txt").write_text(text)
    return folder


def describe(folder: Path, name: str = "data.yaml", **content) -> Path:
    content = {"train": "images/train", "names": ["cat", "dog"]} | content
    (folder / name).write_text(yaml.safe_dump(content))
    return folder


def found_in(folder: Path) -> Found:
    found = find(folder)
    assert found is not None
    return found


def read_split(folder: Path, split: str = "train", **options) -> Dataset:
    return read(folder, split, found_in(folder), Reading(**options))


def instances(dataset: Dataset, index: int = 0) -> Instances:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, Instances)
    return annotations


def test_polygons_are_in_pixels_of_the_image(tmp_path: Path) -> None:
    dataset = read_split(describe(write(tmp_path, {"a": SQUARE + "\n\n0 0 0 1 0 1 1\n"})))
    assert dataset.tasks == ("instance", "panoptic", "semantic")
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.classes.category_ids == (0, 1)
    assert dataset.records[0].num_objects == 2
    annotations = instances(dataset)
    assert (annotations.height, annotations.width) == (4, 8)
    dog, cat = annotations.items
    np.testing.assert_array_equal(dog.mask[0], [[2, 2], [6, 2], [6, 4], [2, 4]])
    assert (dog.class_id, dog.area, cat.class_id) == (1, 8, 0)


def test_camera_that_was_turned_is_upright(tmp_path: Path) -> None:
    describe(write(tmp_path, {"a": SQUARE}))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (8, 4)).save(tmp_path / "images/train/a.jpg", exif=exif)
    assert (instances(read_split(tmp_path)).height, instances(read_split(tmp_path)).width) == (8, 4)


@pytest.mark.parametrize(
    ("content", "images", "texts"),
    [
        ({"train": "images/train"}, "images/train", "labels/train"),
        ({"path": ".", "train": "images/train"}, "images/train", "labels/train"),
        # the data set was moved: the path of its first owner is of no use
        ({"path": "../datasets/set", "train": "images/train"}, "images/train", "labels/train"),
        ({"path": "set", "train": "images/train"}, "set/images/train", "set/labels/train"),
        # as Roboflow writes it, whose paths lead above the folder
        ({"train": "../train/images"}, "train/images", "train/labels"),
        ({"train": "train/images"}, "train/images", "train/labels"),
        # without a folder called images the labels lie beside the pictures
        ({"train": "train"}, "train", "train"),
        ({"train": ["images/train"]}, "images/train/below", "labels/train/below"),
    ],
)
def test_images_and_labels_are_found(
    tmp_path: Path, content: dict, images: str, texts: str
) -> None:
    write(tmp_path, {"a": SQUARE, "b": SQUARE}, images=images, texts=texts)
    dataset = read_split(describe(tmp_path, **content))
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert [record.num_objects for record in dataset.records] == [1, 1]


def test_lists_of_images_are_read(tmp_path: Path) -> None:
    describe(write(tmp_path, {"a": SQUARE, "b": SQUARE, "c": SQUARE}), train="train.txt")
    absolute = tmp_path / "images" / "train" / "c.jpg"
    (tmp_path / "train.txt").write_text(f"./images/train/b.jpg\n\n{absolute}\n")
    assert [record.image_id for record in read_split(tmp_path).records] == ["b", "c"]
    with (tmp_path / "train.txt").open("a") as file:
        file.write("images/train/d.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"no image .*d\.jpg, which the list of the split"):
        read_split(tmp_path)


def test_names_that_repeat_in_two_folders_get_their_folder(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path, {"a": SQUARE}, images=f"images/{place}", texts=f"labels/{place}")
    dataset = read_split(describe(tmp_path, train=["images/one", "images/two"]))
    assert [record.image_id for record in dataset.records] == ["images/one/a", "images/two/a"]


def test_splits_are_those_of_the_file(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write(tmp_path, {split: SQUARE}, images=f"images/{split}", texts=f"labels/{split}")
    describe(tmp_path, val="images/val", test=None)
    assert list(found_in(tmp_path).splits) == ["train", "val"]
    assert read_split(tmp_path, "val").records[0].image_id == "val"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat", "dog"], {0: "cat", 1: "dog"}),
        ({7: "dog", 1: "cat"}, {1: "cat", 7: "dog"}),
        ({"1": "cat"}, {1: "cat"}),
        ([0, True], {0: "0", 1: "True"}),
    ],
)
def test_names_are_a_list_or_by_number(
    tmp_path: Path, names: object, expected: dict[int, str]
) -> None:
    classes = read_split(describe(write(tmp_path, {"a": ""}), names=names)).classes
    assert dict(zip(classes.category_ids, classes.names, strict=True)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"nc": 3}, r"data\.yaml: nc is 3, but 'names' lists 2 classes; make the two agree"),
        ({"names": "cat"}, r"data\.yaml: 'names' is no list of names and no \{class: name\}"),
        ({"names": {"cat": 0}}, r"data\.yaml: 'names' is no list of names"),
        ({"names": []}, r"data\.yaml: nc is 0, but 'names' lists 0 classes"),
    ],
)
def test_wrong_names_are_refused(tmp_path: Path, content: dict, message: str) -> None:
    describe(write(tmp_path, {"a": ""}), **content)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path)


def test_other_yaml_files_are_no_data_sets(tmp_path: Path) -> None:
    write(tmp_path, {"a": SQUARE})
    (tmp_path / "run.yaml").write_text("preset: tiny\n")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "list.yml").write_text("- names\n")
    describe(tmp_path, "gone.yaml", train="images/gone")
    describe(tmp_path, "pngs.yaml", masks_dir="masks")
    assert find(tmp_path) is None
    describe(tmp_path, "coco8-seg.yaml")
    assert len(read_split(tmp_path)) == 1


def test_data_yaml_is_taken_at_its_word(tmp_path: Path) -> None:
    describe(tmp_path, train="images/gone")
    message = r"data\.yaml gives images/gone as split 'train', but no image is there; correct the"
    with pytest.raises(FileNotFoundError, match=message):
        read_split(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"train": "/elsewhere/nuts/images/train"},
        {"train": "C:\\Users\\me\\nuts\\images\\train"},
        {"path": "/elsewhere/nuts", "train": "images/train"},
    ],
)
def test_paths_of_another_machine_are_followed_without_their_beginning(
    tmp_path: Path, content: dict[str, str]
) -> None:
    dataset = read_split(describe(write(tmp_path, {"a": SQUARE}), **content))
    assert [record.image for record in dataset.records] == [tmp_path / "images/train/a.jpg"]
    assert not any("label file" in note for note in dataset.notes)


def test_images_without_label_file_show_nothing_and_are_counted(tmp_path: Path) -> None:
    dataset = read_split(describe(write(tmp_path, {"a": None, "b": "", "c": SQUARE})))
    assert [record.num_objects for record in dataset.records] == [0, 0, 1]
    assert instances(dataset).items == ()
    assert "1 of 3 images have no label file: they show no object." in dataset.notes


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("set/images/train/a.jpg", "set/labels/train/a.txt"),
        ("images/images/a.b.png", "images/labels/a.b.txt"),
        ("set/train/a.jpg", "set/train/a.txt"),
        ("set/images.jpg", "set/images.txt"),
    ],
)
def test_last_folder_called_images_becomes_labels(image: str, label: str) -> None:
    assert label_path(Path(image)) == Path(label)


FAULTS = [
    ("1 0.5 0.5 0.2 0.2", "no mask", True, "has no mask, only a box; give polygons"),
    ("2 0 0 1 0 1 1", "unknown class", True, "has class 2, but 'names' lists 2 classes from 0 to"),
    ("0.5 0 0 1 0 1 1", "unknown class", True, "has class 0.5, but"),
    ("0 0 0 1 0 1 1 0", "bad polygon", True, "has 7 coordinates; x and y come in pairs"),
    ("0 0 0 1 0 1 nan", "bad polygon", True, "has a coordinate that is no number"),
    ("cat 0 0 1 0 1 1", "unreadable annotation", True, "is not a class and coordinates; write"),
    ("0 0 0 80 0 80 60", "mask outside image", True, "from 0 to 80, far outside [0, 1]; divide x"),
    ("0 0.5 0.5", "degenerate polygon", False, "has 1 points, fewer than 3 different ones"),
    ("0", "degenerate polygon", False, "has 0 points"),
    ("0 0 0 1 1 0 0 1 1", "degenerate polygon", False, "has 4 points, fewer than 3 different"),
]


@pytest.mark.parametrize(("text", "kind", "is_error", "message"), FAULTS)
def test_faulty_lines_are_named_and_left_out(
    tmp_path: Path, text: str, kind: str, is_error: bool, message: str
) -> None:
    describe(write(tmp_path, {"a": f"{SQUARE}\n{text}\n{SQUARE}", "b": SQUARE}))
    problems = Collected()
    dataset = read_split(tmp_path, problems=problems)
    (problem,) = problems.found
    assert (problem.kind, problem.is_error, problem.image_id) == (kind, is_error, "a")
    assert message in problem.message
    assert problem.message.startswith(f"{tmp_path / 'labels/train/a.txt'}: line 2 ")
    assert [record.num_objects for record in dataset.records] == [2, 1]
    assert len(instances(dataset).items) == 2


def test_reading_stops_at_the_first_error(tmp_path: Path) -> None:
    describe(write(tmp_path, {"a": "1 0.5 0.5 0.2 0.2"}))
    with pytest.raises(ValueError, match=r"a\.txt: line 1 has no mask, only a box"):
        read_split(tmp_path)


def test_little_overhang_is_cut_and_warned_of_once_a_file(tmp_path: Path) -> None:
    describe(write(tmp_path, {"a": "0 -0.01 0 0.5 0 0.5 1.01 0 1\n" * 2}))
    problems = Collected()
    dataset = read_split(tmp_path, problems=problems)
    (problem,) = problems.found
    assert (problem.kind, problem.is_error) == ("mask outside image", False)
    assert "line 1 has coordinates outside [0, 1] (2 lines)" in problem.message
    points = instances(dataset).items[0].mask[0]
    np.testing.assert_array_equal(points, [[0, 0], [4, 0], [4, 4], [0, 4]])


def test_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    describe(write(tmp_path, {"a": "", "b": SQUARE}))
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(b"\xff\xfe\x00")
    problems = Collected()
    assert len(read_split(tmp_path, problems=problems)) == 2
    assert [p.kind for p in problems.found] == ["unreadable annotation"]


def test_parts_joined_by_a_bridge_stay_apart(tmp_path: Path) -> None:
    # two squares; the way from one to the other and back runs on one line
    text = "0 0 0 0.25 0 0.25 0.5 0.75 0.5 1 0.5 1 1 0.75 1 0.75 0.5 0.25 0.5 0 0.5"
    dataset = read_split(describe(write(tmp_path, {"a": text})))
    (item,) = instances(dataset).items
    inside = rasterize_polygons([item.mask[0]], 4, 8)
    expected = np.zeros((4, 8), bool)
    expected[:2, :2] = expected[2:, 6:] = True
    np.testing.assert_array_equal(inside, expected)
    assert item.area == 8


def test_label_file_that_changes_while_in_use_is_refused(tmp_path: Path) -> None:
    dataset = read_split(describe(write(tmp_path, {"a": f"{SQUARE}\n{SQUARE}"})))
    (tmp_path / "labels" / "train" / "a.txt").write_text(SQUARE)
    with pytest.raises(ValueError, match=r"a\.txt was changed while it was in use; open the data"):
        dataset.annotations(0)


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = read_split(describe(write(tmp_path, {"a": SQUARE})))
    assert len(instances(pickle.loads(pickle.dumps(dataset))).items) == 1  # noqa: S301


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize(("split", "num_images", "count"), [("train", 24, 187), ("val", 12, 116)])
def test_real_polygons_have_the_known_counts_and_classes(
    tmp_path: Path, split: str, num_images: int, count: int
) -> None:
    real = SAMPLES / "coco_panoptic"
    assert find(real) is None  # it names no folder that is there
    (tmp_path / "images").symlink_to((real / "images").resolve())
    (tmp_path / "labels").symlink_to((real / "yolo_seg_labels").resolve())
    content = yaml.safe_load((real / "instance_segmentation_classes.yaml").read_text())
    describe(tmp_path, train="images/train", val="images/val", names=content["names"])
    dataset = read_split(tmp_path, split)
    assert len(dataset) == num_images
    assert len(dataset.classes) == 80
    annotations = [instances(dataset, i) for i in range(num_images)]
    assert sum(len(one.items) for one in annotations) == count
    panoptic = json.loads((real / "annotations" / f"panoptic_{split}.json").read_text())
    things = {c["id"] for c in panoptic["categories"] if c["isthing"]}
    by_image = {Path(a["file_name"]).stem: a for a in panoptic["annotations"]}
    for record, one in zip(dataset.records, annotations, strict=True):
        theirs = {s["category_id"] for s in by_image[str(record.image_id)]["segments_info"]}
        ours = {dataset.classes.category_ids[item.class_id] for item in one.items}
        assert ours <= theirs & things
