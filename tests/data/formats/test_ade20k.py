import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Layered, SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task, instance_rles, panoptic_map, semantic_map
from mask2former.data.formats.ade20k import find, read
from mask2former.data.formats.format import WHOLE, Found, Reading
from mask2former.data.problems import Collected
from mask2former.masks.rle import decode_rle

SHARED = Path(__file__).parents[3] / ".." / "shared"
SAMPLE = SHARED / "data" / "ade20k_sample"
MAPPING = SHARED / "spec" / "classes" / "ade20k_instance_ids.json"
needs_samples = pytest.mark.skipif(
    not SAMPLE.is_dir(), reason="the real sample data are not beside this checkout"
)
needs_mapping = pytest.mark.skipif(
    not MAPPING.is_file(), reason="needs the specification in ../shared"
)

# classes: 1 wall (stuff), 3 sky (stuff), 8 bed (thing), 9 window (thing), 13 person (thing)
SEMANTIC = np.array([[1, 1, 8, 8, 0], [3, 3, 8, 13, 13], [3, 9, 9, 13, 0]], np.uint8)
# classes of objects: 1 bed, 2 window, 4 person; object 1 also covers a pixel of the wall, the
# window has no object
NUMBERS = np.array([[0, 1, 1, 1, 0], [0, 0, 1, 3, 3], [0, 0, 0, 2, 0]], np.uint8)
CLASS_OF_NUMBER = {1: 1, 2: 4, 3: 4}


def write(
    folder: Path,
    semantic: np.ndarray | None = SEMANTIC,
    objects: np.ndarray | None = None,
    place: str = "training",
    name: str = "ADE_train_00000001",
    annotations: str = "annotations",
) -> Path:
    for kind, values in (("images", np.zeros((3, 5, 3), np.uint8)), (annotations, semantic)) + (
        () if objects is None else (("annotations_instance", objects),)
    ):
        if values is not None:
            (folder / kind / place).mkdir(parents=True, exist_ok=True)
            suffix = "jpg" if kind == "images" else "png"
            Image.fromarray(values).save(folder / kind / place / f"{name}.{suffix}")
    return folder


def object_png() -> np.ndarray:
    red = np.vectorize(lambda number: CLASS_OF_NUMBER.get(number, 0))(NUMBERS)
    return np.stack([red, NUMBERS, np.zeros_like(NUMBERS)], axis=-1).astype(np.uint8)


def found_in(folder: Path) -> Found:
    found = find(folder)
    assert found is not None
    return found


def open_split(folder: Path, split: str = "training") -> Dataset:
    return read(folder, split, found_in(folder), Reading())


def things() -> dict[int, int]:
    """Semantic id from 0 by class of objects from 1, as the authors' text file gives it."""
    rows = json.loads(MAPPING.read_text(encoding="utf-8"))["instance_to_semantic"]
    return {instance: semantic - 1 for instance, semantic in rows}


def prepared_panoptic(semantic: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, list]:
    """By the rules of `prepare_ade20k_pan_seg.py`: stuff by class, then objects over it."""
    thing_ids = set(things().values())
    ids = np.zeros(semantic.shape, int)
    segments: list[int] = []
    for value in np.unique(semantic):
        if value != 0 and value - 1 not in thing_ids:
            segments.append(int(value) - 1)
            ids[semantic == value] = len(segments)
    for number in np.unique(objects[..., 1]):
        if number != 0:
            inside = objects[..., 1] == number
            (label,) = np.unique(objects[..., 0][inside])
            segments.append(things()[int(label)])
            ids[inside] = len(segments)
    return ids, segments


def parts(ids: np.ndarray, class_ids: dict[int, int]) -> set[tuple[int, bytes]]:
    """Class and pixels of every segment that shows: ids themselves mean nothing."""
    return {(c, (ids == i).tobytes()) for i, c in class_ids.items() if (ids == i).any()}


def test_semantic_labels_are_the_prepared_ones(tmp_path: Path) -> None:
    dataset = open_split(write(tmp_path))
    assert dataset.tasks == ("semantic",)
    ours = semantic_map(for_task(dataset, "semantic").annotations(0), 150)
    # prepare_ade20k_sem_seg.py: minus 1 in 8 bits, so that 0 becomes 255, which is ignored
    np.testing.assert_array_equal(np.where(ours < 0, 255, ours), SEMANTIC - np.uint8(1))


def test_prepared_labels_are_read_where_the_raw_ones_are_gone(tmp_path: Path) -> None:
    prepared = write(tmp_path, SEMANTIC - np.uint8(1), annotations="annotations_detectron2")
    ours = semantic_map(open_split(prepared).annotations(0), 150)
    np.testing.assert_array_equal(ours, SEMANTIC.astype(int) - 1)


@needs_mapping
def test_panoptic_segments_are_the_prepared_ones(tmp_path: Path) -> None:
    dataset = open_split(write(tmp_path, objects=object_png()))
    assert dataset.tasks == ("semantic", "panoptic", "instance")
    assert isinstance(dataset.annotations(0), Layered)
    ids, segments = panoptic_map(for_task(dataset, "panoptic").annotations(0))
    expected_ids, expected = prepared_panoptic(SEMANTIC, object_png())
    assert parts(ids, {s.id: s.class_id for s in segments}) == parts(
        expected_ids, dict(enumerate(expected, start=1))
    )
    # a window without object is void, and the bed covers the wall
    assert ids[2, 1] == 0
    assert ids[0, 1] == ids[0, 2] != 0


@needs_mapping
def test_instances_are_the_prepared_ones(tmp_path: Path) -> None:
    dataset = for_task(open_split(write(tmp_path, objects=object_png())), "instance")
    ours = [
        (dataset.classes.category_ids[class_id], decode_rle(rle).tolist())
        for class_id, rle, *_ in instance_rles(dataset.annotations(0))
    ]
    expected = [
        (things()[CLASS_OF_NUMBER[number]], (number == NUMBERS).tolist()) for number in (1, 2, 3)
    ]
    assert ours == expected
    assert [dataset.classes.names[0], len(dataset.classes)] == ["bed", 100]


@needs_mapping
def test_every_class_of_objects_has_the_authors_class(tmp_path: Path) -> None:
    numbers = np.arange(1, 101, dtype=np.uint8).reshape(10, 10)
    image = np.stack([numbers, numbers, numbers * 0], axis=-1)
    folder = write(tmp_path, np.ones((10, 10), np.uint8), image)
    annotations = open_split(folder).annotations(0)
    assert isinstance(annotations, Layered)
    assert isinstance(annotations.objects, SegmentMap)
    assert {s.id: s.class_id for s in annotations.objects.segments} == things()


def test_layouts(tmp_path: Path) -> None:
    archive = write(tmp_path / "one" / "ADEChallengeData2016")
    assert open_split(archive.parent).records[0].image_id == "ADE_train_00000001"
    flat = write(tmp_path / "two", place=".", name="other")
    assert find(flat) is None  # may be anything
    (flat / "objectInfo150.txt").touch()
    assert list(found_in(flat).splits) == [WHOLE]


def faulty_pngs() -> Iterator[tuple[np.ndarray | None, np.ndarray | None, str]]:
    objects = object_png()
    yield (
        np.full((3, 5), 151, np.uint8),
        None,
        r"\.png has value 151; ADE20K's classes are 1 to 150",
    )
    yield SEMANTIC, np.where(objects == 4, 101, objects), r"\(green = 2\) of class 101 \(red\)"
    two = objects.copy()
    two[0, 1, 0] = 2
    yield SEMANTIC, two, r"object 1 \(green\) of .* has two classes"
    yield SEMANTIC, objects[:2], r"size \(h, w\) = \(2, 5\) but .* has \(3, 5\); restore"


@pytest.mark.parametrize(("semantic", "objects", "message"), list(faulty_pngs()))
def test_faults_of_pngs_are_named(
    tmp_path: Path, semantic: np.ndarray, objects: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_split(write(tmp_path, semantic, objects)).annotations(0)


def test_prepared_value_beyond_the_classes_is_named(tmp_path: Path) -> None:
    write(tmp_path, np.full((3, 5), 150, np.uint8), annotations="annotations_detectron2")
    with pytest.raises(ValueError, match="has value 150; ADE20K's classes are 0 to 149, and 255"):
        open_split(tmp_path).annotations(0)


def test_images_without_annotation_stop_reading_or_are_collected(tmp_path: Path) -> None:
    write(tmp_path, objects=object_png())
    write(tmp_path, name="ADE_train_00000002")  # no objects
    write(tmp_path, None, name="ADE_train_00000003")
    with pytest.raises(
        ValueError, match=r"ADE_train_00000003\.jpg has no annotation in .*training"
    ):
        open_split(tmp_path)
    problems = Collected()
    dataset = read(tmp_path, "training", found_in(tmp_path), Reading(problems))
    assert [record.image_id for record in dataset.records] == ["ADE_train_00000001"]
    kinds = {(p.kind, p.image_id) for p in problems.found}
    assert kinds == {
        ("image without annotation", "ADE_train_00000002"),
        ("image without annotation", "ADE_train_00000003"),
    }


def test_one_split_without_objects_makes_the_set_semantic(tmp_path: Path) -> None:
    write(write(tmp_path, objects=object_png()), place="validation", name="ADE_val_00000001")
    assert found_in(tmp_path).tasks == ("semantic",)
    assert "only semantic segmentation" in open_split(tmp_path, "validation").notes[-1]


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(open_split(write(tmp_path))))  # noqa: S301
    assert isinstance(dataset.annotations(0), SegmentMap)


@needs_samples
@pytest.mark.parity
def test_real_sample_has_its_three_images_and_known_classes() -> None:
    dataset = open_split(SAMPLE, WHOLE)
    assert len(dataset) == 3
    assert len(dataset.classes) == 150
    raw = np.asarray(Image.open(SAMPLE / "annotations" / "ADE_val_00000003.png"))
    ours = semantic_map(dataset.annotations(2), 150)
    np.testing.assert_array_equal(ours, raw.astype(int) - 1)


@needs_samples
@pytest.mark.parity
def test_classes_come_in_the_order_of_the_published_list() -> None:
    lines = (SAMPLE / "objectInfo150.txt").read_text().splitlines()[1:151]
    published = [line.split("\t")[-1].strip().split(", ") for line in lines]
    ours = [name.split(", ") for name in class_table("ade20k").names]
    different = [i for i in range(150) if set(published[i]).isdisjoint(ours[i])]
    # the authors shorten or rename a few
    assert len(different) <= 12
