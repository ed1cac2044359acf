import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mask2former.data.annotations import (
    Annotations,
    AsRead,
    Instance,
    Instances,
    Layered,
    SegmentLabel,
    SegmentMap,
)
from mask2former.data.dataset import Dataset, Record, TaskDataset
from mask2former.data.derive import (
    OVERLAP_NOTE,
    background_of,
    for_task,
    instance_rles,
    panoptic_map,
    semantic_map,
    with_background,
)
from mask2former.masks.rle import decode_rle, encode_mask
from mask2former.types import Classes

# sky, two birds (one a crowd), grass, a cow; 9 is in no list
IDS = np.array([[80_000, 80_000, 5, 5, 6], [9, 700, 700, 5, 6], [9, 700, 30, 30, 30]], np.int32)
SEGMENTS = (
    SegmentLabel(30, 3),
    SegmentLabel(5, 1),
    SegmentLabel(80_000, 0),
    SegmentLabel(6, 1, is_crowd=True),
    SegmentLabel(700, 2),
)
CLASSES = Classes(("sky", "bird", "grass", "cow"), (11, 4, 8, 2), (False, True, False, True))
SQUARE = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 2.0], [1.0, 2.0]])
OBJECTS = Instances(
    3,
    5,
    (
        Instance(1, (SQUARE,), False, 4.5),
        Instance(0, encode_mask(np.array(IDS == 700)), True, 3.0),
    ),
)


def read_panoptic(record: Record) -> SegmentMap:
    return SegmentMap(IDS, SEGMENTS)


def dataset(classes: Classes = CLASSES, *tasks) -> Dataset:
    tasks = tasks or ("panoptic", "semantic", "instance")
    records = [Record(0, Path("a.jpg"), None)]
    return Dataset("fake", Path("somewhere"), "train", classes, tasks, records, read_panoptic)


@dataclass(frozen=True)
class Gives:
    """A decoder."""

    annotations: AsRead

    def __call__(self, record: Record) -> AsRead:  # noqa: ARG002 a fake
        return self.annotations


def objects(annotations: AsRead = OBJECTS, names: tuple[str, ...] = ("cow", "bird")) -> Dataset:
    classes = Classes(names, tuple(range(len(names))), (True,) * len(names))
    tasks = ("instance", "panoptic", "semantic")
    records = [Record(0, Path("a.jpg"), None)]
    return Dataset("fake", Path("farm"), "train", classes, tasks, records, Gives(annotations))


def segment_map(annotations: Annotations) -> SegmentMap:
    assert isinstance(annotations, SegmentMap)
    return annotations


def test_the_natural_task_leaves_annotations_as_they_are() -> None:
    derived = for_task(dataset(), "panoptic")
    assert derived.tasks == ("panoptic",)
    assert derived.annotations(0) == SegmentMap(IDS, SEGMENTS)


def test_semantic_merges_the_segments_of_a_class_and_crowds() -> None:
    derived = for_task(dataset(), "semantic")
    assert derived.classes == CLASSES
    annotations = segment_map(derived.annotations(0))
    assert sorted(segment.class_id for segment in annotations.segments) == [0, 1, 2, 3]
    assert not any(segment.is_crowd for segment in annotations.segments)
    # -1 where the id is in no list
    expected = [[0, 0, 1, 1, 1], [-1, 2, 2, 1, 1], [-1, 2, 3, 3, 3]]
    assert semantic_map(annotations, 4).tolist() == expected


def test_instance_keeps_things_numbers_them_anew_and_keeps_crowds() -> None:
    derived = for_task(dataset(), "instance")
    assert derived.classes == Classes(("bird", "cow"), (4, 2), (True, True))
    assert derived.tasks == ("instance",)
    annotations = segment_map(derived.annotations(0))
    assert annotations.segments == (
        SegmentLabel(30, 1),
        SegmentLabel(5, 0),
        SegmentLabel(6, 0, is_crowd=True),
    )


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_deriving_twice_changes_nothing(task) -> None:
    once = for_task(dataset(), task)
    assert for_task(once, task) == once


def test_objects_become_classes_and_the_rest_background() -> None:
    derived = for_task(objects(), "semantic")
    # ids 0 and 1 are taken
    assert derived.classes == Classes(("cow", "bird", "background"), (0, 1, 2), (True, True, False))
    # the bird is the square, the crowd of cows lies below
    expected = [[2, 1, 1, 2, 2], [2, 1, 1, 2, 2], [2, 0, 2, 2, 2]]
    assert semantic_map(derived.annotations(0), 3).tolist() == expected
    assert derived.notes[-2:] == (
        OVERLAP_NOTE,
        "pixels of no object are class 'background' (category id 2), which was added",
    )


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_overlaps_are_told_of_objects_and_not_of_maps(task) -> None:
    assert OVERLAP_NOTE in for_task(objects(), task).notes
    numbered = SegmentMap(np.array([[0, 1]], np.int32), (SegmentLabel(1, 1),))
    assert OVERLAP_NOTE not in for_task(objects(numbered), task).notes


@pytest.mark.parametrize("name", [" background ", "_background_", "Background", "__background"])
def test_the_background_is_known_however_it_is_written(name: str) -> None:
    classes = Classes(("cow", name), (0, 1), (True, True))
    assert background_of(classes) == 1
    assert with_background(classes) is classes


def test_a_background_class_that_is_there_is_used() -> None:
    derived = for_task(objects(names=("cow", "bird", "_Background_")), "semantic")
    assert derived.classes.names == ("cow", "bird", "_Background_")
    assert semantic_map(derived.annotations(0), 3)[0, 0] == 2
    assert "added" not in derived.notes[-1]


def test_background_of_numbered_objects_is_0_and_other_values_stay_unlabelled() -> None:
    ids = np.array([[0, 1, 255]], np.int32)
    derived = for_task(objects(SegmentMap(ids, (SegmentLabel(1, 1),))), "semantic")
    assert semantic_map(derived.annotations(0), 3).tolist() == [[2, 1, -1]]


def test_objects_become_segments_and_the_rest_stays_unlabelled() -> None:
    derived = for_task(objects(), "panoptic")
    assert derived.classes == objects().classes
    ids, segments = panoptic_map(derived.annotations(0))
    assert ids.tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 2, 0, 0, 0]]
    assert segments == (SegmentLabel(1, 1), SegmentLabel(2, 0, is_crowd=True))
    assert derived.notes[-1].endswith("pixels of no object are unlabelled")


def test_a_segment_that_cannot_be_is_named_with_its_image() -> None:
    items = tuple(replace(item, track_id=0) for item in OBJECTS.items)
    derived = for_task(objects(replace(OBJECTS, items=items)), "panoptic")
    with pytest.raises(ValueError, match=r"image 0 \(a\.jpg\): track id 0 cannot be a segment id"):
        derived.annotations(0)


# grass and a cow that no object is drawn for; a bird above it all
LAYERS = Layered(
    replace(OBJECTS, items=OBJECTS.items[:1]),
    SegmentMap(
        np.array([[3] * 5, [3] * 5, [4] * 5], np.int32), (SegmentLabel(3, 2), SegmentLabel(4, 3))
    ),
)


def layered(*tasks) -> Dataset:
    return replace(dataset(CLASSES, *tasks), decode=Gives(LAYERS))


@pytest.mark.parametrize("natural", ["panoptic", "semantic", "instance"])
def test_each_task_takes_its_layer(natural) -> None:
    tasks = (natural, "panoptic", "semantic", "instance")
    things = for_task(layered(*tasks), "instance")
    assert things.classes.names == ("bird", "cow")
    found = things.annotations(0)
    assert isinstance(found, Instances)
    assert [item.class_id for item in found.items] == [0]
    semantic = for_task(layered(*tasks), "semantic")
    assert semantic.classes == CLASSES
    assert semantic_map(semantic.annotations(0), 4)[:, 0].tolist() == [2, 2, 3]
    ids, segments = panoptic_map(for_task(layered(*tasks), "panoptic").annotations(0))
    assert [(s.id, s.class_id) for s in segments] == [(1, 1), (2, 2)]
    assert ids.tolist() == [[2, 1, 1, 2, 2], [2, 1, 1, 2, 2], [0] * 5]


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_derived_data_sets_never_give_layers_and_can_be_sent_to_workers(task) -> None:
    for source in (layered(), objects(), dataset()):
        derived = for_task(source, task)
        assert isinstance(derived, TaskDataset)
        again = pickle.loads(pickle.dumps(derived.decode))  # noqa: S301 our own bytes
        assert not isinstance(again(derived.records[0]), Layered)


def test_derived_from_derived_is_refused() -> None:
    with pytest.raises(ValueError, match="annotated for semantic, not for instance"):
        for_task(for_task(dataset(), "semantic"), "instance")


def test_task_that_annotations_cannot_serve_is_refused() -> None:
    message = r"somewhere \(fake\) is annotated for semantic, not for panoptic; choose one of"
    with pytest.raises(ValueError, match=message):
        for_task(dataset(CLASSES, "semantic"), "panoptic")


def test_instances_without_things_are_refused() -> None:
    stuff = Classes(("sky",), (1,), (False,))
    with pytest.raises(ValueError, match="somewhere has no thing classes; instance segmentation"):
        for_task(dataset(stuff), "instance")


def test_panoptic_map_is_0_where_nothing_is_listed() -> None:
    ids, segments = panoptic_map(SegmentMap(IDS, SEGMENTS))
    np.testing.assert_array_equal(ids, np.where(IDS == 9, 0, IDS))
    assert ids.dtype == np.int32
    assert segments == SEGMENTS


def test_instances_of_an_id_map_have_counted_areas() -> None:
    rles = instance_rles(SegmentMap(IDS, SEGMENTS))
    assert [(c, crowd, area) for c, _, crowd, area, _ in rles] == [
        (3, False, 3.0),
        (1, False, 3.0),
        (0, False, 2.0),
        (1, True, 2.0),
        (2, False, 3.0),
    ]
    np.testing.assert_array_equal(decode_rle(rles[1][1]), IDS == 5)


def test_instances_of_objects_keep_the_areas_of_the_file() -> None:
    rles = instance_rles(OBJECTS)
    assert [(c, crowd, area) for c, _, crowd, area, _ in rles] == [(1, False, 4.5), (0, True, 3.0)]
    square = np.zeros((3, 5), bool)
    square[:2, 1:3] = True
    np.testing.assert_array_equal(decode_rle(rles[0][1]), square)
    np.testing.assert_array_equal(decode_rle(rles[1][1]), IDS == 700)


def test_boxes_of_objects_are_the_files_else_those_of_the_masks() -> None:
    box = (1.25, 0.0, 1.5, 2.0)
    with_box = replace(OBJECTS, items=(replace(OBJECTS.items[0], box=box), *OBJECTS.items[1:]))
    rows, columns = np.nonzero(IDS == 700)
    tight = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert [item.box for item in instance_rles(OBJECTS)] == [(1, 0, 2, 2), tight]
    assert [item.box for item in instance_rles(with_box)] == [box, tight]
    assert (
        instance_rles(SegmentMap((IDS == 700).astype(np.int32), (SegmentLabel(1, 0),)))[0].box
        == tight
    )


@pytest.mark.parametrize("view", [lambda a: semantic_map(a, 4), panoptic_map])
def test_overlapping_objects_are_no_map(view) -> None:
    with pytest.raises(ValueError, match="objects that may overlap, not one segment a pixel; eval"):
        view(OBJECTS)


def test_class_beyond_the_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"class id 3 is not in 0\.\.2; evaluate with the classes"):
        semantic_map(SegmentMap(IDS, SEGMENTS), 3)
