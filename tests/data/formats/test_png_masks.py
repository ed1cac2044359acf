import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import Reading
from mask2former.data.formats.png_masks import find, read

LABELS = np.array([[0, 2, 2, 255], [1, 1, 0, 255], [7, 7, 7, 0]], np.uint8)


def write(
    folder: Path,
    names: str = "ab",
    images: str = "images/train",
    masks: str = "masks/train",
    labels: np.ndarray = LABELS,
) -> Path:
    for place in (images, masks):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 3)).save(folder / images / f"{name}.jpg")
        Image.fromarray(labels).save(folder / masks / f"{name}.png")
    return folder


def write_classes(folder: Path, *names: str, **more: object) -> Path:
    (folder / "classes.json").write_text(json.dumps({"classes": names, **more}))
    return folder


def read_split(folder: Path, split: str = "train", **options: int) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(**options))


def segment_map(dataset: Dataset, index: int = 0) -> SegmentMap:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, SegmentMap)
    return annotations


@pytest.mark.parametrize("synonym", ["masks", "labels", "annotations", "annot"])
@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/train", "{}/train"),
        ("train/images", "train/{}"),
        ("train", "train{}"),
        ("train", "train_{}"),
    ],
)
def test_layouts_are_found(tmp_path: Path, images: str, masks: str, synonym: str) -> None:
    folder = write(tmp_path, images=images, masks=masks.format(synonym))
    assert find(folder) is not None
    assert list(find(folder).splits) == ["train"]
    dataset = read_split(folder)
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert dataset.records[1].image == folder / images / "b.jpg"
    np.testing.assert_array_equal(segment_map(dataset).ids, LABELS)


def test_labels_of_another_tool_are_no_masks(tmp_path: Path) -> None:
    write(tmp_path, masks="elsewhere")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert find(tmp_path) is None


def test_masks_pair_in_folders_below(tmp_path: Path) -> None:
    write(tmp_path, "a", images="images/train/one", masks="masks/train/one")
    write(tmp_path, "a", images="images/train/two", masks="masks/train/two")
    dataset = read_split(tmp_path)
    assert [record.image_id for record in dataset.records] == ["one/a", "two/a"]


def test_pixel_values_are_positions_in_the_class_list(tmp_path: Path) -> None:
    folder = write_classes(write(tmp_path), *"abcdefgh")
    dataset = read_split(folder)
    assert dataset.classes.names == tuple("abcdefgh")
    assert dataset.tasks == ("semantic",)
    # 255 is ignored
    labels = tuple(SegmentLabel(value, value) for value in (0, 1, 2, 7))
    assert segment_map(dataset).segments == labels


def test_pixel_values_may_be_sparse(tmp_path: Path) -> None:
    (write(tmp_path) / "classes.yaml").write_text("{0: a, 1: b, 2: c, 7: d}")
    dataset = read_split(tmp_path)
    assert dataset.classes.category_ids == (0, 1, 2, 7)
    assert segment_map(dataset).segments[-1] == SegmentLabel(7, 3)


def test_ignore_label_of_the_class_list_is_honoured(tmp_path: Path) -> None:
    dataset = read_split(write_classes(write(tmp_path), "a", "b", "c", ignore_label=7))
    assert [segment.id for segment in segment_map(dataset).segments] == [0, 1, 2]


def test_ignore_index_can_be_chosen(tmp_path: Path) -> None:
    labels = np.where(LABELS == 255, 3, LABELS)
    folder = write_classes(write(tmp_path, labels=labels), *"abcdefgh")
    dataset = read_split(folder, ignore_index=0)
    assert [segment.id for segment in segment_map(dataset).segments] == [1, 2, 3, 7]


def test_value_beyond_the_class_list_is_named(tmp_path: Path) -> None:
    dataset = read_split(write_classes(write(tmp_path), "a", "b", "c"))
    message = r"a\.png has pixel value 7, but the 3 classes have the values 0 to 2 and \[255\] is"
    with pytest.raises(ValueError, match=message):
        dataset.annotations(0)


def test_classes_are_found_in_all_splits_and_that_is_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    write(tmp_path, "c", "images/val", "masks/val", np.full((3, 4), 40, np.uint8))
    with caplog.at_level(logging.INFO):
        dataset = read_split(tmp_path)
    assert "has no class list" in caplog.text
    assert "reading 3 masks to find the pixel values" in caplog.text
    assert dataset.classes.category_ids == (0, 1, 2, 7, 40)
    assert dataset.classes.names[-1] == "class 40"
    assert read_split(tmp_path, "val").classes == dataset.classes


def test_masks_of_one_class_are_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # the usual mistake: foreground is 255, which is also the usual ignored value
    write(tmp_path, labels=np.where(LABELS > 1, 255, 0).astype(np.uint8))
    read_split(tmp_path)
    assert "one class, pixel value 0, and the ignored value 255; if that is a class" in caplog.text


def test_masks_without_any_class_are_refused(tmp_path: Path) -> None:
    write(tmp_path, labels=np.full((3, 4), 255, np.uint8))
    with pytest.raises(ValueError, match=r"every pixel of the 2 masks .* ignored value 255; set"):
        read_split(tmp_path)


def test_image_without_mask_and_mask_without_image_are_named(tmp_path: Path) -> None:
    write(tmp_path, "abcdef")
    for name in "bdef":
        (tmp_path / "masks" / "train" / f"{name}.png").unlink()
    with pytest.raises(
        ValueError,
        match=r"4 of 6 images have no mask .*first .*b\.jpg, .*d\.jpg, .*e\.jpg; masks of",
    ):
        read_split(tmp_path)
    for name in "abdef":
        (tmp_path / "images" / "train" / f"{name}.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 masks have no image .*first .*a\.png; masks of"):
        read_split(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "train" / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png share a name; keep one"):
        read_split(tmp_path)


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_split(write(tmp_path))))  # noqa: S301
    np.testing.assert_array_equal(segment_map(dataset).ids, LABELS)
