import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.formats import instance_png
from mask2former.data.formats.format import WHOLE, Reading
from mask2former.data.formats.png_masks import find, read
from mask2former.data.problems import Collected, FaultError

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


def read_split(folder: Path, split: str = "train", **options) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(**options))


def segment_map(dataset: Dataset, index: int = 0) -> SegmentMap:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, SegmentMap)
    return annotations


@pytest.mark.parametrize("synonym", ["masks", "labels", "Annotations", "annot"])
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


@pytest.mark.parametrize(
    ("images", "masks"), [("images", "masks"), ("Images", "labels"), ("imgs", "annotations")]
)
def test_folder_without_splits_is_one(tmp_path: Path, images: str, masks: str) -> None:
    folder = write(tmp_path, images=images, masks=masks)
    found = find(folder)
    assert found is not None
    assert list(found.splits) == [WHOLE]
    assert len(read_split(folder, WHOLE)) == 2


def test_layout_of_mmsegmentation_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path, images="img_dir/val", masks="ann_dir/val")
    assert len(read_split(folder, "val")) == 2


def test_masks_among_the_images_are_found_by_their_ending(tmp_path: Path) -> None:
    # as Roboflow exports them
    folder = write(tmp_path, images="train", masks="train")
    for name in "ab":
        (folder / "train" / f"{name}.png").rename(folder / "train" / f"{name}_mask.png")
    (folder / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, x\n1, y\n2, z\n7, w\n")
    dataset = read_split(folder)
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert dataset.classes.names == ("x", "y", "z", "w")
    assert instance_png.FORMAT.find(folder) is None


@pytest.mark.parametrize("ending", ["_mask", "_label", "_labelIds", "_L", "_gt"])
def test_usual_endings_of_masks_are_seen_through(tmp_path: Path, ending: str) -> None:
    folder = write(tmp_path)
    (folder / "masks/train/a.png").rename(folder / f"masks/train/a{ending}.png")
    dataset = read_split(folder)
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert dataset.records[0].annotation.endswith(f"a{ending}.png")


def test_ends_of_image_and_mask_may_differ(tmp_path: Path) -> None:
    folder = write(tmp_path, "a")
    (folder / "images/train/a.jpg").rename(folder / "images/train/a_sat.jpg")
    (folder / "masks/train/a.png").rename(folder / "masks/train/a_mask.png")
    assert [record.image_id for record in read_split(folder).records] == ["a_sat"]


def test_two_masks_for_one_image_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "a")
    for ending in ("_labelIds", "_labelTrainIds"):
        Image.fromarray(LABELS).save(folder / "masks" / "train" / f"a{ending}.png")
    (folder / "masks/train/a.png").unlink()
    with pytest.raises(ValueError, match=r"a_labelIds\.png and .* are both for 'a'; keep one"):
        read_split(folder)


def test_finding_does_not_walk_folders_of_other_files(tmp_path: Path) -> None:
    write(tmp_path, masks="elsewhere")
    (tmp_path / "masks" / "train").mkdir(parents=True)
    for i in range(1200):
        (tmp_path / "masks" / "train" / f"{i}.txt").touch()
    assert find(tmp_path) is None


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
    message = r"a\.png has pixel value 7, but classes have the values 0 to 2 and \[255\] is"
    with pytest.raises(FaultError, match=message) as raised:
        dataset.annotations(0)
    assert raised.value.kind == "unknown class"


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


def test_binary_masks_are_background_and_foreground(tmp_path: Path) -> None:
    # 255, the usual value to ignore, would leave a single class, which nothing can be learnt from
    write(tmp_path, labels=np.where(LABELS > 1, 255, 0).astype(np.uint8))
    dataset = read_split(tmp_path)
    assert dataset.classes.names == ("background", "foreground")
    assert dataset.classes.category_ids == (0, 255)
    assert {segment.class_id for segment in segment_map(dataset).segments} == {0, 1}
    assert any("No pixel value is ignored" in note for note in dataset.notes)
    assert read_split(tmp_path, ignore_index=0).classes.category_ids == (255,)


def test_masks_without_any_class_are_refused(tmp_path: Path) -> None:
    write(tmp_path, labels=np.full((3, 4), 255, np.uint8))
    with pytest.raises(ValueError, match=r"every pixel of the 2 masks .* ignored value 255; set"):
        read_split(tmp_path)


def test_classes_are_looked_for_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path)
    with caplog.at_level(logging.INFO):
        read_split(tmp_path)
        read_split(tmp_path)
    assert caplog.text.count("to find the pixel values") == 1
    write(tmp_path, "c", labels=np.full((3, 4), 40, np.uint8))
    assert 40 in read_split(tmp_path).classes.category_ids


def test_image_without_mask_and_mask_without_image_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "abcd")
    for name in "bd":
        (tmp_path / "masks" / "train" / f"{name}.png").unlink()
    with pytest.raises(
        ValueError,
        match=r"image .*b\.jpg has no annotation in .* \(2 of 4 images have none\); add",
    ):
        read_split(tmp_path)
    for name in "abd":
        (tmp_path / "images" / "train" / f"{name}.jpg").unlink()
    caplog.clear()
    assert len(read_split(tmp_path)) == 1
    assert "1 of 2 annotation files in" in caplog.text


def test_check_names_every_lone_image_and_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "abcd")
    for name in "bd":
        (tmp_path / "masks" / "train" / f"{name}.png").unlink()
    (tmp_path / "images" / "train" / "a.jpg").unlink()
    problems = Collected()
    dataset = read_split(tmp_path, problems=problems)
    assert [record.image_id for record in dataset.records] == ["c"]
    assert [(p.kind, Path(p.file or "").name) for p in problems.found] == [
        ("image without annotation", "b.jpg"),
        ("image without annotation", "d.jpg"),
        ("annotation without image", "a.png"),
    ]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "train" / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png share a name; keep one"):
        read_split(tmp_path)


def colored(labels: np.ndarray) -> np.ndarray:
    """Red is the class, green its tenfold."""
    return np.stack([labels, 10 * (labels % 25), np.zeros_like(labels)], axis=-1)


def write_colors(folder: Path, *values: int) -> Path:
    color = colored(np.array([values], np.uint8))[0].tolist()
    entries = [{"name": f"c{value}", "color": c} for value, c in zip(values, color, strict=True)]
    (folder / "classes.json").write_text(json.dumps({"classes": entries}))
    return folder


def test_colors_are_read_by_the_class_list(tmp_path: Path) -> None:
    folder = write_colors(write(tmp_path, labels=colored(LABELS)), 255, 7, 2, 0, 1)
    dataset = read_split(folder)
    # a list counts from 0, so value 255 of the picture is class 0
    expected = np.array([[3, 2, 2, 0], [4, 4, 3, 0], [1, 1, 1, 3]])
    np.testing.assert_array_equal(segment_map(dataset).ids, expected)
    assert dataset.classes.names == ("c255", "c7", "c2", "c0", "c1")
    assert "Masks are colour-coded, by the class list." in dataset.notes


def test_transparency_does_not_change_colors(tmp_path: Path) -> None:
    rgba = np.concatenate([colored(LABELS), np.full((3, 4, 1), 9, np.uint8)], axis=-1)
    folder = write_colors(write(tmp_path, labels=rgba), 0, 1, 2, 7, 255)
    assert segment_map(read_split(folder)).ids.max() == 4


def test_color_of_no_class_is_named_with_its_pixels(tmp_path: Path) -> None:
    dataset = read_split(write_colors(write(tmp_path, labels=colored(LABELS)), 0, 1, 2, 255))
    message = r"a\.png has 3 pixels of the colour \(7, 70, 0\), which the class list does not have"
    with pytest.raises(FaultError, match=message) as raised:
        dataset.annotations(0)
    # it travels between processes
    assert pickle.loads(pickle.dumps(raised.value)).kind == "unknown class"  # noqa: S301 our own


def test_colors_without_a_table_are_shown(tmp_path: Path) -> None:
    write(tmp_path, labels=colored(LABELS))
    message = (
        r"a\.png is colour-coded, and no class list .* 2 masks .* have the colours \[0, 0, 0\], "
        r"\[1, 10, 0\], \[2, 20, 0\], \[7, 70, 0\], \[255, 50, 0\]: write .*classes\.json as "
    )
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path)


def test_grey_saved_as_rgb_is_grey(tmp_path: Path) -> None:
    dataset = read_split(write(tmp_path, labels=np.repeat(LABELS[..., None], 3, axis=2)))
    np.testing.assert_array_equal(segment_map(dataset).ids, LABELS)
    assert dataset.classes.category_ids == (0, 1, 2, 7)
    assert dataset.notes[0].startswith("Masks are grey, saved as RGB")


def test_one_mask_in_color_among_grey_ones_is_refused(tmp_path: Path) -> None:
    grey = np.repeat(LABELS[..., None], 3, axis=2)
    write(tmp_path, "abcdefghijklmnopqrstuvwxyzABCDEFG", labels=grey)  # more than are looked into
    dataset = read_split(tmp_path)
    Image.fromarray(colored(LABELS)).save(tmp_path / "masks" / "train" / "a.png")
    index = [record.image_id for record in dataset.records].index("a")
    with pytest.raises(ValueError, match=r"a\.png is in colour, but the other masks are grey"):
        dataset.annotations(index)


@pytest.mark.parametrize("shift", [0, 1])
def test_palettes_show_values_by_colors_of_the_table_or_any_others(
    tmp_path: Path, shift: int
) -> None:
    write_colors(write(tmp_path), 0, 1, 2, 3)
    values = np.where(LABELS == 255, 0, LABELS) % 4
    image = Image.fromarray(values)
    image.putpalette((colored(np.arange(4, dtype=np.uint8)[None]) + shift).ravel().tolist())
    for name in "ab":
        image.save(tmp_path / "masks" / "train" / f"{name}.png")
    np.testing.assert_array_equal(segment_map(read_split(tmp_path)).ids, values)


def test_palettes_of_shrunk_color_masks_are_read_by_color(tmp_path: Path) -> None:
    write_colors(write(tmp_path), 7, 2, 1, 0, 255)
    for name in "ab":
        # as programs do that shrink PNGs: the same picture with a palette in their own order
        small = Image.fromarray(colored(LABELS)).quantize(5)
        assert small.mode == "P"
        small.save(tmp_path / "masks" / "train" / f"{name}.png")
    dataset = read_split(tmp_path)
    expected = np.array([[3, 1, 1, 4], [2, 2, 3, 4], [0, 0, 0, 3]])
    np.testing.assert_array_equal(segment_map(dataset).ids, expected)
    assert dataset.notes[0].startswith("Masks have palettes in another order")


def test_16_bit_masks_hold_more_classes_than_a_byte(tmp_path: Path) -> None:
    labels = np.array([[0, 255, 300, 846]], np.uint16)
    folder = write_classes(write(tmp_path, labels=labels), *(f"c{i}" for i in range(847)))
    dataset = read_split(folder)
    # 255 is the usual value to ignore, but here a class
    assert [segment.class_id for segment in segment_map(dataset).segments] == [0, 255, 300, 846]
    assert "No pixel value is ignored." in dataset.notes


def test_notes_say_what_is_ignored_and_what_0_is(tmp_path: Path) -> None:
    dataset = read_split(write_classes(write(tmp_path), "a", "b", "c", ignore_label=7))
    assert "pixel value 7 and 255" in dataset.notes[1]
    assert dataset.notes[2] == "Pixel value 0 is a class, 'a'."


def test_ignored_value_is_no_class_even_if_it_has_a_name(tmp_path: Path) -> None:
    dataset = read_split(write_classes(write(tmp_path), *"abcdefgh"), ignore_index=0)
    assert dataset.classes.category_ids == tuple(range(1, 8))


def test_things_are_marked(tmp_path: Path) -> None:
    entries = [{"name": "a"}, {"name": "b", "isthing": 1}, {"name": "c"}]
    (write(tmp_path) / "classes.json").write_text(json.dumps(entries))
    assert read_split(tmp_path).classes.is_thing == (False, True, False)


def test_damaged_mask_is_told_when_it_is_decoded(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "masks" / "train" / "b.png").write_bytes(b"no picture")
    dataset = read_split(tmp_path)
    assert dataset.classes.category_ids == (0, 1, 2, 7)
    with pytest.raises(ValueError, match=r"cannot read .*b\.png as an image"):
        dataset.annotations(1)


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_split(write(tmp_path))))  # noqa: S301
    np.testing.assert_array_equal(segment_map(dataset).ids, LABELS)
