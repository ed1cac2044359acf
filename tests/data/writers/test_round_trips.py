"""COCO to every format and back: masks are the same, or what is lost is counted."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentMap
from mask2former.data.convert import WRITERS, Converted, convert
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task, instance_rles, panoptic_map, semantic_map
from mask2former.data.locate import find_format
from mask2former.data.overlaps import resolve_overlaps
from mask2former.data.synthetic import write_synthetic
from mask2former.masks.rle import canonical_rle, decode_rle

Splits = dict[str, Dataset]
Opened = Callable[[Path, str], Splits]


def count(converted: Converted, kind: str) -> int:
    return sum(loss.count for loss in converted.losses if loss.kind == kind)


def objects(dataset: Dataset, index: int, *, crowds: bool = True) -> list[tuple[str, np.ndarray]]:
    """(class name, mask) of each object."""
    things = for_task(dataset, "instance")
    rles, names = instance_rles(things.annotations(index)), things.classes.names
    return [(names[c], decode_rle(rle)) for c, rle, crowd, *_ in rles if crowds or not crowd]


def assert_same_objects(ours: list, theirs: list) -> None:
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (_, mask), (_, other) in zip(ours, theirs, strict=True):
        assert np.array_equal(mask, other)


def test_coco_to_coco_keeps_every_number(coco: Splits, opened: Opened, tmp_path: Path) -> None:
    converted = convert(coco, tmp_path / "out", "coco-instance")
    again = opened(tmp_path / "out", "coco-instance")
    assert list(again) == ["train", "val"]
    assert {loss.kind: loss.count for loss in converted.losses} == {
        "annotation ids": 3 * len(coco["val"].annotations(0).items),
        "image information": 3,
        "supercategories": 3,
    }
    for split, dataset in coco.items():
        assert again[split].classes == dataset.classes
        for i, record in enumerate(dataset.records):
            assert again[split].records[i].image_id == record.image_id
            before, after = dataset.annotations(i).items, again[split].annotations(i).items
            for a, b in zip(before, after, strict=True):
                assert (a.class_id, a.is_crowd, a.area) == (b.class_id, b.is_crowd, b.area)
                same = (
                    a.mask == b.mask
                    if isinstance(a.mask, dict)
                    else all(map(np.array_equal, a.mask, b.mask))
                )
                assert same
            image = again[split].records[i].image
            assert image.read_bytes() == record.image.read_bytes()


def test_coco_is_opened_by_pycocotools(coco: Splits, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    convert(coco, tmp_path / "out", "coco-instance")
    api = COCO(tmp_path / "out" / "annotations" / "instances_train.json")
    assert sorted(api.getImgIds()) == [10, 15]
    entries = api.loadAnns(api.getAnnIds(imgIds=[10]))
    masks = [mask for _, mask in objects(coco["train"], 0)]
    for entry, mask in zip(entries, masks, strict=True):
        rle = canonical_rle(api.annToRLE(entry), 24, 31)
        assert np.array_equal(decode_rle(rle), mask)


def test_yolo_and_labelme_fill_to_the_same_masks(
    coco: Splits, opened: Opened, tmp_path: Path
) -> None:
    for name in ("yolo", "labelme"):
        converted = convert(coco, tmp_path / name, name)
        again = opened(tmp_path / name, name)
        assert list(again) == ["train", "val"]
        assert count(converted, "crowd flags") == 3
        assert count(converted, "vertices") > 0
        for split, dataset in coco.items():
            assert again[split].classes.names == dataset.classes.names
            for i in range(len(dataset)):
                expected = objects(dataset, i, crowds=False)
                assert_same_objects(objects(again[split], i), expected)


def test_coco_to_yolo_to_coco_is_the_same_but_for_what_is_told(
    coco: Splits, opened: Opened, tmp_path: Path
) -> None:
    convert(coco, tmp_path / "yolo", "yolo")
    convert(opened(tmp_path / "yolo", "yolo"), tmp_path / "coco again", "coco-instance")
    again = opened(tmp_path / "coco again", "coco-instance")
    for split, dataset in coco.items():
        for i in range(len(dataset)):
            assert_same_objects(objects(again[split], i), objects(dataset, i, crowds=False))


def test_coco_to_panoptic_to_coco_loses_hidden_pixels_alone(
    coco: Splits, opened: Opened, tmp_path: Path
) -> None:
    converted = convert(coco, tmp_path / "panoptic", "coco-panoptic")
    convert(opened(tmp_path / "panoptic", "coco-panoptic"), tmp_path / "again", "coco-instance")
    again = opened(tmp_path / "again", "coco-instance")
    resolved = {
        split: [resolve_overlaps(dataset.annotations(i)) for i in range(len(dataset))]
        for split, dataset in coco.items()
    }
    lost = sum(sum(one.lost) for some in resolved.values() for one in some)
    assert count(converted, "hidden pixels") == lost > 0
    for split, dataset in coco.items():
        assert again[split].classes == dataset.classes
        for i, one in enumerate(resolved[split]):
            ids, labels = one.segments.ids, one.segments.segments
            expected = [(dataset.classes.names[s.class_id], ids == s.id) for s in labels]
            assert_same_objects(objects(again[split], i), expected)
            crowds = [item.is_crowd for item in again[split].annotations(i).items]
            assert crowds == [label.is_crowd for label in labels]


@pytest.fixture
def panoptic(tmp_path: Path, opened: Opened) -> Splits:
    write_synthetic(tmp_path / "set", train_images=2, val_images=1, size=(40, 52), seed=1)
    return opened(tmp_path / "set", "coco-panoptic")


def test_panoptic_to_panoptic_keeps_ids(panoptic: Splits, opened: Opened, tmp_path: Path) -> None:
    convert(panoptic, tmp_path / "out", "coco-panoptic")
    again = opened(tmp_path / "out", "coco-panoptic")
    for split, dataset in panoptic.items():
        assert again[split].classes == dataset.classes
        for i in range(len(dataset)):
            before, after = dataset.annotations(i), again[split].annotations(i)
            assert np.array_equal(panoptic_map(before)[0], panoptic_map(after)[0])
            assert before.segments == after.segments


def test_panoptic_json_has_areas_and_boxes(panoptic: Splits, tmp_path: Path) -> None:
    convert(panoptic, tmp_path / "out", "coco-panoptic")
    content = json.loads((tmp_path / "out" / "annotations" / "panoptic_val.json").read_text())
    ids, _ = panoptic_map(panoptic["val"].annotations(0))
    (annotation,) = content["annotations"]
    for segment in annotation["segments_info"]:
        y, x = np.nonzero(ids == segment["id"])
        box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
        assert segment["area"] == len(y)
        assert segment["bbox"] == box


def test_panoptic_to_instances_and_back_keeps_every_segment(
    panoptic: Splits, opened: Opened, tmp_path: Path
) -> None:
    converted = convert(panoptic, tmp_path / "coco", "coco-instance")
    assert converted.task == "panoptic"
    assert count(converted, "stuff") == 3
    convert(opened(tmp_path / "coco", "coco-instance"), tmp_path / "again", "coco-panoptic")
    again = opened(tmp_path / "again", "coco-panoptic")
    assert set(again["val"].classes.is_thing) == {True}
    for split, dataset in panoptic.items():
        for i in range(len(dataset)):
            before, after = dataset.annotations(i), again[split].annotations(i)
            for segment in before.segments:
                values = np.unique(after.ids[before.ids == segment.id])
                assert len(values) == 1
                assert (after.ids == values[0]).sum() == (before.ids == segment.id).sum()


def test_the_task_instance_leaves_stuff_out(
    panoptic: Splits, opened: Opened, tmp_path: Path
) -> None:
    converted = convert(panoptic, tmp_path / "out", "yolo", task="instance")
    assert count(converted, "stuff") == 3
    again = opened(tmp_path / "out", "yolo")["train"]
    assert again.classes.names == ("disc", "rectangle", "triangle", "star")
    assert_same_objects(objects(again, 1), objects(for_task(panoptic["train"], "instance"), 1))


@pytest.mark.parametrize("name", ["png-masks", "coco-panoptic", "voc"])
def test_semantic_labels_survive(
    panoptic: Splits, opened: Opened, tmp_path: Path, name: str
) -> None:
    convert(panoptic, tmp_path / "out", name, task="semantic")
    again = opened(tmp_path / "out", name)
    for split, dataset in panoptic.items():
        names = dataset.classes.names
        new_names = again[split].classes.names
        table = np.array([*(new_names.index(n) for n in names), -1])
        for i in range(len(dataset)):
            before = semantic_map(for_task(dataset, "semantic").annotations(i), len(names))
            new = for_task(again[split], "semantic").annotations(i)
            assert np.array_equal(semantic_map(new, len(new_names)), table[before])


def test_voc_objects_are_the_things(panoptic: Splits, opened: Opened, tmp_path: Path) -> None:
    convert(panoptic, tmp_path / "out", "voc")
    again = opened(tmp_path / "out", "voc")
    assert sorted(again) == ["train", "val"]
    for split, dataset in panoptic.items():
        things = for_task(dataset, "instance")
        for i in range(len(dataset)):
            assert_same_objects(objects(again[split], i), objects_by_name(things, i))


def objects_by_name(dataset: Dataset, index: int) -> list[tuple[str, np.ndarray]]:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, SegmentMap)
    names = dataset.classes.names
    return [(names[s.class_id], annotations.ids == s.id) for s in annotations.segments]


def test_voc_of_objects_has_background_and_void_crowds(
    coco: Splits, opened: Opened, tmp_path: Path
) -> None:
    convert(coco, tmp_path / "out", "voc")
    again = opened(tmp_path / "out", "voc")["val"]
    assert again.classes.names == ("_background_", "a", "b c", "d/é")
    stem = Path(again.records[0].image.name).stem
    values = np.asarray(Image.open(tmp_path / "out" / "SegmentationClass" / f"{stem}.png"))
    flat = resolve_overlaps(coco["val"].annotations(0)).segments
    crowd = next(segment.id for segment in flat.segments if segment.is_crowd)
    assert np.array_equal(values == 255, flat.ids == crowd)
    assert np.array_equal(values == 0, flat.ids == 0)


def test_a_background_of_voc_stays_a_class_in_panoptic_files(
    coco: Splits, opened: Opened, tmp_path: Path
) -> None:
    convert(coco, tmp_path / "voc", "voc")
    voc = opened(tmp_path / "voc", "voc")
    for task in ("panoptic", "semantic"):
        convert(voc, tmp_path / task, "coco-panoptic", task=task)
        again = opened(tmp_path / task, "coco-panoptic")["val"]
        assert again.classes.names == voc["val"].classes.names
        before, after = (for_task(d, task).annotations(0) for d in (voc["val"], again))
        assert np.array_equal(before.ids, after.ids)
        assert before.segments == after.segments


def test_two_channels_hold_class_and_number(panoptic: Splits, tmp_path: Path) -> None:
    convert(panoptic, tmp_path / "out", "panoptic-2ch")
    ids, segments = panoptic_map(panoptic["val"].annotations(0))
    png = np.asarray(Image.open(tmp_path / "out" / "panoptic_2ch_val" / "000000.png"))
    assert not png[ids == 0].any()
    numbers: dict[int, int] = {}
    for segment in segments:
        category = panoptic["val"].classes.category_ids[segment.class_id]
        number = numbers.setdefault(category, 0)
        numbers[category] += 1
        assert (png[ids == segment.id] == (category, number, 0)).all()


READABLE = [writer.name for writer in WRITERS if writer.name != "panoptic-2ch"]


@pytest.mark.parametrize("name", [name for name in READABLE if name != "youtube-vis"])
def test_what_is_written_is_found_by_looking(
    coco: Splits, panoptic: Splits, tmp_path: Path, name: str
) -> None:
    for source, splits in (("coco", coco), ("panoptic", panoptic)):
        output = tmp_path / f"{source} as {name}"
        convert(splits, output, name)
        located = find_format(output)
        assert located.format.name == name
        assert set(located.found.splits) == {"train", "val"}
