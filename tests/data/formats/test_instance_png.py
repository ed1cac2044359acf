import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.derive import instance_rles
from mask2former.data.formats.format import WHOLE, Found, Reading
from mask2former.data.formats.instance_png import find, find_forced, read
from mask2former.data.formats.png_masks import find as find_png_masks
from mask2former.data.images import read_image
from mask2former.data.problems import Collected

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)

# object 2 is in two parts
NUMBERS = np.array([[0, 2, 0, 2], [1, 1, 0, 0], [7, 7, 7, 0]], np.uint8)


def write(
    folder: Path,
    images: str = "images/train",
    masks: str = "instances/train",
    ending: str = "",
    numbers: np.ndarray = NUMBERS,
) -> Path:
    for place in (images, masks):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for name in "ab":
        Image.new("RGB", (4, 3)).save(folder / images / f"{name}.png")
        Image.fromarray(numbers).save(folder / masks / f"{name}{ending}.png")
    return folder


def found_in(folder: Path) -> Found:
    found = find(folder)
    assert found is not None
    return found


def read_split(folder: Path, split: str = "train", **options) -> Dataset:
    return read(folder, split, found_in(folder), Reading(**options))


def segment_map(dataset: Dataset, index: int = 0) -> SegmentMap:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, SegmentMap)
    return annotations


def test_penn_fudan_is_found_with_its_class(tmp_path: Path) -> None:
    folder = write(tmp_path, "PNGImages", "PedMasks", "_mask")
    dataset = read_split(folder, WHOLE)
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert dataset.classes.names == ("pedestrian",)
    assert dataset.tasks == ("instance", "panoptic", "semantic")
    assert find_png_masks(folder) is None


@pytest.mark.parametrize(
    ("images", "masks", "split"),
    [
        ("images/val", "instances/val", "val"),
        ("val/images", "val/instance_masks", "val"),
        ("val", "val_inst_masks", "val"),
        ("images", "instances", WHOLE),
    ],
)
def test_layouts_are_found(tmp_path: Path, images: str, masks: str, split: str) -> None:
    folder = write(tmp_path, images, masks)
    assert list(found_in(folder).splits) == [split]
    assert len(read_split(folder, split)) == 2
    assert find_png_masks(folder) is None


def test_folders_of_classes_are_taken_only_if_the_format_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, masks="masks/train")
    assert find(folder) is None
    found = find_forced(folder)
    assert found is not None
    assert len(read(folder, "train", found, Reading())) == 2


def test_every_number_is_an_object_connected_or_not(tmp_path: Path) -> None:
    annotations = segment_map(read_split(write(tmp_path)))
    np.testing.assert_array_equal(annotations.ids, NUMBERS)
    assert annotations.segments == tuple(SegmentLabel(number, 0) for number in (1, 2, 7))
    assert [item.area for item in instance_rles(annotations)] == [2, 2, 3]


def test_numbers_may_need_16_bits(tmp_path: Path) -> None:
    folder = write(tmp_path, numbers=np.array([[0, 255, 256, 60000]], np.uint16))
    assert [segment.id for segment in segment_map(read_split(folder)).segments] == [255, 256, 60000]


def test_numbers_may_be_a_palette_or_equal_channels(tmp_path: Path) -> None:
    image = Image.fromarray(NUMBERS)
    image.putpalette([i for i in range(8) for _ in range(3)])
    write(tmp_path / "palette")
    image.save(tmp_path / "palette" / "instances" / "train" / "a.png")
    write(tmp_path / "rgb", numbers=np.repeat(NUMBERS[..., None], 3, axis=2))
    for name in ("palette", "rgb"):
        np.testing.assert_array_equal(segment_map(read_split(tmp_path / name)).ids, NUMBERS)


def test_every_color_but_black_is_an_object(tmp_path: Path) -> None:
    rgb = np.zeros((1, 4, 3), np.uint8)
    rgb[0, 1] = (0, 0, 9)
    rgb[0, 2] = (9, 0, 0)
    # by red + 256 green + 65536 blue
    ids = segment_map(read_split(write(tmp_path, numbers=rgb))).ids
    np.testing.assert_array_equal(ids, [[0, 2, 1, 0]])


def test_image_without_objects_has_none(tmp_path: Path) -> None:
    dataset = read_split(write(tmp_path, numbers=np.zeros((3, 4), np.uint8)))
    assert segment_map(dataset).segments == ()


def test_class_list_names_the_class(tmp_path: Path) -> None:
    (write(tmp_path) / "classes.txt").write_text("cell\n")
    assert read_split(tmp_path).classes.names == ("cell",)
    (tmp_path / "classes.txt").write_text("cell\nnucleus\n")
    with pytest.raises(ValueError, match=r"classes\.txt lists 2 classes, but numbers of objects"):
        read_split(tmp_path)


def test_without_a_class_list_the_class_is_called_object(tmp_path: Path) -> None:
    dataset = read_split(write(tmp_path))
    assert dataset.classes.names == ("object",)
    assert "all objects are of the class 'object'" in dataset.notes[0]


def test_lone_files_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "instances" / "train" / "a.png").unlink()
    (folder / "images" / "train" / "b.png").unlink()
    problems = Collected()
    assert len(read_split(folder, problems=problems)) == 0
    kinds = [problem.kind for problem in problems.found]
    assert kinds == ["image without annotation", "annotation without image"]
    with pytest.raises(ValueError, match=r"a\.png has no annotation in"):
        read_split(folder)


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_split(write(tmp_path))))  # noqa: S301
    np.testing.assert_array_equal(segment_map(dataset).ids, NUMBERS)


@needs_samples
@pytest.mark.parity
def test_penn_fudan_has_14_images_and_33_pedestrians() -> None:
    dataset = read_split(SAMPLES / "penn_fudan", WHOLE)
    assert len(dataset) == 14
    annotations = [segment_map(dataset, i) for i in range(14)]
    assert sum(len(one.segments) for one in annotations) == 33
    for record, one in zip(dataset.records, annotations, strict=True):
        assert read_image(record.image).shape[:2] == one.ids.shape


@needs_samples
@pytest.mark.parity
def test_only_penn_fudan_of_the_samples_is_claimed() -> None:
    claimed = [path.name for path in SAMPLES.iterdir() if path.is_dir() and find(path)]
    assert claimed == ["penn_fudan"]
