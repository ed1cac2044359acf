import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mask2former.data.annotations import (
    Annotations,
    Instance,
    Instances,
    SegmentLabel,
    SegmentMap,
)
from mask2former.data.dataset import Record, TaskDataset
from mask2former.data.merging import merge_datasets, tell_unshared
from mask2former.types import Classes

CATS = Classes(("cat", "dog"), (1, 2), (True, True))
DOGS = Classes(("dog", "cow", "grass"), (1, 2, 7), (True, True, False))


def read_segments(record: Record) -> Annotations:
    """One segment of each class, as many as the record says."""
    labels = tuple(SegmentLabel(10 * (c + 1), c) for c in range(record.annotation))
    return SegmentMap(np.array([[10, 20, 30]], np.int32), labels)


def read_objects(record: Record) -> Annotations:
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]])
    items = (Instance(c, (square,), False, 2.0, track_id=c + 5) for c in range(record.annotation))
    return Instances(2, 3, tuple(items))


def dataset(folder: str, classes: Classes, count: int, decode=read_segments) -> TaskDataset:
    records = [
        Record(i, Path(folder) / f"{i}.jpg", len(classes), 1, 3, group="clip" if i else None)
        for i in range(count)
    ]
    return TaskDataset(
        "fake", Path(folder), "train", classes, ("panoptic",), records, decode, (f"of {folder}",)
    )


def test_classes_of_one_name_are_one_and_ids_stay_where_they_are_free() -> None:
    merged = merge_datasets([dataset("a", CATS, 1), dataset("b", DOGS, 1)])
    # cow's id 2 is that of dog already
    assert merged.classes == Classes(
        ("cat", "dog", "cow", "grass"), (1, 2, 3, 7), (True, True, True, False)
    )


def test_every_image_is_there_and_read_as_in_its_own_data_set() -> None:
    merged = merge_datasets([dataset("a", CATS, 2), dataset("b", DOGS, 3, read_objects)])
    assert len(merged) == 5
    decode = pickle.loads(pickle.dumps(merged.decode))  # noqa: S301 our own bytes
    records = pickle.loads(pickle.dumps(merged.records))  # noqa: S301
    cat, cow = decode(records[1]), decode(records[-1])
    assert isinstance(cat, SegmentMap)
    assert cat.segments == (SegmentLabel(10, 0), SegmentLabel(20, 1))
    assert isinstance(cow, Instances)
    assert [(item.class_id, item.track_id) for item in cow.items] == [(1, 5), (2, 6), (3, 7)]
    assert [r.image.parent.name for r in records[1:4]] == ["a", "b", "b"]
    with pytest.raises(IndexError, match="record 5 of 5"):
        merged.records[5]


def test_image_ids_and_groups_stay_apart() -> None:
    merged = merge_datasets([dataset("a", CATS, 2), dataset("b", CATS, 2)])
    assert [record.image_id for record in merged.records] == ["a/0", "a/1", "b/0", "b/1"]
    assert [record.group for record in merged.records] == [None, "a/clip", None, "b/clip"]
    same = merge_datasets([dataset("x/set", CATS, 1), dataset("y/set", CATS, 1)])
    assert [record.image_id for record in same.records] == ["1-set/0", "2-set/0"]


def test_notes_say_whose_they_are_and_come_once() -> None:
    merged = merge_datasets([dataset("a", CATS, 1), dataset("b", DOGS, 1)])
    assert merged.notes == (
        "a: of a",
        "b: of b",
    )
    sets = [dataset("a", CATS, 1), dataset("b", CATS, 1), dataset("c", CATS, 1)]
    same = [replace(one, notes=("255 is ignored", *one.notes[i:])) for i, one in enumerate(sets)]
    assert merge_datasets(same).notes == ("255 is ignored", "a: of a")


def test_classes_that_some_data_sets_lack_are_told_once() -> None:
    several = [dataset("a", CATS, 1), dataset("b", DOGS, 1)]
    assert tell_unshared(several) == (
        "3 classes are annotated in one folder only; their objects in the others are taken as "
        "background: cat, cow, grass"
    )
    assert tell_unshared([several[0]] * 2) is None
    with_background = Classes((*CATS.names, "_background_"), (1, 2, 3), (True, True, False))
    assert tell_unshared([several[0], dataset("c", with_background, 1)]) is None


def test_one_data_set_stays_what_it_is() -> None:
    alone = dataset("a", CATS, 1)
    assert merge_datasets([alone]) is alone


def test_names_that_repeat_are_matched_in_order() -> None:
    twice = Classes(("pole", "pole"), (4, 9), (False, False))
    merged = merge_datasets([dataset("a", twice, 1), dataset("b", twice, 1)])
    assert merged.classes == twice
    last = merged.annotations(1)
    assert isinstance(last, SegmentMap)
    assert [segment.class_id for segment in last.segments] == [0, 1]


def test_a_class_that_is_thing_and_stuff_is_refused() -> None:
    stuff = Classes(("dog",), (1,), (False,))
    message = r"class 'dog' is a thing in a and stuff in b; make it the same in both, or give one"
    with pytest.raises(ValueError, match=message):
        merge_datasets([dataset("a", CATS, 1), dataset("b", stuff, 1)])


@pytest.mark.parametrize("first", [0, 1])
def test_what_is_a_thing_does_not_matter_for_semantic_segmentation(first: int) -> None:
    stuff = Classes(("dog",), (1,), (False,))
    things = replace(dataset("a", CATS, 1), tasks=("semantic",))
    others = replace(dataset("b", stuff, 1), tasks=("semantic",))
    merged = merge_datasets([things, others][:: 1 - 2 * first])
    assert sorted(merged.classes.names) == ["cat", "dog"]
    assert merged.classes.is_thing[merged.classes.names.index("dog")] is (first == 0)


def test_names_are_one_class_however_they_are_written() -> None:
    ours = Classes(("background", "traffic_light"), (0, 1), (False, True))
    theirs = Classes(("Traffic light", "_background_"), (1, 5), (True, False))
    merged = merge_datasets([dataset("a", ours, 1), dataset("b", theirs, 1)])
    assert merged.classes == ours
    last = merged.annotations(1)
    assert isinstance(last, SegmentMap)
    assert [segment.class_id for segment in last.segments] == [1, 0]
