"""Panoptic results made elsewhere are read as they were meant, or refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Record
from mask2former.data.images import read_panoptic_ids
from mask2former.evaluation.given.results import open_results
from mask2former.masks.id_maps import ids_to_rgb
from mask2former.types import Classes, PanopticResult, Segment

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
real_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)
CLASSES = Classes(("sky", "road", "car"), (23, 7, 26), (False, False, True))
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


def write_panoptic(folder: Path, pngs: str, **changes: Any) -> Path:
    ids = np.where(MASK, 300, 1)
    ids[0, 0] = 0
    save_png(folder / pngs / "a.png", ids_to_rgb(ids))
    segments = [{"id": 300, "category_id": 26, "score": 0.5}, {"id": 1, "category_id": 7}]
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": segments} | changes
    return write_json(folder / "pan.json", {"annotations": [annotation]})


@pytest.mark.parametrize("pngs", ["pan", "panoptic", "."])
def test_panoptic_pngs_are_found_beside_the_file(tmp_path: Path, pngs: str) -> None:
    given = open_results(write_panoptic(tmp_path, pngs), CLASSES)
    assert given.tasks == ("panoptic",)
    assert given.classes is CLASSES
    for image in (record(1, "x.jpg"), record("1")):
        result = given.find(image, 5, 9, ["panoptic"])["panoptic"]
        assert isinstance(result, PanopticResult)
        assert result.segments == [
            Segment(300, 2, 0.5, 12, (2.0, 1.0, 4.0, 3.0)),
            Segment(1, 1, 1.0, 45 - 12 - 1, (0.0, 0.0, 9.0, 5.0)),
        ]
        assert result.segment_map[0, :2].tolist() == [0, 1]
        given = open_results(tmp_path / "pan.json", CLASSES)


def test_panoptic_results_go_by_the_name_of_the_png_if_no_id_fits(tmp_path: Path) -> None:
    given = open_results(write_panoptic(tmp_path, "pan", image_id=77), CLASSES)
    assert given.unused() == []  # nothing was asked for yet
    assert given.find(record("a"), 5, 9, ["panoptic"])
    with pytest.raises(ValueError, match=r"pan.json has no result for image images/b.jpg \(id 2\)"):
        given.find(record(2, "b.jpg"), 5, 9, ["panoptic"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_name": "b.png"}, "has the PNG b.png, which is in none of"),
        ({"segments_info": None}, "annotation 1 is no panoptic one"),
        ({"image_id": None}, "has the image_id None"),
        ({"segments_info": [{"id": 0, "category_id": 7}]}, "has a segment of id 0; ids are in 1.."),
        ({"segments_info": [{"id": 1, "category_id": 8}]}, "of category 8, which the data set la"),
        ({"segments_info": [{"id": 1, "category_id": [7]}]}, "of category [7]"),
        ({"segments_info": [{"id": 1, "category_id": 7}] * 2}, "lists segment 1 twice"),
        ({"segments_info": [{"id": 1, "category_id": 7, "score": "x"}]}, "of score 'x'"),
    ],
)
def test_panoptic_entries_that_are_wrong_are_refused(tmp_path, changes, message) -> None:
    path = write_panoptic(tmp_path, "pan", **changes)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{re.escape(message)}"):
        open_results(path, CLASSES)


def test_each_folder_is_named_once(tmp_path: Path) -> None:
    path = write_panoptic(tmp_path, "panoptic", file_name="b.png").rename(
        tmp_path / "panoptic.json"
    )
    places = f"in none of {re.escape(str(tmp_path / 'panoptic'))}, {re.escape(str(tmp_path))}; put"
    with pytest.raises(ValueError, match=places):
        open_results(path, CLASSES)


def test_segments_and_pixels_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    segments = [{"id": 1, "category_id": 7}]
    given = open_results(write_panoptic(tmp_path, "pan", segments_info=segments), CLASSES)
    with pytest.raises(ValueError, match=r"a.png has the segments 300, which .*pan.json does not"):
        given.find(record(1), 5, 9, ["panoptic"])
    segments = [{"id": i, "category_id": 7} for i in (1, 2, 300)]
    given = open_results(write_panoptic(tmp_path, "pan", segments_info=segments), CLASSES)
    with pytest.raises(ValueError, match=r"lists the segments 2, of which panoptic PNG .*a.png"):
        given.find(record(1), 5, 9, ["panoptic"])
    with pytest.raises(ValueError, match=r"size \(h, w\) = \(5, 9\) but image .* \(9, 5\)"):
        given.find(record(1), 9, 5, ["panoptic"])


def test_two_panoptic_entries_of_an_image_are_refused(tmp_path: Path) -> None:
    path = write_panoptic(tmp_path, "pan")
    content = json.loads(path.read_text())
    write_json(path, {"annotations": content["annotations"] * 2})
    with pytest.raises(ValueError, match="annotation 2 is for image id 1, as an earlier one is"):
        open_results(path, CLASSES)


@pytest.mark.parametrize("is_same", [True, False])
def test_categories_of_the_file_count_where_their_ids_are_others(tmp_path, is_same) -> None:
    path = write_panoptic(tmp_path, "pan")
    content = json.loads(path.read_text())
    names = ("the sky", "Road", "automobile") if is_same else ("car", "road", "sky")
    categories = [
        {"id": i, "name": name, "isthing": 0}
        for i, name in zip(CLASSES.category_ids, names, strict=True)
    ]
    write_json(path, {**content, "categories": categories})
    given = open_results(path, CLASSES)
    assert given.classes.names == (CLASSES.names if is_same else names)


@real_samples
def test_real_panoptic_files_are_read_whole() -> None:
    path = SAMPLES / "coco_panoptic" / "annotations" / "panoptic_val.json"
    classes = class_table("coco_panoptic")
    given = open_results(path, classes)
    for annotation in json.loads(path.read_text())["annotations"]:
        ids = read_panoptic_ids(path.with_suffix("") / annotation["file_name"])
        image = record(annotation["image_id"], Path(annotation["file_name"]).name)
        result = given.find(image, *ids.shape, ["panoptic"])["panoptic"]
        assert isinstance(result, PanopticResult)
        np.testing.assert_array_equal(result.segment_map.numpy(), ids)
        for segment, entry in zip(result.segments, annotation["segments_info"], strict=True):
            assert (segment.id, segment.area) == (entry["id"], int((ids == entry["id"]).sum()))
            assert list(segment.box) == entry["bbox"]
            assert classes.category_ids[segment.class_id] == entry["category_id"]
    given.check_all_found()
