import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.formats.coco_panoptic import find, read
from mask2former.data.formats.format import WHOLE, Reading
from mask2former.data.problems import Collected, Problems, Strict
from mask2former.masks.id_maps import ids_to_rgb

CATEGORIES = [
    {"id": 9, "name": "sky", "isthing": 0},
    {"id": 4, "name": "bird", "isthing": 1},
]
IDS = np.full((5, 7), 70_000, np.int32)
IDS[1:3, 2:6] = 300
IDS[4, 4:] = 5  # in no list: unlabelled
SEGMENTS = [
    {"id": 70_000, "category_id": 9, "iscrowd": 0},
    {"id": 300, "category_id": 4, "iscrowd": 1},
]


def content(**changes: object) -> dict:
    return {
        "images": [{"id": "x1", "file_name": "a.jpg", "height": 5, "width": 7}],
        "annotations": [{"image_id": "x1", "file_name": "a.png", "segments_info": SEGMENTS}],
        "categories": CATEGORIES,
    } | changes


def write(
    folder: Path,
    data: dict,
    *,
    split: str = "train",
    pngs: str = "annotations/panoptic_{split}",
    images: str = "images/{split}",
) -> Path:
    for place in (pngs, images, "annotations"):
        (folder / place.format(split=split)).mkdir(parents=True, exist_ok=True)
    (folder / f"annotations/panoptic_{split}.json").write_text(json.dumps(data))
    Image.fromarray(ids_to_rgb(IDS)).save(folder / pngs.format(split=split) / "a.png")
    Image.new("RGB", (7, 5)).save(folder / images.format(split=split) / "a.jpg")
    return folder


def read_split(folder: Path, split: str = "train", problems: Problems | None = None) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(problems or Strict()))


def test_segments_have_classes_crowds_and_pixels(tmp_path: Path) -> None:
    dataset = read_split(write(tmp_path, content()))
    assert dataset.tasks == ("panoptic", "semantic", "instance")
    assert dataset.classes.names == ("sky", "bird")
    assert dataset.classes.category_ids == (9, 4)
    assert dataset.classes.is_thing == (False, True)
    assert dataset.records[0].image_id == "x1"
    annotations = dataset.annotations(0)
    assert isinstance(annotations, SegmentMap)
    assert annotations.segments == (SegmentLabel(70_000, 0), SegmentLabel(300, 1, is_crowd=True))
    np.testing.assert_array_equal(annotations.ids, IDS)


@pytest.mark.parametrize("pngs", ["annotations/panoptic_{split}", "panoptic_{split}"])
@pytest.mark.parametrize("images", ["{split}2017", "{split}", "images/{split}2017", "images"])
def test_layouts_are_found(tmp_path: Path, pngs: str, images: str) -> None:
    (tmp_path / "annotations").mkdir()
    write(
        tmp_path,
        content(),
        split="train2017" if "2017" in images else "train",
        pngs=pngs,
        images=images.replace("2017", ""),
    )
    assert find(tmp_path) is not None
    assert list(find(tmp_path).splits) == ["train"]
    assert isinstance(read_split(tmp_path).annotations(0), SegmentMap)


def test_file_without_pngs_is_not_of_this_format(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "panoptic_train.json").write_text("{}")
    assert find(tmp_path) is None


def test_png_of_another_size_is_named(tmp_path: Path) -> None:
    images = [{"id": "x1", "file_name": "a.jpg", "height": 7, "width": 5}]
    dataset = read_split(write(tmp_path, content(images=images)))
    with pytest.raises(ValueError, match=r"a\.png has size \(h, w\) = \(5, 7\) but .* \(7, 5\)"):
        dataset.annotations(0)


def test_missing_png_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, content())
    (folder / "annotations/panoptic_train/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png, the first file of .*panoptic_train"):
        read_split(folder)


def segment(**changes: object) -> dict:
    segments = [SEGMENTS[0], SEGMENTS[1] | changes]
    return {"annotations": [{"image_id": "x1", "file_name": "a.png", "segments_info": segments}]}


ANNOTATION = content()["annotations"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (segment(category_id=6), "image id x1: segment 300 has category id 6, which 'categories'"),
        (
            segment(id=0),
            r"image id x1: segment 0 of a.png: its id is not in 1\.\.16777215 \(0 is unlabelled\)",
        ),
        (segment(id=256**3), "segment 16777216 of a.png: its id is not in"),
        (segment(id=70_000), "image id x1: segment 70000 is listed twice"),
        (
            {"annotations": []},
            r"image id x1 \(a.jpg\) has no annotation, one of 1 such images of 1",
        ),
        ({"annotations": [ANNOTATION, ANNOTATION]}, "image id x1 has two annotations; keep one"),
        ({"annotations": [ANNOTATION | {"image_id": 2}]}, r"of a\.png is for image id 2, which"),
        ({"annotations": [{"image_id": "x1"}]}, "has no 'file_name'; panoptic annotations have"),
        (
            {"categories": [CATEGORIES[0], {"id": 4, "name": "bird"}]},
            r"category 4 \('bird'\) in .* has isthing None; panoptic categories say 1 for things",
        ),
    ],
)
def test_mistakes_are_named_with_their_file(tmp_path: Path, changes: dict, message: str) -> None:
    folder = write(tmp_path, content(**changes))
    with pytest.raises(ValueError, match=message) as error:
        read_split(folder)
    assert str(folder / "annotations" / "panoptic_train.json") in str(error.value)


def test_splits_that_disagree_on_things_are_refused(tmp_path: Path) -> None:
    write(tmp_path, content())
    stuff = [CATEGORIES[0], CATEGORIES[1] | {"isthing": 0}]
    write(tmp_path, content(categories=stuff), split="val")
    with pytest.raises(ValueError, match=r"'bird' \(isthing 1\) in .* but 'bird' \(isthing 0\)"):
        read_split(tmp_path)


def test_every_fault_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    names = ["a", "no_png", "no_image", "bare"]
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 5, "width": 7} for n in names]
    faulty_segments = [
        SEGMENTS[0],
        SEGMENTS[1] | {"category_id": 6},
        SEGMENTS[1] | {"id": 0},
        SEGMENTS[0],
        {"category_id": 4},
        "segment",
    ]
    annotations = [
        {"image_id": "a", "file_name": "a.png", "segments_info": faulty_segments},
        {"image_id": "no_png", "file_name": "no_png.png", "segments_info": []},
        {"image_id": "no_image", "file_name": "no_image.png", "segments_info": []},
        {"image_id": "gone", "file_name": "a.png", "segments_info": []},
        {"image_id": "a", "file_name": "a.png", "segments_info": []},
        {"image_id": "a", "file_name": "a.png"},
        {"image_id": "a", "file_name": "a.png", "segments_info": None},
        "annotation",
    ]
    folder = write(tmp_path, content(images=images, annotations=annotations))
    for name in ("no_png", "bare"):
        Image.new("RGB", (7, 5)).save(folder / "images/train" / f"{name}.jpg")
    Image.new("RGB", (7, 5)).save(folder / "annotations/panoptic_train/no_image.png")
    problems = Collected()
    dataset = read_split(folder, problems=problems)
    assert [(problem.kind, problem.image_id) for problem in problems.found] == [
        ("annotation without image", "gone"),
        ("duplicate id", "a"),
        *[("unreadable annotation", None)] * 3,
        ("image without annotation", "bare"),
        ("missing image", "no_image"),
        ("missing annotation", "no_png"),
        ("unknown class", "a"),
        ("bad segment", "a"),
        ("duplicate id", "a"),
        ("bad segment", "a"),
        ("bad segment", "a"),
    ]
    assert [record.image_id for record in dataset.records] == ["a"]
    annotations = dataset.annotations(0)
    assert isinstance(annotations, SegmentMap)
    assert annotations.segments == (SegmentLabel(70_000, 0),)


@pytest.mark.parametrize(
    ("name", "split"), [("panoptic", WHOLE), ("panoptic_default", WHOLE), ("panoptic_new", "new")]
)
def test_a_file_without_the_name_of_a_split_is_the_whole(
    tmp_path: Path, name: str, split: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / "images").mkdir()
    # PNG images of the same names: those of ids must not be taken for them
    images = [{"id": "x1", "file_name": "a.png", "height": 5, "width": 7}]
    (tmp_path / f"{name}.json").write_text(json.dumps(content(images=images)))
    Image.fromarray(ids_to_rgb(IDS)).save(tmp_path / name / "a.png")
    Image.new("RGB", (7, 5)).save(tmp_path / "images" / "a.png")
    found = find(tmp_path)
    assert found is not None
    assert list(found.splits) == [split]
    dataset = read_split(tmp_path, split)
    assert dataset.records[0].image == tmp_path / "images" / "a.png"
    assert isinstance(dataset.annotations(0), SegmentMap)


def test_images_that_no_annotation_names_are_a_warning(tmp_path: Path) -> None:
    folder = write(tmp_path, content())
    (folder / "images/train/spare.jpg").touch()
    problems = Collected()
    read_split(folder, problems=problems)
    (problem,) = problems.found
    assert (problem.kind, problem.is_error) == ("image without annotation", False)
    assert "1 images of" in problem.message
    assert "spare.jpg" in problem.message
