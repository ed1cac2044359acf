import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Layered, SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE, Found, Reading
from mask2former.data.formats.voc import find, read, voc_palette
from mask2former.data.problems import Collected

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)

CLASSES = np.array([[0, 0, 255, 2, 2], [1, 1, 255, 2, 2]], np.uint8)
OBJECTS = np.array([[0, 0, 255, 5, 5], [3, 4, 255, 5, 5]], np.uint8)


def palette_png(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette(voc_palette().ravel().tolist())
    return image


def write(
    folder: Path,
    names: str = "ab",
    classes: Image.Image | None = None,
    objects: Image.Image | None = None,
) -> Path:
    pngs = {
        "SegmentationClass": classes or palette_png(CLASSES),
        "SegmentationObject": objects or palette_png(OBJECTS),
    }
    for place in ("JPEGImages", *pngs):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (5, 2)).save(folder / "JPEGImages" / f"{name}.jpg")
        for place, image in pngs.items():
            image.save(folder / place / f"{name}.png")
    return folder


def write_list(folder: Path, split: str, text: str) -> None:
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text(text)


def without_objects(folder: Path) -> Path:
    for path in (folder / "SegmentationObject").iterdir():
        path.unlink()
    (folder / "SegmentationObject").rmdir()
    return folder


def found_in(folder: Path) -> Found:
    found = find(folder)
    assert found is not None
    return found


def read_split(folder: Path, split: str = WHOLE, **options) -> Dataset:
    return read(folder, split, found_in(folder), Reading(**options))


def layers(dataset: Dataset, index: int = 0) -> tuple[SegmentMap, SegmentMap]:
    annotations = dataset.decode(dataset.records[index])
    assert isinstance(annotations, Layered)
    assert isinstance(annotations.objects, SegmentMap)
    return annotations.objects, annotations.semantic


def test_palette_is_that_of_the_challenge() -> None:
    # published: aeroplane, bicycle, person, tvmonitor, void
    expected = [[128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]]
    assert voc_palette()[[1, 2, 15, 20, 255]].tolist() == expected


def test_objects_have_the_class_of_their_pixels(tmp_path: Path) -> None:
    objects, semantic = layers(read_split(write(tmp_path)))
    # numbers are as in the file; class ids are pixel values
    labels = (SegmentLabel(3, 1), SegmentLabel(4, 1), SegmentLabel(5, 2))
    assert objects.segments == labels
    np.testing.assert_array_equal(objects.ids, OBJECTS)
    # ids are class ids + 1, void is 0
    np.testing.assert_array_equal(semantic.ids, [[1, 1, 0, 3, 3], [2, 2, 0, 3, 3]])
    assert semantic.segments == tuple(SegmentLabel(i + 1, i) for i in (0, 1, 2))


def test_background_is_a_class_but_no_thing(tmp_path: Path) -> None:
    dataset = read_split(write(tmp_path))
    assert len(dataset.classes) == 21
    assert dataset.classes.names[:2] == ("_background_", "aeroplane")
    assert dataset.classes.is_thing == (False, *(True,) * 20)
    assert dataset.tasks == ("instance", "panoptic", "semantic")
    assert any("255 is ignored" in note for note in dataset.notes)
    assert any("0 is the background" in note for note in dataset.notes)


def test_object_takes_the_class_that_most_of_its_pixels_have(tmp_path: Path) -> None:
    classes = np.array([[0, 0, 0, 2, 2], [255, 255, 255, 255, 1]], np.uint8)
    objects = np.full_like(classes, 9)
    dataset = read_split(
        write(tmp_path, classes=palette_png(classes), objects=palette_png(objects))
    )
    assert layers(dataset)[0].segments == (SegmentLabel(9, 2),)


def test_object_that_is_void_is_none(tmp_path: Path) -> None:
    objects = np.where(CLASSES == 255, 8, OBJECTS).astype(np.uint8)
    dataset = read_split(write(tmp_path, objects=palette_png(objects)))
    assert [segment.id for segment in layers(dataset)[0].segments] == [3, 4, 5]


def test_object_on_the_background_is_refused(tmp_path: Path) -> None:
    objects = np.where(CLASSES == 0, 8, OBJECTS).astype(np.uint8)
    dataset = read_split(write(tmp_path, objects=palette_png(objects)))
    with pytest.raises(ValueError, match=r"object 8 of .*a\.png has 2 pixels, all of them back"):
        dataset.decode(dataset.records[0])


def test_without_objects_the_data_are_semantic(tmp_path: Path) -> None:
    dataset = read_split(without_objects(write(tmp_path)))
    assert dataset.tasks == ("semantic",)
    assert dataset.classes.is_thing == (False,) * 21
    annotations = dataset.annotations(0)
    assert isinstance(annotations, SegmentMap)
    np.testing.assert_array_equal(annotations.ids, [[1, 1, 0, 3, 3], [2, 2, 0, 3, 3]])


def test_lists_are_splits(tmp_path: Path) -> None:
    folder = write(tmp_path, "abc")
    write_list(folder, "train", "a\nc\n\n")
    write_list(folder, "val", '"b"\n')
    write_list(folder, "trainval", "a\nb\nc\na\n")
    assert list(found_in(folder).splits) == ["train", "trainval", "val"]
    names = {
        s: [r.image_id for r in read_split(folder, s).records] for s in found_in(folder).splits
    }
    assert names == {"train": ["a", "c"], "val": ["b"], "trainval": ["a", "b", "c"]}


@pytest.mark.parametrize("below", ["VOC2012", "VOCdevkit/VOC2012"])
def test_folder_around_is_understood(tmp_path: Path, below: str) -> None:
    write(tmp_path / below)
    assert len(read_split(tmp_path)) == 2


def test_other_folders_are_not_claimed(tmp_path: Path) -> None:
    # detection alone
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    assert find(tmp_path) is None
    (tmp_path / "SegmentationClass").mkdir()
    assert find(tmp_path) is None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("class_names.txt", "_background_\ncat\ntv/monitor\n"),
        ("labels.txt", "__ignore__\n_background_\ncat\ntv/monitor\n"),
        ("labels.txt", "cat\ntv/monitor\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\ncat:9,9,9::\ntv/monitor:8,8,8::\n"),
    ],
)
def test_class_files_count_from_the_background(tmp_path: Path, file: str, text: str) -> None:
    (write(tmp_path) / file).write_text(text)
    dataset = read_split(tmp_path)
    assert dataset.classes.names == ("_background_", "cat", "tv/monitor")
    assert layers(dataset)[0].segments[-1] == SegmentLabel(5, 2)


def test_value_beyond_the_classes_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "labels.txt").write_text("_background_\ncat\n")
    dataset = read_split(tmp_path)
    with pytest.raises(ValueError, match=r"a\.png has pixel value 2, but the 2 classes .* 0 to 1"):
        dataset.decode(dataset.records[0])


def test_colors_of_a_labelmap_are_read(tmp_path: Path) -> None:
    # as CVAT exports: RGB, classes by name, a background anywhere, border in VOC's colour
    colors = np.zeros((256, 3), np.uint8)
    colors[[1, 2, 255]] = [(10, 20, 30), (40, 50, 60), (224, 224, 192)]
    folder = write(
        tmp_path,
        classes=Image.fromarray(colors[CLASSES]),
        objects=Image.fromarray(voc_palette()[OBJECTS]),
    )
    (folder / "labelmap.txt").write_text("cat:10,20,30::\nbackground:0,0,0::\ndog:40,50,60::\n")
    dataset = read_split(folder)
    assert dataset.classes.names == ("background", "cat", "dog")
    objects, semantic = layers(dataset)
    np.testing.assert_array_equal(semantic.ids, [[1, 1, 0, 3, 3], [2, 2, 0, 3, 3]])
    assert [segment.class_id for segment in objects.segments] == [1, 1, 2]
    assert "Masks are colour-coded, by the class list." in dataset.notes


def test_colors_of_the_challenge_need_no_labelmap(tmp_path: Path) -> None:
    rgb = voc_palette()[CLASSES]
    folder = write(tmp_path, classes=Image.fromarray(rgb))
    np.testing.assert_array_equal(
        layers(read_split(folder))[1].ids, [[1, 1, 0, 3, 3], [2, 2, 0, 3, 3]]
    )


def test_missing_files_are_told_and_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, "abcd")
    write_list(folder, "train", "a\nb\nc\nd\ne\n")
    (folder / "JPEGImages" / "b.jpg").unlink()
    (folder / "SegmentationClass" / "c.png").unlink()
    (folder / "SegmentationObject" / "d.png").unlink()
    problems = Collected()
    dataset = read_split(folder, "train", problems=problems)
    assert [record.image_id for record in dataset.records] == ["a"]
    assert [(p.kind, p.image_id, p.is_error) for p in problems.found] == [
        ("missing image", "b", True),
        ("missing annotation", "c", True),
        ("missing annotation", "d", True),
        ("missing image", "e", True),
    ]
    with pytest.raises(FileNotFoundError, match=r"no image 'b' in .*JPEGImages, but .*train\.txt"):
        read_split(folder, "train")
    write_list(folder, "train", "c\n")
    with pytest.raises(FileNotFoundError, match=r"no mask .*c\.png for .*c\.jpg; add it, or take"):
        read_split(folder, "train")


def test_images_without_mask_are_errors_where_there_are_no_lists(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "SegmentationClass" / "a.png").unlink()
    problems = Collected()
    assert len(read_split(folder, problems=problems)) == 1
    (problem,) = problems.found
    assert (problem.kind, problem.is_error) == ("image without annotation", True)
    assert "list the images to use in ImageSets/Segmentation" in problem.message
    write_list(folder, "train", "b\n")
    problems = Collected()
    read_split(folder, "train", problems=problems)
    assert problems.found == []


def test_masks_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, objects=palette_png(OBJECTS[:, :4]))
    dataset = read_split(folder)
    with pytest.raises(
        ValueError, match=r"has size \(h, w\) = \(2, 4\) but class mask .* \(2, 5\)"
    ):
        dataset.decode(dataset.records[0])


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(read_split(write(tmp_path))))  # noqa: S301
    assert layers(dataset)[0].segments[0] == SegmentLabel(3, 1)


@needs_samples
@pytest.mark.parity
def test_real_export_of_labelme_has_its_12_objects() -> None:
    dataset = read_split(SAMPLES / "labelme_instances" / "data_dataset_voc")
    assert len(dataset) == 3
    assert len(dataset.classes) == 21
    objects = [layers(dataset, i)[0] for i in range(3)]
    assert [len(one.segments) for one in objects] == [3, 6, 3]
    # an ignored shape left a gap in the numbers
    assert [segment.id for segment in objects[1].segments] == [1, 2, 3, 4, 5, 7]
    names = [dataset.classes.names[s.class_id] for s in objects[1].segments]
    assert names == ["person", "person", "person", "chair", "person", "sofa"]
