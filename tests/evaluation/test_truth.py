"""What results are compared with, where a data set says it in several ways."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instance, Instances, Layered, SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.derive import for_task
from mask2former.evaluation.truth import merge_scored, scored_images
from mask2former.masks.rle import encode_mask, rle_area
from mask2former.types import Classes

CLASSES = Classes(("sky", "ball"), (4, 9), (False, True))
THINGS = Classes(("ball",), (9,), (True,))
SKY, BALL = 0, 1


def record(image_id: int = 1) -> Record:
    return Record(image_id, Path(f"{image_id}.png"), None, 4, 6)


def ball(top: int, height: int, is_crowd: bool = False, class_id: int = 0) -> Instance:
    mask = np.zeros((4, 6), bool)
    mask[top : top + height] = True
    return Instance(class_id, encode_mask(mask), is_crowd, float(mask.sum()))


def layered(_: Record) -> Layered:
    """A ball in the first row; the map of classes has balls in two rows."""
    objects = SegmentMap(
        np.repeat([[7], [0], [0], [0]], 6, axis=1).astype(np.int32), (SegmentLabel(7, BALL),)
    )
    semantic = SegmentMap(
        np.repeat([[2], [2], [1], [0]], 6, axis=1).astype(np.int32),
        (SegmentLabel(1, SKY), SegmentLabel(2, BALL)),
    )
    return Layered(objects, semantic)


def overlapping(_: Record) -> Instances:
    return Instances(4, 6, (ball(0, 3), ball(2, 2)))


def segments(_: Record) -> SegmentMap:
    ids = np.repeat([[1], [1], [2], [0]], 6, axis=1).astype(np.int32)
    return SegmentMap(ids, (SegmentLabel(1, SKY), SegmentLabel(2, BALL)))


def dataset(decode, classes=CLASSES, tasks=("panoptic", "semantic", "instance"), count=1):
    records = [record(i + 1) for i in range(count)]
    return Dataset("fake", Path("fakes"), "val", classes, tasks, records, decode)


def test_layers_are_scored_each_by_its_own() -> None:
    truth = scored_images(dataset(layered), "panoptic").truth(0)
    # the panoptic map lacks the second row, which no object covers; the map of classes has it
    ids, labels = truth.panoptic_map
    by_id = {label.id: label.class_id for label in labels}
    assert [by_id.get(value) for value in ids[:, 0].tolist()] == [BALL, None, SKY, None]
    assert truth.semantic_map[:, 0].tolist() == [BALL, BALL, SKY, -1]
    assert [(o.class_id, rle_area(o.rle)) for o in truth.objects] == [(0, 6)]
    assert truth.classes["instance"] == THINGS
    assert truth.size == (4, 6)


def test_objects_are_compared_whole_and_segments_without_overlaps() -> None:
    tasks = ("instance", "panoptic", "semantic")
    images = scored_images(dataset(overlapping, THINGS, tasks), "panoptic")
    truth = images.truth(0)
    assert [rle_area(o.rle) for o in truth.objects] == [18, 12]
    ids, _ = truth.panoptic_map
    assert np.unique(ids).size == 2
    # nobody scores what lies around objects as a class of its own
    assert images.classes["semantic"] == THINGS
    assert np.unique(truth.semantic_map).tolist() == [0]


def test_segments_serve_all_three_tasks() -> None:
    images = scored_images(dataset(segments), "panoptic")
    assert list(images.datasets) == ["panoptic", "instance", "semantic"]
    truth = images.truth(0)
    assert truth.semantic_map[:, 0].tolist() == [SKY, SKY, BALL, -1]
    assert [rle_area(o.rle) for o in truth.objects] == [6]


def test_what_was_made_for_a_task_can_be_scored_for_it() -> None:
    images = scored_images(for_task(dataset(segments), "panoptic"), "panoptic")
    assert images.truth(0).semantic_map[:, 0].tolist() == [SKY, SKY, BALL, -1]
    alone = scored_images(for_task(dataset(segments), "semantic"), "semantic")
    assert list(alone.datasets) == ["semantic"]


def test_without_things_there_are_no_objects_to_score() -> None:
    stuff = Classes(("sky", "ball"), (4, 9), (False, False))
    images = scored_images(dataset(segments, stuff), "panoptic")
    assert list(images.datasets) == ["panoptic", "semantic"]


def test_each_image_is_read_once_for_all_tasks() -> None:
    read = []

    def counted(record: Record) -> SegmentMap:
        read.append(record.image_id)
        return segments(record)

    images = scored_images(dataset(counted, count=3), "panoptic")
    read.clear()
    for index in (1, 2):
        images.truth(index)
    assert read == [2, 3]


def test_two_images_of_one_id_are_refused() -> None:
    twice = dataset(segments, count=3)
    twice.records[2:] = [Record(1, Path("again.png"), None, 4, 6)]
    with pytest.raises(
        ValueError,
        match=r"has image id 1 twice, as 1\.png and as again\.png; give each image its own",
    ):
        scored_images(twice, "panoptic")


def test_several_data_sets_are_one(tmp_path: Path) -> None:
    parts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (6, 4)).save(tmp_path / name / "1.png")
        part = dataset(segments)
        parts.append(
            scored_images(Dataset(**{**vars(part), "folder": tmp_path / name}), "panoptic")
        )
    merged = merge_scored(parts)
    assert len(merged) == 2
    assert [merged.truth(i).image_id for i in (0, 1)] == ["a/1", "b/1"]
    assert merged.truth(1).semantic_map[:, 0].tolist() == [SKY, SKY, BALL, -1]
    assert [rle_area(o.rle) for o in merged.truth(0).objects] == [6]


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split val of fakes has no images; evaluate another"):
        scored_images(dataset(segments, count=0), "semantic")
