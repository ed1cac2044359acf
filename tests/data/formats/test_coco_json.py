"""What COCO's annotation files have in common: images, categories, and what is wrong with them."""

import json
from pathlib import Path

import pytest

from mask2former.data.formats.coco_json import (
    agreed_categories,
    images_by_id,
    left_out_note,
    read_coco_json,
    sniff,
    warn_repeated_ids,
)
from mask2former.data.problems import Collected, Strict

CATEGORIES = [
    {"id": 7, "name": "fig", "supercategory": "fruit"},
    {"id": 3, "name": "date", "supercategory": "fruit"},
]
ROBOFLOW = [{"id": 0, "name": "fruit", "supercategory": "none"}, *CATEGORIES]
LABELME = [{"id": 0, "name": "_background_", "supercategory": None}, *CATEGORIES]
JSON = Path("some.json")


def content(category_id: int = 3, categories: list[dict] = CATEGORIES) -> dict:
    annotation = {"id": 1, "image_id": 0, "category_id": category_id, "segmentation": []}
    return {"images": [], "annotations": [annotation], "categories": categories}


def write(folder: Path, **splits: dict) -> dict[str, Path]:
    files = {split: folder / f"{split}.json" for split in splits}
    for split, data in splits.items():
        files[split].write_text(json.dumps(data))
    return files


def names(files: dict[str, Path]) -> list[str]:
    return [category["name"] for category in agreed_categories(files)]


def test_order_of_classes_is_that_of_the_training_file(tmp_path: Path) -> None:
    reverse = content(categories=CATEGORIES[::-1])
    assert names(write(tmp_path, valid=reverse, train=content())) == ["fig", "date"]


@pytest.mark.parametrize("categories", [ROBOFLOW, LABELME])
def test_placeholder_category_is_a_class_only_where_an_object_has_it(
    tmp_path: Path, categories: list[dict]
) -> None:
    unused = content(categories=categories)
    files = write(tmp_path, train=unused, valid=unused)
    assert names(files) == ["fig", "date"]
    (note,) = left_out_note(unused, agreed_categories(files), JSON)
    assert f"Category 0 ({categories[0]['name']!r}) of some.json is no class: no object" in note
    # in any split
    used = content(category_id=0, categories=categories)
    files = write(tmp_path, train=unused, valid=used)
    assert names(files) == [categories[0]["name"], "fig", "date"]
    assert left_out_note(used, agreed_categories(files), JSON) == ()


@pytest.mark.parametrize(
    ("categories", "difference"),
    [
        (CATEGORIES[:1], "category 3 is 'date' in .*train.* but missing in .*valid"),
        ([CATEGORIES[0], {"id": 3, "name": "nut"}], "category 3 is 'date' .* but 'nut' in .*valid"),
        ([*CATEGORIES, {"id": 4, "name": "nut"}], "category 4 is missing in .* but 'nut' in"),
    ],
)
def test_splits_with_different_classes_are_refused(
    tmp_path: Path, categories: list[dict], difference: str
) -> None:
    files = write(tmp_path, train=content(), valid=content(7, categories))
    with pytest.raises(ValueError, match=difference):
        agreed_categories(files)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "has no categories; list the classes"),
        ([{"id": 1}], "category {'id': 1} needs an 'id' and a 'name'"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "category id 1 occurs twice"),
        ([{"id": "one", "name": "fig"}], "'fig' has the id 'one'; category ids are whole numbers"),
    ],
)
def test_incomplete_categories_are_refused(
    tmp_path: Path, categories: list[dict], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        agreed_categories(write(tmp_path, train=content(categories=categories)))


@pytest.mark.parametrize("position", ["first", "last"])
@pytest.mark.parametrize("padding", [0, 200_000])
def test_categories_are_found_wherever_they_stand(
    tmp_path: Path, position: str, padding: int
) -> None:
    data = content() | {"info": {"description": "x" * padding}}
    keys = ["categories", "info", "images", "annotations"]
    data = {key: data[key] for key in (keys if position == "first" else keys[::-1])}
    assert names(write(tmp_path, train=data)) == ["fig", "date"]


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_file_without_a_list_is_refused(tmp_path: Path, key: str) -> None:
    files = write(tmp_path, train=content() | {key: None})
    with pytest.raises(ValueError, match=f"has no list '{key}'; a COCO annotation file has the"):
        read_coco_json(files["train"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ('{"images": [}', "is not valid JSON"),
        ("[1]", "holds a JSON list; an object"),
    ],
)
def test_file_that_holds_no_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(ValueError, match=rf"train\.json {message}"):
        read_coco_json(tmp_path / "train.json")


IMAGE = {"id": 1, "file_name": "a.png", "height": 2, "width": 3}


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "lists no images"),
        ([{"id": 1, "file_name": "a.png", "width": 3}], "has no 'height'; correct it"),
        ([IMAGE, IMAGE], "image id 1 occurs twice"),
        ([IMAGE | {"height": "x"}], "has the height 'x', which is no number of pixels"),
    ],
)
def test_incomplete_images_are_refused(listed: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images_by_id({"images": listed}, JSON, Strict())


def test_annotation_ids_that_occur_twice_are_one_warning() -> None:
    problems = Collected()
    warn_repeated_ids([{"id": i} for i in (1, 2, 1, 2, 3)], JSON, problems)
    (problem,) = problems.found
    assert (problem.kind, problem.is_error) == ("duplicate id", False)
    assert "2 annotation ids occur more than once: 1, 2; pycocotools" in problem.message


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (content(), "objects"),
        (content(categories=[{"id": 1, "name": "a", "isthing": 1}]), "objects"),
        ({"annotations": [{"segments_info": []}], "categories": []}, "panoptic"),
        ({"images": [], "categories": [{"id": 1, "isthing": 1}]}, "panoptic"),
        ({"videos": [{"file_names": []}], "categories": []}, "videos"),
        ({"shapes": []}, None),
    ],
)
def test_what_a_file_describes_is_told_from_its_keys(
    tmp_path: Path, data: dict, kind: str | None
) -> None:
    assert sniff(write(tmp_path, any=data)["any"]) == kind
    assert sniff(tmp_path / "gone.json") is None
