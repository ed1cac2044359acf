import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task, instance_rles, semantic_map
from mask2former.data.formats.format import WHOLE, Found, Reading
from mask2former.data.formats.labelme import find, read
from mask2former.data.images import read_image
from mask2former.data.problems import Collected
from mask2former.masks.polygons import polygons_to_rle
from mask2former.masks.rle import decode_rle

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)

TRIANGLE = [[1, 1], [6, 1], [6, 4]]


def shape(label: str, points: list = TRIANGLE, **more: object) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", **more}


def write(
    folder: Path, name: str, *shapes: dict[str, Any], image: bool = True, **more: object
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if image:
        Image.new("RGB", (8, 6)).save(folder / f"{name}.jpg")
    content = {
        "version": "5.5.0",
        "shapes": list(shapes),
        "imagePath": f"{name}.jpg",
        "imageData": None,
        "imageHeight": 6,
        "imageWidth": 8,
    }
    (folder / f"{name}.json").write_text(json.dumps(content | more))
    return folder


def found_in(folder: Path) -> Found:
    found = find(folder)
    assert found is not None
    return found


def read_split(folder: Path, split: str = WHOLE, **options) -> Dataset:
    return read(folder, split, found_in(folder), Reading(**options))


def instances(dataset: Dataset, index: int = 0) -> Instances:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, Instances)
    return annotations


def test_objects_and_sizes_are_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, "x", shape("dog"), shape("cat", [[0, 0], [4, 0], [4, 4], [0, 4]]))
    write(tmp_path, "y")
    dataset = read_split(tmp_path)
    assert dataset.tasks == ("instance", "panoptic", "semantic")
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.classes.category_ids == (1, 2)
    assert [record.image_id for record in dataset.records] == ["x", "y"]
    assert [record.num_objects for record in dataset.records] == [2, 0]
    assert (dataset.records[0].height, dataset.records[0].width) == (6, 8)
    dog, cat = instances(dataset).items
    assert (dog.class_id, cat.class_id) == (1, 0)
    assert cat.area == 16
    np.testing.assert_array_equal(dog.mask[0], TRIANGLE)


def test_folders_named_as_splits_are_splits_of_the_same_classes(tmp_path: Path) -> None:
    write(tmp_path / "train", "x", shape("dog"))
    write(tmp_path / "val", "y", shape("cat"), shape("way", shape_type="line"))
    assert list(found_in(tmp_path).splits) == ["train", "val"]
    train = read_split(tmp_path, "train")
    with_line = read_split(tmp_path, "val", problems=Collected())
    assert train.classes == with_line.classes
    assert train.classes.names == ("cat", "dog")
    assert [record.image_id for record in train.records] == ["x"]


def test_folders_below_are_searched(tmp_path: Path) -> None:
    write(tmp_path / "one" / "two", "x", shape("dog"))
    dataset = read_split(tmp_path)
    assert [record.image_id for record in dataset.records] == ["one/two/x"]
    assert dataset.records[0].image == tmp_path / "one" / "two" / "x.jpg"


def test_json_files_of_other_programs_are_not_claimed(tmp_path: Path) -> None:
    coco = {"images": [], "annotations": [], "categories": []}
    (tmp_path / "annotations.json").write_text(json.dumps(coco))
    assert find(tmp_path) is None
    write(tmp_path, "x", shape("dog"))
    assert len(read_split(tmp_path)) == 1
    assert find(tmp_path / "gone") is None


def test_file_with_long_image_data_is_found(tmp_path: Path) -> None:
    data = "A" * 300_000
    write(tmp_path, "x", shape("dog"))
    content = json.loads((tmp_path / "x.json").read_text())
    last = {"imageData": data, "shapes": content.pop("shapes"), "more": data}
    (tmp_path / "x.json").write_text(json.dumps(content | {"imageData": data} | last))
    assert len(read_split(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (r"..\images\x.jpg", "images/x.jpg"),
        ("../images/x.jpg", "images/x.jpg"),
        (r"C:\elsewhere\x.jpg", "json/x.jpg"),
        ("/elsewhere/x.jpg", "images/x.jpg"),
        ("gone.jpg", "json/x.png"),
        ("x.jpg", "JPEGImages/x.jpg"),
    ],
)
def test_images_are_found_beside_or_where_the_path_leads(
    tmp_path: Path, path: str, place: str
) -> None:
    write(tmp_path / "json", "x", shape("dog"), image=False, imagePath=path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 6)).save(tmp_path / place)
    image = read_split(tmp_path / "json").records[0].image
    assert isinstance(image, Path)
    assert image.resolve() == (tmp_path / place).resolve()


def test_embedded_image_is_read_if_there_is_no_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (10, 20, 30)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    write(tmp_path, "x", shape("dog"), image=False, imageData=data)
    image = pickle.loads(pickle.dumps(read_split(tmp_path).records[0].image))  # noqa: S301
    assert str(image) == f"{tmp_path / 'x.json'}: imageData"
    assert image.name == "x.jpg"
    pixels = read_image(image, annotated_size=(6, 8))
    assert pixels[5, 7].tolist() == [10, 20, 30]
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"x\.json: imageData is no image .* restore the file"):
        image.read_bytes()


def test_size_is_that_of_the_image_where_the_file_is_silent(tmp_path: Path) -> None:
    write(tmp_path, "x", shape("dog"), imageHeight=None)
    assert instances(read_split(tmp_path)).width == 8


@pytest.mark.parametrize("place", [".", ".."])
def test_class_list_gives_names_and_order(tmp_path: Path, place: str) -> None:
    folder = write(tmp_path / "set", "x", shape("dog"))
    names = "__ignore__\n_background_\nzebra\ndog\n\n"
    (folder / place / "labels.txt").write_text(names)
    dataset = read_split(folder)
    assert dataset.classes.names == ("zebra", "dog")
    assert dataset.classes.category_ids == (1, 2)
    assert "labels.txt" in dataset.notes[0]


def test_foreign_class_list_above_the_folder_is_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", "x", shape("dog"))
    (tmp_path / "labels.txt").write_text("cat\n")
    assert read_split(folder).classes.names == ("dog",)


def test_label_that_the_class_list_lacks_is_named(tmp_path: Path) -> None:
    write(tmp_path, "x", shape("dgo"), shape("dog"))
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match=r"x\.json has a shape labelled 'dgo', .*mean dog\?"):
        read_split(tmp_path)
    problems = Collected()
    assert read_split(tmp_path, problems=problems).records[0].num_objects == 1
    assert [(p.kind, p.image_id) for p in problems.found] == [("unknown class", "x")]


def test_folder_without_any_object_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "x", shape("__ignore__"))
    with pytest.raises(ValueError, match=r"no file of .* has a shape with a label; draw some, or"):
        read_split(tmp_path)


def test_faults_are_told_with_their_file_and_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a", shape("dog"), shape("dog", [[1, 1], [2, 2]]), shape("dog", [[90, 1]] * 3))
    write(tmp_path, "b", shape("dog"), shape("dog", [[20, 1], [25, 1], [25, 4]]))
    write(tmp_path, "c", shape("dog"), image=False)
    write(tmp_path, "d", shape("dog"), imageWidth=None)
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    write(tmp_path, "e", shape("dog"))
    (tmp_path / "e.json").write_text('{"shapes": [')
    (tmp_path / "f.json").touch()
    Image.new("RGB", (8, 6)).save(tmp_path / "g.jpg")
    problems = Collected()
    dataset = read_split(tmp_path, problems=problems)
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert [record.num_objects for record in dataset.records] == [1, 1]
    assert [(p.kind, p.image_id, p.is_error) for p in problems.found] == [
        ("degenerate polygon", "a", False),
        ("degenerate polygon", "a", False),
        ("mask outside image", "b", True),
        ("missing image", "c", True),
        ("unreadable image", "d", True),
        ("unreadable annotation", "e", True),
        ("unreadable annotation", "f", True),
        ("image without annotation", None, False),
    ]
    assert all(str(tmp_path) in problem.message for problem in problems.found)
    assert "1 of 5 images of" in problems.found[-1].message


@pytest.mark.parametrize(
    ("more", "text", "error", "message"),
    [
        ({"image": False}, None, FileNotFoundError, r"x\.json is of the image 'x\.jpg', which is"),
        ({}, "[1, ", ValueError, r"x\.json is not valid JSON .*; restore the file"),
        ({"imagePath": "y"}, None, None, ""),
    ],
)
def test_reading_stops_at_the_first_fault_unless_told_otherwise(
    tmp_path: Path, more: dict, text: str | None, error: type[Exception] | None, message: str
) -> None:
    write(tmp_path, "w", shape("dog"))
    write(tmp_path, "x", shape("dog"), **more)
    if text is not None:
        (tmp_path / "x.json").write_text(text + '"shapes"')
    if error is None:
        assert len(read_split(tmp_path)) == 2
        return
    with pytest.raises(error, match=message):
        read_split(tmp_path)


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    write(tmp_path, "x", shape("dog"), shape("dog", group_id=1), shape("dog", group_id=1))
    dataset = pickle.loads(pickle.dumps(read_split(tmp_path)))  # noqa: S301
    assert len(instances(dataset).items) == 2


def real_masks(folder: str) -> dict[str, list[tuple[str, np.ndarray]]]:
    """(class, mask) of every object by the name of its image."""
    dataset = read_split(SAMPLES / folder)
    return {
        Path(str(record.image_id)).name: [
            (dataset.classes.names[class_id], decode_rle(rle))
            for class_id, rle, *_ in instance_rles(instances(dataset, i))
        ]
        for i, record in enumerate(dataset.records)
    }


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize("folder", ["labelme_instances", "labelme_instances/data_annotated"])
def test_real_sample_has_its_12_objects(folder: str) -> None:
    dataset = read_split(SAMPLES / folder)
    assert len(dataset) == 3
    assert len(dataset.classes) == 20
    assert sum(record.num_objects or 0 for record in dataset.records) == 12
    for i, record in enumerate(dataset.records):
        size = (instances(dataset, i).height, instances(dataset, i).width)
        assert read_image(record.image, annotated_size=size).shape[:2] == size


@needs_samples
@pytest.mark.parity
def test_real_video_frames_are_labelme_as_well() -> None:
    dataset = read_split(SAMPLES / "labelme_video")
    assert dataset.classes.names == ("car", "track")
    assert [len(instances(dataset, i).items) for i in range(5)] == [3] * 5


@needs_samples
@pytest.mark.parity
def test_real_sample_equals_its_known_good_copy_in_coco() -> None:
    path = SAMPLES / "labelme_instances" / "data_dataset_coco" / "annotations.json"
    content = json.loads(path.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    ours = real_masks("labelme_instances/data_annotated")
    dataset = read_split(SAMPLES / "labelme_instances" / "data_annotated")
    assert dict(zip(dataset.classes.category_ids, dataset.classes.names, strict=True)) == {
        category_id: name for category_id, name in names.items() if category_id > 0
    }
    for image in content["images"]:
        theirs = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        objects = ours[Path(image["file_name"]).stem]
        assert [name for name, _ in objects] == [names[a["category_id"]] for a in theirs]
        for (_, mask), annotation in zip(objects, theirs, strict=True):
            polygons = [np.reshape(part, (-1, 2)) for part in annotation["segmentation"]]
            rle = polygons_to_rle(polygons, image["height"], image["width"])
            np.testing.assert_array_equal(mask, decode_rle(rle))
            # the areas there are of masks with the outline filled in
            assert 0.93 < mask.sum() / annotation["area"] < 1


@needs_samples
@pytest.mark.parity
def test_real_sample_equals_its_known_good_copy_in_voc() -> None:
    folder = SAMPLES / "labelme_instances" / "data_dataset_voc"
    class_names = (folder / "class_names.txt").read_text().splitlines()
    overlaps = []
    for name, objects in real_masks("labelme_instances/data_annotated").items():
        numbers, classes = (
            np.asarray(Image.open(folder / place / f"{name}.png"))
            for place in ("SegmentationObject", "SegmentationClass")
        )
        theirs = [numbers == number for number in np.unique(numbers) if number]
        assert len(theirs) == len(objects)
        for class_name, mask in objects:
            best = max(theirs, key=lambda other: overlap(mask, other))
            overlaps.append(overlap(mask, best))
            values = classes[mask & best]
            assert (values == class_names.index(class_name)).mean() > 0.99
    # one pixel of outline, and objects drawn over one another; as the sample's README says
    assert len(overlaps) == 12
    assert min(overlaps) >= 0.93


@needs_samples
@pytest.mark.parity
def test_real_sample_is_semantically_its_known_good_copy_in_voc() -> None:
    folder = SAMPLES / "labelme_instances"
    semantic = for_task(read_split(folder / "data_annotated"), "semantic")
    names = (folder / "data_dataset_voc" / "class_names.txt").read_text().splitlines()
    values = [
        names.index(name.replace("background", "_background_")) for name in semantic.classes.names
    ]
    found = set()
    for i, record in enumerate(semantic.records):
        path = folder / "data_dataset_voc" / "SegmentationClass" / f"{record.image_id}.png"
        theirs = np.asarray(Image.open(path))
        ours = np.array([*values, 255])[semantic_map(semantic.annotations(i), len(values))]
        for value in np.unique(theirs).tolist():
            assert overlap(ours == value, theirs == value) >= 0.93
        assert np.unique(ours).tolist() == np.unique(theirs).tolist()
        found |= set(np.unique(ours).tolist())
    assert 255 in found


@needs_samples
@pytest.mark.parity
def test_ignored_shapes_of_the_real_sample_are_kept_for_every_task() -> None:
    dataset = read_split(SAMPLES / "labelme_instances" / "data_annotated")
    for i, count in enumerate((1, 1, 0)):
        assert len(instances(dataset, i).ignored) == count
        things = for_task(dataset, "instance").annotations(i)
        assert isinstance(things, Instances)
        assert len(things.ignored) == count
