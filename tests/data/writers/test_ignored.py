"""Regions that are nobody's stay unscored in the formats that can say so."""

import json
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import AsRead, Instance, Instances
from mask2former.data.convert import Converted, convert
from mask2former.data.dataset import Dataset, Record
from mask2former.data.derive import for_task
from mask2former.data.merging import merge_datasets
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import decode_rle, encode_mask, rle_area
from mask2former.types import Classes

Opened = Callable[[Path, str], dict[str, Dataset]]
# a cat in columns 0 to 4, of which an ignored region covers the last two, and what lies beside it
EXPECTED = [1, 1, 1, 255, 255, 255, 0, 0]


@pytest.fixture
def labelme(tmp_path: Path) -> Path:
    folder = tmp_path / "labelme"
    folder.mkdir()
    Image.new("RGB", (8, 4)).save(folder / "a.png")
    boxes = {"cat": [[0, 0], [5, 4]], "__ignore__": [[3, 0], [6, 4]]}
    shapes = [
        {"label": label, "points": points, "shape_type": "rectangle"}
        for label, points in boxes.items()
    ]
    content = {"imagePath": "a.png", "imageHeight": 4, "imageWidth": 8, "shapes": shapes}
    (folder / "a.json").write_text(json.dumps(content))
    return folder


def test_voc_and_png_masks_hold_them_as_255(labelme: Path, tmp_path: Path, opened: Opened) -> None:
    datasets = opened(labelme, "labelme")
    convert(datasets, tmp_path / "voc", "voc")
    for place in ("SegmentationClass", "SegmentationObject"):
        assert np.asarray(Image.open(tmp_path / "voc" / place / "a.png"))[0].tolist() == EXPECTED
    convert(datasets, tmp_path / "masks", "png-masks", task="semantic")
    (path,) = (tmp_path / "masks" / "masks").rglob("*.png")
    # classes are counted from 0 there, the background last
    assert np.asarray(Image.open(path))[0].tolist() == [0, 0, 0, 255, 255, 255, 1, 1]


def test_what_voc_leaves_void_is_void_in_a_copy(
    labelme: Path, tmp_path: Path, opened: Opened
) -> None:
    convert(opened(labelme, "labelme"), tmp_path / "one", "voc")
    convert(opened(tmp_path / "one", "voc"), tmp_path / "two", "voc")
    copy = Image.open(tmp_path / "two" / "SegmentationClass" / "a.png")
    assert np.asarray(copy)[0].tolist() == EXPECTED


def annotate(items: tuple[Instance, ...], ignored: tuple = ()) -> Instances:
    return Instances(4, 8, items, ignored)


def box(left: int, right: int) -> dict:
    mask = np.zeros((4, 8), bool)
    mask[:, left:right] = True
    return encode_mask(mask)


def item(mask: dict, class_id: int = 0, *, is_crowd: bool = False) -> Instance:
    return Instance(class_id, mask, is_crowd, float(rle_area(mask)))


def data_set(folder: Path, annotations: Instances) -> dict[str, Dataset]:
    Image.new("RGB", (8, 4)).save(folder / "own.png")
    record = Record("own", folder / "own.png", annotations)
    classes = Classes(("cat", "dog"), (1, 2), (True, True))
    tasks = ("instance", "panoptic", "semantic")
    decode = attrgetter("annotation")
    return {"all": Dataset("own", folder, "all", classes, tasks, [record], decode)}


def regions(annotations: AsRead) -> np.ndarray:
    assert isinstance(annotations, Instances)
    masks = [decode_rle(mask_to_rle(mask, 4, 8)) for mask in annotations.ignored]
    return np.any(masks, axis=0)


def losses(converted: Converted) -> dict[str, int]:
    return {loss.kind: loss.count for loss in converted.losses}


def test_labelme_holds_them(labelme: Path, tmp_path: Path, opened: Opened) -> None:
    before = opened(labelme, "labelme")
    converted = convert(before, tmp_path / "out", "labelme")
    assert "ignored regions" not in losses(converted)
    after = opened(tmp_path / "out", "labelme")
    ours, theirs = (splits["all"].annotations(0) for splits in (after, before))
    assert np.array_equal(regions(ours), regions(theirs))
    maps = [for_task(splits["all"], "panoptic").annotations(0).ids for splits in (after, before)]
    assert np.array_equal(*maps)


def test_crowds_in_labelme_lie_below_objects_and_ignored_regions_above(
    tmp_path: Path, opened: Opened
) -> None:
    # a cat in columns 0 to 3, a crowd of dogs from 2 to 5, and 3 to be ignored
    items = (item(box(0, 4)), item(box(2, 6), 1, is_crowd=True))
    splits = data_set(tmp_path, annotate(items, (box(3, 4),)))
    convert(splits, tmp_path / "out", "labelme")
    again = opened(tmp_path / "out", "labelme")["all"]
    assert regions(again.annotations(0))[0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    flat = for_task(again, "panoptic").annotations(0)
    assert (flat.ids == flat.segments[0].id)[0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["coco-instance", "yolo"])
def test_formats_of_objects_alone_lose_them(tmp_path: Path, name: str) -> None:
    splits = data_set(tmp_path, annotate((item(box(0, 4)),), (box(3, 4), box(6, 7))))
    assert losses(convert(splits, tmp_path / "out", name))["ignored regions"] == 2


def test_what_maps_hide_is_counted(tmp_path: Path) -> None:
    # of 4 rows: a cat in columns 0 to 4 and one in 3 to 4 above it, a dog in 4, another cat in 6,
    # and what is to be ignored in 1 and 6
    items = (item(box(0, 5)), item(box(3, 5)), item(box(4, 5), 1), item(box(6, 7)))
    splits = data_set(tmp_path, annotate(items, (box(1, 2), box(6, 8))))
    panoptic = convert(splits, tmp_path / "panoptic", "coco-panoptic")
    assert losses(panoptic)["hidden pixels"] == 4 * (2 + 1)
    assert losses(panoptic)["hidden objects"] == 1  # the cat in 6, ignored
    assert losses(panoptic)["ignored pixels"] == 4 * 2
    semantic = convert(splits, tmp_path / "semantic", "png-masks")
    assert losses(semantic)["hidden pixels"] == 4 * (1 + 1)  # of both cats, under the dog
    assert losses(semantic)["ignored pixels"] == 4 * 2
    assert "hidden objects" not in losses(semantic)
    below = (item(box(0, 2)), item(box(0, 2), 1), item(box(0, 2), 1))
    semantic = convert(data_set(tmp_path, annotate(below)), tmp_path / "below", "png-masks")
    assert losses(semantic)["hidden objects"] == 1


def test_merged_data_sets_keep_them(labelme: Path, opened: Opened) -> None:
    (dataset,) = opened(labelme, "labelme").values()
    things = for_task(dataset, "instance")
    merged = merge_datasets([things, things])
    assert len(merged) == 2
    annotations = merged.annotations(1)
    assert isinstance(annotations, Instances)
    assert len(annotations.ignored) == 1
