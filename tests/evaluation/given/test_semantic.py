"""Classes per pixel from elsewhere are read in the numbers that they are in, or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Record
from mask2former.data.images import read_label_map
from mask2former.evaluation.given.results import GivenResults, open_results, tasks_of
from mask2former.masks.rle import encode_mask
from mask2former.types import Classes, SemanticResult

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
real_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)
CLASSES = Classes(("sky", "road", "car"), (23, 7, 26), (False, False, True))
ADE, CITYSCAPES = class_table("ade20k"), class_table("cityscapes")
MASK = np.zeros((5, 9), bool)
MASK[1:4, 2:6] = True


def record(image_id: int | str, file_name: str | None = None) -> Record:
    return Record(image_id, Path("images") / (file_name or f"{image_id}.jpg"), None)


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def save_png(path: Path, values: Any, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)


def labels(given: GivenResults, image: Record, height: int, width: int) -> list[list[int]]:
    result = given.find(image, height, width, ["semantic"])["semantic"]
    assert isinstance(result, SemanticResult)
    assert result.label_map.dtype == torch.int64
    return result.label_map.tolist()


@pytest.mark.parametrize(
    ("classes", "values", "wanted"),
    [
        (CLASSES, [[7, 23]], [[1, 0]]),
        (CLASSES, [[0, 2]], [[0, 2]]),
        (CITYSCAPES, [[7, 26]], [[0, 13]]),
        (CITYSCAPES, [[0, 13]], [[0, 13]]),
        (ADE, [[0, 149]], [[0, 149]]),
        (ADE, [[1, 150]], [[0, 149]]),
        (class_table("mapillary_vistas"), [[0, 64]], [[0, 64]]),
        (class_table("mapillary_vistas"), [[1, 65]], [[0, 64]]),
        (Classes(("off", "on"), (0, 255), (False, False)), [[0, 255]], [[0, 1]]),
        (Classes(("a", "b"), (300, 60000), (False, False)), [[60000, 300]], [[1, 0]]),
    ],
)
def test_the_numbering_of_pngs_is_told_by_their_values(tmp_path, classes, values, wanted) -> None:
    # the first image alone fits every numbering that has a value of it
    dtype = np.uint16 if np.max(values) > 255 else np.uint8
    save_png(tmp_path / "b.png", values, dtype)
    save_png(tmp_path / "a.png", np.array(values)[:, :1] * 0 + values[0][1], dtype)
    given = open_results(tmp_path, classes)
    assert given.tasks == tasks_of(tmp_path) == ("semantic",)
    assert labels(given, record("b"), 1, 2) == wanted
    assert labels(given, record("a"), 1, 1) == [wanted[0][1:]]
    given.check_all_found()


def test_the_numbering_that_was_taken_is_told_with_the_reason(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", [[0, 6]])
    (note,) = open_results(tmp_path, CITYSCAPES).notes
    span = "(category ids would be 19 values from 7 to 33)"
    assert note == f"{tmp_path}: values 0 to 6 are class ids {span}"


def test_values_that_fit_two_numberings_of_a_benchmark_are_refused(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", [[3, 5]])
    with pytest.raises(
        ValueError, match=r"can be read as category ids \(0 to 149\) and as ADE20K's own"
    ):
        open_results(tmp_path, ADE)
    names = {"classes": list(ADE.names), "category_ids": list(ADE.category_ids)}
    write_json(tmp_path / "classes.json", names)
    assert labels(open_results(tmp_path, ADE), record("a"), 1, 2) == [[3, 5]]


def test_values_of_other_data_sets_are_taken_for_their_own_numbers(tmp_path: Path) -> None:
    # 1 and 2 are pixel values of the data set, and positions in its list of classes, too
    classes = Classes(("a", "b", "c"), (1, 2, 3), (False,) * 3)
    save_png(tmp_path / "a.png", [[1, 2]])
    given = open_results(tmp_path, classes)
    assert labels(given, record("a"), 1, 2) == [[0, 1]]
    told = "values 1 to 2 are category ids (class ids would be 0 to 2)"
    assert given.notes == (f"{tmp_path}: {told}",)


def test_values_of_no_class_are_refused_with_the_file(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", [[7, 254]])
    with pytest.raises(ValueError, match=r"a.png has the value 254, which is no class: values are"):
        open_results(tmp_path, CLASSES)
    save_png(tmp_path / "a.png", [[0]])
    save_png(tmp_path / "b.png", [[255, 9, 0]])
    given = open_results(tmp_path, CLASSES)
    with pytest.raises(ValueError, match=r"b.png has value 9, which is no class: values are "):
        given.find(record("b"), 1, 3, ["semantic"])
    with pytest.raises(
        ValueError, match=r"a.png has size \(h, w\) = \(1, 1\) but image .*\(1, 2\)"
    ):
        given.find(record("a"), 1, 2, ["semantic"])
    with pytest.raises(ValueError, match=r"has no result for image images/c.jpg \(id 'c'\), only"):
        given.find(record("c"), 1, 2, ["semantic"])
    assert given.unused() == []


COUNTED = Classes(("a", "b", "c"), (1, 2, 3), (False,) * 3)
"""Whose category ids count from 1."""


@pytest.mark.parametrize(
    ("classes", "values", "wanted", "counts"),
    [
        # the number of classes stands for what is no class of the data set
        (CLASSES, [[7, 255, 255]], [[1, 3, 3]], "2 pixels have the value 255"),
        (CLASSES, [[0, 2, 255]], [[0, 2, 3]], "1 pixel has the value 255"),
        (COUNTED, [[1, 3, 0]], [[0, 2, 3]], "1 pixel has the value 0"),
        (COUNTED, [[1, 0, 2]], [[1, 0, 2]], None),
        (COUNTED, [[3, 0, 255]], [[2, 3, 3]], "1 pixel has the value 0 and 1 pixel has the v"),
    ],
)
def test_pixels_with_nothing_predicted_are_no_class(
    tmp_path: Path, classes, values, wanted, counts
) -> None:
    save_png(tmp_path / "a.png", values)
    given = open_results(tmp_path, classes)
    assert labels(given, record("a"), 1, 3) == wanted
    if counts is None:
        assert not any("the value" in note for note in given.notes)
    else:
        assert counts in given.notes[-1]
        assert "wrong wherever a class is true" in given.notes[-1]


@pytest.mark.parametrize("nothing", [0, 255])
def test_a_class_list_leaves_pixels_with_nothing_predicted(tmp_path: Path, nothing: int) -> None:
    save_png(tmp_path / "a.png", [[3, nothing, 1]])
    names = dict(zip("123", COUNTED.names, strict=True))
    write_json(tmp_path / "classes.json", {"classes": names, "category_ids": [1, 2, 3]})
    given = open_results(tmp_path, COUNTED)
    assert labels(given, record("a"), 1, 3) == [[2, 3, 0]]
    assert f"1 pixel has the value {nothing}, which is no class" in given.notes[-1]


def test_pngs_in_colour_are_told_to_be_panoptic(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match=r"a.png has colours, as panoptic .* give that file \(pan"):
        open_results(tmp_path, CLASSES)


@pytest.mark.parametrize(
    ("png", "image"),
    [
        ("a", record(1, "a.jpg")),
        ("a", record("x/a", "a.jpg")),
        ("x/a", record("x/a", "a.jpg")),
        ("7", record(7, "photo.jpg")),
        ("0007", record(7, "0007.jpg")),
        (
            "k_000000_000294_leftImg8bit",
            record("k_000000_000294", "k_000000_000294_leftImg8bit.png"),
        ),
        ("k_000000_000294", record("k_000000_000294", "k_000000_000294_leftImg8bit.png")),
        ("c/k_1_2_leftImg8bit_pred", record("k_1_2", "k_1_2_leftImg8bit.png")),
        ("k_1_2_gtFine_labelIds", record("k_1_2", "k_1_2_leftImg8bit.png")),
    ],
)
def test_pngs_are_found_by_their_names(tmp_path: Path, png: str, image: Record) -> None:
    save_png(tmp_path / f"{png}.png", [[7]])
    save_png(tmp_path / "other.png", [[23]])
    assert labels(open_results(tmp_path, CLASSES), image, 1, 1) == [[1]]


def test_pngs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder, value in (("v1", 7), ("v2", 23), ("w/v1", 26)):
        save_png(tmp_path / folder / "0001.png", [[value]])
    given = open_results(tmp_path, CLASSES)
    for image_id, wanted in (("v2/0001", 0), ("w/v1/0001", 2)):
        image = Record(image_id, Path(f"frames/{image_id}.jpg"), None)
        assert labels(given, image, 1, 1) == [[wanted]]
    given = open_results(tmp_path, CLASSES)
    assert labels(given, Record(5, Path("frames/v2/0001.jpg"), None), 1, 1) == [[0]]
    with pytest.raises(ValueError, match=r"v1/0001, w/v1/0001 of .* may all be of image .*v1/0001"):
        given.find(Record(5, Path("f/v1/0001.jpg"), None), 1, 1, ["semantic"])


def runs_of(labels: np.ndarray, file_name: str, values: Callable[[int], int]) -> list[dict]:
    entries = []
    for label in np.unique(labels).tolist():
        rle = encode_mask(labels == label)
        segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
        entry = {"file_name": file_name, "category_id": values(label)}
        entries.append({**entry, "segmentation": segmentation})
    return entries


@pytest.mark.parametrize("numbering", ["category ids", "class ids"])
def test_detectron2s_masks_make_the_map_again(tmp_path: Path, numbering: str) -> None:
    rng = np.random.default_rng(0)
    by_category = numbering == "category ids"
    maps = {f"image{i}": rng.integers(0, 19, (int(rng.integers(1, 30)), 17)) for i in range(50)}
    entries = []
    for name, label_map in maps.items():
        path = f"/elsewhere/datasets/{name}.jpg" if len(name) % 2 else rf"C:\sets\{name}.jpg"
        value = CITYSCAPES.category_ids.__getitem__ if by_category else int
        entries += runs_of(label_map, path, value)
    given = open_results(write_json(tmp_path / "sem_seg_predictions.json", entries), CITYSCAPES)
    assert given.tasks == tasks_of(tmp_path) == ("semantic",)
    assert f" are {numbering} (" in given.notes[0]
    for name, label_map in maps.items():
        assert labels(given, record(name), *label_map.shape) == label_map.tolist()
    given.check_all_found()


def test_masks_that_make_no_map_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    label_map = np.where(MASK, 7, 23)
    entries = runs_of(label_map, "a.jpg", int)
    given = open_results(write_json(path, entries[:1]), CLASSES)
    with pytest.raises(ValueError, match=r"s\.json: a: 33 pixels are of no class"):
        given.find(record("a"), 5, 9, ["semantic"])
    given = open_results(write_json(path, [*entries, entries[0]]), CLASSES)
    with pytest.raises(ValueError, match=r"s\.json: a: masks of several classes cover the same"):
        given.find(record("a"), 5, 9, ["semantic"])
    given = open_results(write_json(path, entries), CLASSES)
    with pytest.raises(ValueError, match=r"s.json: a, category 7: .*size \(h, w\) = \(5, 9\) but"):
        given.find(record("a"), 9, 5, ["semantic"])
    for wrong in ({"category_id": 99}, {"segmentation": None}, {"file_name": 3}):
        with pytest.raises(
            ValueError, match=r"s.json.* 99, which is no class|entry 2 is no mask of a class"
        ):
            open_results(write_json(path, [entries[0], entries[1] | wrong]), CLASSES)


@real_samples
def test_real_maps_of_ade20k_are_read_in_its_own_numbers_and_in_class_ids(tmp_path: Path) -> None:
    wanted = {}
    for path in sorted((SAMPLES / "ade20k_sample" / "annotations").glob("*.png")):
        values = np.maximum(read_label_map(path), 1)  # a result has a class where nothing is known
        wanted[path.stem] = (values - 1).tolist()
        save_png(tmp_path / "submitted" / path.name, values)
        save_png(tmp_path / "class_ids" / path.name, values - 1)
    values = read_label_map(SAMPLES / "ade20k_sample" / "annotations" / f"{max(wanted)}.png")
    save_png(tmp_path / "submitted" / "last.png", np.full(values.shape, 150))
    for folder in ("submitted", "class_ids"):
        given = open_results(tmp_path / folder, ADE)
        for name, label_map in wanted.items():
            height, width = len(label_map), len(label_map[0])
            assert labels(given, record(name), height, width) == label_map


@real_samples
def test_annotations_of_cityscapes_are_no_results(tmp_path: Path) -> None:
    for path in (SAMPLES / "cityscapes_sample" / "gtFine").rglob("*_label*Ids.png"):
        save_png(tmp_path / path.stem / path.name, read_label_map(path))
        if "labelTrainIds" in path.name:  # 255 is where a model would have predicted nothing
            assert open_results(tmp_path / path.stem, CITYSCAPES).classes is CITYSCAPES
            continue
        with pytest.raises(ValueError, match=r"has the values? .*no class"):
            open_results(tmp_path / path.stem, CITYSCAPES)
