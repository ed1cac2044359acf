"""Objects found elsewhere are those that pycocotools reads, or are refused with what is wrong."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mask2former.data.dataset import Record
from mask2former.evaluation.given import json_lists
from mask2former.evaluation.given.json_lists import iterate_list
from mask2former.evaluation.given.results import GivenResults, open_results, tasks_of
from mask2former.masks.rle import decode_rle, encode_mask, run_lengths
from mask2former.types import Classes, InstanceResult

CLASSES = Classes(("sky", "road", "car"), (23, 7, 26), (False, False, True))
MASK = np.zeros((5, 9), bool)
MASK[1:4, 2:6] = True


def record(image_id: int | str, file_name: str | None = None) -> Record:
    return Record(image_id, Path("images") / (file_name or f"{image_id}.jpg"), None)


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def found_object(image_id: Any = 1, **changes: Any) -> dict[str, Any]:
    rle = encode_mask(MASK)
    segmentation = {"size": [5, 9], "counts": rle["counts"].decode()}
    entry = {"image_id": image_id, "category_id": 26, "segmentation": segmentation, "score": 0.5}
    return {key: value for key, value in (entry | changes).items() if value is not ...}


def objects(given: GivenResults, image: Record, height: int = 5, width: int = 9) -> InstanceResult:
    result = given.find(image, height, width, ["instance"])["instance"]
    assert isinstance(result, InstanceResult)
    return result


def random_detections(seed: int) -> tuple[dict[int, tuple[int, int]], list[dict[str, Any]]]:
    """(height, width) by image id, and objects whose masks are in every form."""
    rng = np.random.default_rng(seed)
    sizes = {i: (int(rng.integers(4, 30)), int(rng.integers(4, 30))) for i in (3, 14, 15)}
    detections = []
    for _ in range(rng.integers(1, 25)):
        image_id = int(rng.choice(list(sizes)))
        height, width = sizes[image_id]
        rle = encode_mask(rng.random((height, width)) < rng.random())
        forms: list[Any] = [
            {"size": [height, width], "counts": rle["counts"].decode()},
            {"size": [height, width], "counts": run_lengths(rle).tolist()},
            (rng.random((int(rng.integers(1, 3)), 8)) * max(height, width)).round(2).tolist(),
        ]
        detections.append(
            {
                "image_id": image_id,
                "category_id": int(rng.choice(CLASSES.category_ids)),
                "segmentation": forms[rng.integers(3)],
                "score": float(rng.choice([0.25, 0.5, rng.random()])),
            }
        )
    return sizes, detections


@pytest.mark.parametrize("seed", range(25))
def test_objects_are_those_that_pycocotools_reads(tmp_path: Path, seed: int, capsys) -> None:
    sizes, detections = random_detections(seed)
    path = write_json(tmp_path / "results.json", detections)
    reference = COCO()
    images = [{"id": i, "height": h, "width": w} for i, (h, w) in sizes.items()]
    entries = [{**d, "id": n} for n, d in enumerate(detections)]
    reference.dataset = {"images": images, "annotations": entries, "categories": []}
    reference.createIndex()
    given = open_results(path, CLASSES)
    for image_id, (height, width) in sizes.items():
        wanted = sorted(reference.imgToAnns[image_id], key=lambda entry: -entry["score"])
        result = objects(given, record(image_id), height, width)
        assert len(result.segments) == len(wanted)
        for i, (segment, rle, entry) in enumerate(
            zip(result.segments, result.rles, wanted, strict=True)
        ):
            theirs = reference.annToRLE(entry)
            assert segment.id == i
            assert CLASSES.category_ids[segment.class_id] == entry["category_id"]
            assert segment.score == entry["score"]
            assert segment.area == coco_mask.area(theirs)
            assert segment.box == tuple(coco_mask.toBbox(theirs).tolist())
            np.testing.assert_array_equal(decode_rle(rle), reference.annToMask(entry))
    assert given.unused() == []


def test_images_without_objects_have_none(tmp_path: Path) -> None:
    given = open_results(write_json(tmp_path / "r.json", [found_object(1)]), CLASSES)
    assert objects(given, record(2), 7, 8) == InstanceResult(7, 8, [], [])
    assert given.unused() == ["image id 1"]
    with pytest.raises(ValueError, match=r"1 images that .*r.json has results for are not among"):
        given.check_all_found()
    assert len(objects(given, record(1)).segments) == 1
    given.check_all_found()


@pytest.mark.parametrize(
    ("in_file", "image"),
    [
        (139, record(139, "a.jpg")),
        ("139", record(139, "a.jpg")),
        (139.0, record(139)),
        (139, record("139", "a.jpg")),
        (139, record("000000000139")),
        ("000000000139", record(139, "000000000139.jpg")),
        ("photo", record(139, "photo.jpg")),
        ("a/photo", record("a/photo", "photo.jpg")),
    ],
)
def test_an_image_is_found_by_its_id_or_its_name(tmp_path: Path, in_file: Any, image) -> None:
    given = open_results(write_json(tmp_path / "r.json", [found_object(in_file)]), CLASSES)
    assert len(objects(given, image).segments) == 1
    assert given.unused() == []


def test_numbers_are_ids_and_never_names_of_images_that_have_numbers(tmp_path: Path) -> None:
    # nothing was found in image 1, whose file happens to be called as image 2 is
    for in_file in (2, "2"):
        given = open_results(write_json(tmp_path / "r.json", [found_object(in_file)]), CLASSES)
        assert objects(given, record(1, "2.jpg")).segments == []
        assert objects(given, record(1, "000002.jpg")).segments == []
        assert len(objects(given, record(2, "1.jpg")).segments) == 1


def test_names_in_the_file_tell_images_that_were_numbered_anew(tmp_path: Path) -> None:
    entries = [
        found_object(1, file_name="b.jpg", category_id=23),
        found_object(2, file_name="a.jpg", category_id=7),
    ]
    given = open_results(write_json(tmp_path / "r.json", entries), CLASSES)
    for image_id, name, class_id in ((1, "a.png", 1), (2, "b.png", 0)):
        (segment,) = objects(given, record(image_id, name)).segments
        assert segment.class_id == class_id


@pytest.mark.parametrize(
    "names",
    [
        {"image_id": ..., "file_name": "val/a.jpg"},
        {"image_id": None, "file_name": "a.jpg"},
        {"image_id": "a.jpg"},
        {"image_id": "a"},
    ],
)
def test_the_name_of_an_image_stands_for_its_id(tmp_path: Path, names) -> None:
    entries = [found_object(**names), found_object(**names, score=0.25)]
    path = write_json(tmp_path / "r.json", entries)
    given = open_results(path, CLASSES)
    assert given.tasks == tasks_of(path) == ("instance",)
    assert [s.score for s in objects(given, record(7, "a.jpg")).segments] == [0.5, 0.25]
    assert given.unused() == []


def test_an_empty_list_is_of_images_without_objects(tmp_path: Path) -> None:
    path = write_json(tmp_path / "r.json", [])
    given = open_results(path, CLASSES)
    assert given.tasks == tasks_of(path) == ("instance",)
    assert objects(given, record(2), 7, 8) == InstanceResult(7, 8, [], [])


def test_one_entry_is_never_of_two_images(tmp_path: Path) -> None:
    given = open_results(write_json(tmp_path / "r.json", [found_object("a")]), CLASSES)
    assert len(objects(given, record(1, "a.jpg")).segments) == 1
    assert len(objects(given, record(1, "a.jpg")).segments) == 1
    with pytest.raises(ValueError, match=r"image id a of .* fits two images .*1.* and .*2"):
        given.find(record(2, "a.jpg"), 5, 9, ["instance"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (found_object(score=...), "entry 2 (image id 1) has no 'score'; annotations are no res"),
        (found_object(score=float("nan")), "has the score nan; a finite number is expected"),
        (found_object(score=float("inf")), "has the score inf"),
        (found_object(score="0.5"), "has the score '0.5'"),
        (found_object(score=True), "has the score True"),
        (found_object(segmentation=..., bbox=[0, 0, 1, 1]), "has no 'segmentation'; masks are"),
        (found_object(segmentation="x"), "neither polygons nor a run-length encoding"),
        (found_object(segmentation={"size": [5, 9], "counts": None}), "neither polygons nor a"),
        (found_object(segmentation={"size": [5], "counts": "1"}), "entry 2"),
        (found_object(segmentation={"size": [5, 9], "counts": [1, 2]}), "sum to 3 pixels, not"),
        (found_object(segmentation={"size": [5, 9], "counts": "ä"}), "neither polygons nor a"),
        (found_object(segmentation=[]), "has a polygon that is no list"),
        (found_object(segmentation=[[1, 2, 3, 4]]), "has a polygon that is no list"),
        (found_object(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "has a polygon that is no list"),
        (found_object(segmentation=[["a"] * 6]), "has polygons that are no lists of numbers"),
        (found_object(segmentation=[[float("nan")] * 6]), "no finite number"),
        (found_object(image_id=...), "entry 2 has no 'image_id' and no 'file_name'"),
        (found_object(image_id=None), "has the image_id None; a number or a text is expected"),
        (found_object(segmentation=None), "has the segmentation null; give its mask"),
        (
            found_object(segmentation={"size": [5, 9], "counts": [5, -1, 41]}),
            "has a run of -1 pixels in its mask; runs are 0 or more",
        ),
        (found_object(image_id=[1]), "has the image_id [1]; a number or a text is expected"),
        (found_object(category_id=...), "has no 'category_id'"),
        (found_object(category_id="car"), "has the category_id 'car'; a whole number"),
        ([1], "entry 2 is no JSON object"),
    ],
)
def test_entries_that_are_no_results_are_refused(tmp_path: Path, entry: Any, message: str) -> None:
    path = write_json(tmp_path / "r.json", [found_object(), entry])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{re.escape(message)}"):
        open_results(path, CLASSES)


def test_category_ids_of_other_data_are_told_together(tmp_path: Path) -> None:
    entries = [found_object(category_id=i) for i in (26, 99, 1, 2, 3, 1)]
    message = r"has the category ids 1, 2, 3 and 1 more, which the data set lacks; it has 7, 23, 26"
    with pytest.raises(ValueError, match=message):
        open_results(write_json(tmp_path / "r.json", entries), CLASSES)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [9, 5], "counts": [45]}, r"size \(h, w\) = \(9, 5\) but the image \(5, 9\)"),
        ({"size": [5, 9], "counts": "0"}, "sum to 0 pixels, not to 5 x 9"),
        ({"size": [5, 9], "counts": "o"}, "object 2 of image id 1"),
    ],
)
def test_masks_of_another_size_or_damaged_are_refused(tmp_path, segmentation, message) -> None:
    entries = [found_object(), found_object(segmentation=segmentation)]
    given = open_results(write_json(tmp_path / "r.json", entries), CLASSES)
    with pytest.raises(ValueError, match=f"r.json: object 2 of image id 1: .*{message}|{message}"):
        given.find(record(1), 5, 9, ["instance"])


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 20])
def test_a_list_is_read_the_same_however_it_is_cut(tmp_path: Path, monkeypatch, chunk) -> None:
    monkeypatch.setattr(json_lists, "CHUNK", chunk)
    entries = [{"a": i, "text": "ä]},[" * i, "n": [1.5, None, {"b": []}]} for i in range(20)]
    for text in (
        json.dumps(entries),
        json.dumps(entries, indent=2, ensure_ascii=False),
        " \n" + json.dumps(entries, separators=(",", ":")) + "\n ",
        "\ufeff" + json.dumps(entries),
    ):
        (tmp_path / "l.json").write_text(text, encoding="utf-8")
        assert list(iterate_list(tmp_path / "l.json")) == entries
    (tmp_path / "l.json").write_text("[ ]")
    assert list(iterate_list(tmp_path / "l.json")) == []


@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_a_list_that_is_cut_off_anywhere_is_refused(tmp_path: Path, monkeypatch, chunk) -> None:
    monkeypatch.setattr(json_lists, "CHUNK", chunk)
    text = json.dumps([{"a": 1}, {"b": [2, "c"]}])
    path = tmp_path / "l.json"
    for length in range(len(text)):
        path.write_text(text[:length])
        with pytest.raises(ValueError, match=f"{path} (is not valid JSON|does not begin with)"):
            list(iterate_list(path))


@pytest.mark.parametrize(
    "text", ['[{"a": 1} {"a": 2}]', '[{"a": 1},]', '[{"a": 1}] []', '[{"a": 1,}]', "[{]", "[,]"]
)
def test_a_damaged_list_is_refused_with_the_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(ValueError, match=r"l.json is not valid JSON \(.*, after character \d+\)"):
        list(iterate_list(tmp_path / "l.json"))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match=r"cannot read .*r.json \(.*\); it is no JSON file in UTF"):
        open_results(tmp_path / "r.json", CLASSES)
