import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task, panoptic_map, semantic_map
from mask2former.data.formats.format import WHOLE, Found, Reading
from mask2former.data.formats.mapillary import FORMAT_V1, FORMAT_V2, FORMATS
from mask2former.data.problems import Collected
from mask2former.masks.id_maps import ids_to_rgb

SAMPLE = Path(__file__).parents[3] / ".." / "shared" / "data" / "mapillary_sample"
needs_samples = pytest.mark.skipif(
    not SAMPLE.is_dir(), reason="the real sample data are not beside this checkout"
)

KEY = "__CRyFzoDOXn6unQ6a3DnQ"
BY_VERSION = {"v1.2": FORMAT_V1, "v2.0": FORMAT_V2}
# values of labels/*.png in both versions: a thing, stuff, and what is unlabelled
VALUES = {"v1.2": (0, 55, 27, 65), "v2.0": (0, 108, 61, 123)}
NAMES = ("Bird", "Car", "Sky")
# place in the tuple above, and number of the object
LABELS = np.array([[0, 1, 1, 1], [2, 2, 1, 3], [2, 1, 1, 3]])
NUMBERS = np.array([[0, 0, 0, 1], [0, 0, 1, 0], [0, 2, 2, 0]])


def values(version: str) -> np.ndarray:
    return np.array(VALUES[version])[LABELS]


def place_of(folder: Path, version: str, split: str, bare: bool) -> Path:
    place = folder / split / ("" if bare else version)
    (folder / split / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(folder / split / "images" / f"{KEY}.jpg")
    return place


def write_png(folder: Path, pixels: np.ndarray, name: str = KEY) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}.png")


def write(
    folder: Path,
    version: str = "v1.2",
    kinds: str = "labels instances",
    split: str = "training",
    bare: bool = False,
) -> Path:
    place = place_of(folder, version, split, bare)
    if "labels" in kinds:
        write_png(place / "labels", values(version).astype(np.uint8))
    if "instances" in kinds:
        write_png(place / "instances", (values(version) * 256 + NUMBERS).astype(np.uint16))
    if "panoptic" in kinds:
        write_panoptic(place / "panoptic", version)
    return folder


def write_panoptic(folder: Path, version: str) -> None:
    """As the data set does: any ids, category id = value + 1, nothing for what is unlabelled."""
    unlabelled = VALUES[version][3]
    pairs = values(version) * 256 + NUMBERS
    ids = np.zeros(pairs.shape, int)
    segments = []
    for i, pair in enumerate(sorted(set(pairs.ravel().tolist()))):
        if pair // 256 != unlabelled:
            ids[pairs == pair] = 4711 + i
            segments.append({"id": 4711 + i, "category_id": pair // 256 + 1, "iscrowd": 0})
    write_png(folder, ids_to_rgb(ids))
    content = {
        "images": [{"id": KEY, "file_name": f"{KEY}.jpg", "height": 3, "width": 4}],
        "annotations": [{"image_id": KEY, "file_name": f"{KEY}.png", "segments_info": segments}],
        "categories": [
            {"id": value + 1, "name": name, "isthing": int(name != "Sky")}
            for value, name in zip(VALUES[version], NAMES, strict=False)
        ],
    }
    year = {"v1.2": 2018, "v2.0": 2020}[version]
    (folder / f"panoptic_{year}.json").write_text(json.dumps(content))


def found_in(folder: Path, version: str) -> Found:
    found = BY_VERSION[version].find(folder)
    assert found is not None
    return found


def open_split(folder: Path, version: str = "v1.2", split: str = "training") -> Dataset:
    return BY_VERSION[version].read(folder, split, found_in(folder, version), Reading())


def segments(dataset: Dataset) -> set[tuple[str, bytes]]:
    """Name and pixels of every segment: ids mean nothing."""
    ids, labels = panoptic_map(for_task(dataset, "panoptic").annotations(0))
    return {(dataset.classes.names[s.class_id], (ids == s.id).tobytes()) for s in labels}


def expected_segments() -> set[tuple[str, bytes]]:
    return {
        (NAMES[label], ((label == LABELS) & (number == NUMBERS)).tobytes())
        for label, number in ((0, 0), (1, 0), (1, 1), (1, 2), (2, 0))
    }


@pytest.mark.parametrize("version", BY_VERSION)
@pytest.mark.parametrize("kinds", ["instances", "labels instances", "labels panoptic"])
def test_panoptic_and_instance_files_give_the_same(
    tmp_path: Path, version: str, kinds: str
) -> None:
    dataset = open_split(write(tmp_path, version, kinds), version)
    assert dataset.tasks == ("panoptic", "semantic", "instance")
    assert dataset.format == f"mapillary-{version}"
    assert segments(dataset) == expected_segments()


@pytest.mark.parametrize("version", BY_VERSION)
@pytest.mark.parametrize("kinds", ["labels", "instances", "panoptic"])
def test_semantic_labels_are_those_of_the_label_files(
    tmp_path: Path, version: str, kinds: str
) -> None:
    dataset = open_split(write(tmp_path, version, kinds), version)
    derived = for_task(dataset, "semantic")
    ours = semantic_map(derived.annotations(0), len(dataset.classes))
    category_ids = np.array([*derived.classes.category_ids, 0])
    expected = np.where(LABELS == 3, 0, values(version) + 1)
    np.testing.assert_array_equal(category_ids[ours], expected)
    assert (dataset.tasks == ("semantic",)) == (kinds == "labels")


def test_things_alone_are_instances(tmp_path: Path) -> None:
    dataset = for_task(open_split(write(tmp_path)), "instance")
    annotations = dataset.annotations(0)
    assert isinstance(annotations, SegmentMap)
    assert [dataset.classes.names[s.class_id] for s in annotations.segments] == [
        "Bird",
        "Car",
        "Car",
        "Car",
    ]


def test_classes_are_the_published_ones(tmp_path: Path) -> None:
    dataset = open_split(write(tmp_path))
    table = class_table("mapillary_vistas")
    assert dataset.classes == table
    # the authors train 65 classes and ignore value 65: the class id is the pixel value
    assert table.category_ids == tuple(range(1, 66))


def test_version_2_has_70_things_46_stuff_and_8_labels_that_do_not_count(tmp_path: Path) -> None:
    # "124 classes (70 instance-specific, 46 stuff, 8 void or crowd)" is how the data set says it
    dataset = open_split(write(tmp_path, "v2.0"), "v2.0")
    assert (sum(dataset.classes.is_thing), len(dataset.classes)) == (70, 70 + 46)
    left_out = set(range(1, 125)) - set(dataset.classes.category_ids)
    assert len(left_out) == 8
    assert "not scored: Ambiguous Barrier, Person Group, " in dataset.notes[1]


@pytest.mark.parametrize("name", ["config_v1.2.json", "config.json"])
def test_labels_come_from_the_data_sets_own_list(tmp_path: Path, name: str) -> None:
    labels = [{"readable": f"l{i}", "instances": i == 0, "evaluate": i != 65} for i in range(66)]
    (write(tmp_path) / name).write_text(json.dumps({"labels": labels}))
    dataset = open_split(tmp_path)
    assert dataset.classes.names == tuple(f"l{i}" for i in range(65))
    assert sum(dataset.classes.is_thing) == 1
    assert name in dataset.notes[1]


def test_a_folder_with_both_versions_is_found_as_both(tmp_path: Path) -> None:
    write(write(tmp_path, "v2.0"))
    assert [f.find(tmp_path) is not None for f in FORMATS] == [True, True]
    assert FORMATS[0].name == "mapillary-v1.2"


def test_version_1_may_lie_in_the_splits_themselves(tmp_path: Path) -> None:
    folder = write(write(tmp_path, bare=True), split="validation", bare=True)
    (folder / "testing" / "images").mkdir(parents=True)
    Image.new("RGB", (4, 3)).save(folder / "testing" / "images" / f"{KEY}.jpg")
    assert sorted(found_in(folder, "v1.2").splits) == ["training", "validation"]
    assert FORMAT_V2.find(folder) is None
    assert segments(open_split(folder, split="validation")) == expected_segments()


def test_other_data_with_images_and_labels_are_not_claimed(tmp_path: Path) -> None:
    assert FORMAT_V1.find(tmp_path) is None
    write(tmp_path, kinds="labels", bare=True)
    image = tmp_path / "training" / "images" / f"{KEY}.jpg"
    image.rename(image.with_name("0001.jpg"))
    assert FORMAT_V1.find(tmp_path) is None


def test_crowds_of_the_panoptic_file_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, kinds="panoptic") / "training" / "v1.2" / "panoptic"
    content = json.loads((path / "panoptic_2018.json").read_text())
    content["annotations"][0]["segments_info"][1]["iscrowd"] = 1
    (path / "panoptic_2018.json").write_text(json.dumps(content))
    dataset = open_split(tmp_path)
    annotations = dataset.annotations(0)
    assert isinstance(annotations, SegmentMap)
    assert [s.is_crowd for s in annotations.segments] == [False, True, False, False, False]
    assert (dataset.records[0].height, dataset.records[0].width) == (3, 4)


def test_value_of_the_other_version_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, kinds="")
    write_png(folder / "training" / "v1.2" / "labels", np.full((3, 4), 123, np.uint8))
    message = r"has value 123, which stands for label 123; .* labels 0 to 65: name the other"
    with pytest.raises(ValueError, match=message):
        open_split(folder).annotations(0)


def test_unknown_category_stops_reading_or_is_collected(tmp_path: Path) -> None:
    path = write(tmp_path, kinds="panoptic") / "training" / "v1.2" / "panoptic"
    content = json.loads((path / "panoptic_2018.json").read_text())
    content["annotations"][0]["segments_info"][0]["category_id"] = 99
    (path / "panoptic_2018.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has segments of category 99, which 'categories' does"):
        open_split(tmp_path)
    problems = Collected()
    dataset = FORMAT_V1.read(tmp_path, "training", found_in(tmp_path, "v1.2"), Reading(problems))
    assert [(p.kind, p.image_id) for p in problems.found] == [("unknown class", KEY)]
    assert len(segments(dataset)) == 4


def test_image_without_annotation_stops_reading_or_is_collected(tmp_path: Path) -> None:
    folder = write(tmp_path)
    Image.new("RGB", (4, 3)).save(folder / "training" / "images" / "other.jpg")
    with pytest.raises(ValueError, match=r"other\.jpg has no annotation in"):
        open_split(folder)
    problems = Collected()
    found = found_in(folder, "v1.2")
    assert len(FORMAT_V1.read(folder, "training", found, Reading(problems))) == 1
    assert [p.image_id for p in problems.found] == ["other"]


@pytest.mark.parametrize("text", ["{", "[]", '{"labels": [{"readable": "a"}]}'])
def test_damaged_list_of_labels_is_named(tmp_path: Path, text: str) -> None:
    (write(tmp_path) / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        open_split(tmp_path)


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(open_split(write(tmp_path))))  # noqa: S301
    assert segments(dataset) == expected_segments()


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize("version", BY_VERSION)
def test_real_cut_shows_a_building_a_pole_and_a_street_light(version: str) -> None:
    dataset = open_split(SAMPLE, version, WHOLE)
    assert len(dataset) == 1
    assert dataset.records[0].image_id == KEY
    assert {name for name, _ in _semantic(dataset)} == {"Building", "Pole", "Street Light"}
    # palette PNGs: the stored index is the label
    raw = np.asarray(Image.open(SAMPLE / version / f"{KEY}.png"))
    for name, pixels in _semantic(dataset):
        value = dataset.classes.category_ids[dataset.classes.names.index(name)] - 1
        assert (raw == value).tobytes() == pixels


def _semantic(dataset: Dataset) -> list[tuple[str, bytes]]:
    annotations = dataset.annotations(0)
    assert isinstance(annotations, SegmentMap)
    return [
        (dataset.classes.names[s.class_id], (annotations.ids == s.id).tobytes())
        for s in annotations.segments
    ]
