import numpy as np
import pytest

from mask2former.data.annotations import (
    Instance,
    Instances,
    Layered,
    SegmentLabel,
    SegmentMap,
)
from mask2former.data.overlaps import join_layers, paint_classes, resolve_overlaps
from mask2former.masks.rle import encode_mask

SIZE = (4, 6)


def box(x: int, y: int, width: int, height: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def thing(mask: np.ndarray, class_id: int = 0, *, crowd: bool = False, track: int | None = None):
    # the file's own area is no matter: it may be of an outline, or wrong
    return Instance(class_id, encode_mask(mask), crowd, 1.0, track)


def instances(*items: Instance) -> Instances:
    return Instances(*SIZE, items)


def test_small_objects_lie_above_large_ones_and_crowds_below_all() -> None:
    small, large = thing(box(1, 1, 1, 1), 2), thing(box(0, 0, 4, 4), 0)
    crowd = thing(box(0, 0, 6, 1), 1, crowd=True)
    resolved = resolve_overlaps(instances(small, large, crowd))
    assert resolved.segments.ids.tolist() == [
        [2, 2, 2, 2, 3, 3],
        [2, 1, 2, 2, 0, 0],
        [2, 2, 2, 2, 0, 0],
        [2, 2, 2, 2, 0, 0],
    ]
    assert resolved.segments.segments == (
        SegmentLabel(1, 2),
        SegmentLabel(2, 0),
        SegmentLabel(3, 1, is_crowd=True),
    )


def test_what_objects_lose_is_counted_and_hidden_ones_are_gone() -> None:
    # the same box twice: the later lies above and hides the earlier
    resolved = resolve_overlaps(
        instances(thing(box(0, 0, 2, 2)), thing(box(0, 0, 2, 2)), thing(box(1, 1, 3, 3)))
    )
    assert resolved.areas == (4, 4, 9)
    assert resolved.lost == (4, 0, 1)
    assert [segment.id for segment in resolved.segments.segments] == [2, 3]


def test_polygons_are_painted_like_run_lengths() -> None:
    corners = np.array([[1.0, 1.0], [4.0, 1.0], [4.0, 3.0], [1.0, 3.0]])
    polygon = Instance(0, (corners,), False, 6.0)
    painted = resolve_overlaps(instances(polygon)).segments.ids
    np.testing.assert_array_equal(painted, box(1, 1, 3, 2))


def test_no_object_and_an_empty_one_leave_nothing() -> None:
    for objects in (instances(), instances(thing(box(0, 0, 0, 0)))):
        resolved = resolve_overlaps(objects)
        assert resolved.segments.segments == ()
        assert not resolved.segments.ids.any()


def test_tracks_name_the_segments_of_videos() -> None:
    tracked = instances(thing(box(0, 0, 1, 4), track=70_000), thing(box(3, 0, 1, 4), track=2))
    assert [s.id for s in resolve_overlaps(tracked).segments.segments] == [70_000, 2]
    half = instances(thing(box(0, 0, 1, 4), track=70_000), thing(box(3, 0, 1, 4)))
    assert [s.id for s in resolve_overlaps(half).segments.segments] == [1, 2]


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        ((0, 1), r"track id 0 cannot be a segment id; number the tracks from 1 to 16777215"),
        ((5, 5), r"two objects of one frame have track id 5; join them"),
    ],
)
def test_tracks_that_cannot_be_segments_are_named(tracks, message) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_overlaps(instances(*(thing(box(0, 0, 1, 1), track=t) for t in tracks)))


def test_classes_are_painted_and_the_rest_is_background_or_nothing() -> None:
    objects = instances(thing(box(0, 0, 3, 4), 4), thing(box(1, 1, 1, 1), 2, crowd=True))
    with_background = paint_classes(objects, 7)
    assert with_background.ids[0].tolist() == [5, 5, 5, 8, 8, 8]
    assert with_background.ids[1, 1] == 5  # a crowd lies below
    assert with_background.segments == (SegmentLabel(5, 4), SegmentLabel(8, 7))
    without = paint_classes(objects, None)
    assert without.ids[0].tolist() == [5, 5, 5, 0, 0, 0]
    assert without.segments == (SegmentLabel(5, 4),)


def test_ignored_regions_are_unlabelled_and_no_background() -> None:
    ignored = (encode_mask(box(2, 0, 3, 4)), (np.array([[5.0, 0], [6, 0], [6, 1], [5, 1]]),))
    objects = Instances(*SIZE, (thing(box(0, 0, 3, 4), 4),), ignored)
    painted = paint_classes(objects, 7)
    assert painted.ids[0].tolist() == [5, 5, 0, 0, 0, 0]
    assert painted.ids[1].tolist() == [5, 5, 0, 0, 0, 8]
    resolved = resolve_overlaps(objects)
    # neither an object nor, like id 0, a place where no object is
    assert resolved.segments.ids[0].tolist() == [1, 1, 2, 2, 2, 2]
    assert resolved.segments.ids[1].tolist() == [1, 1, 2, 2, 2, 0]
    assert resolved.segments.segments == (SegmentLabel(1, 4),)
    assert (resolved.areas, resolved.lost) == ((12,), (0,))


def test_an_object_that_lies_in_an_ignored_region_is_gone() -> None:
    objects = Instances(*SIZE, (thing(box(1, 1, 1, 1), track=1),), (encode_mask(box(0, 0, 4, 4)),))
    assert resolve_overlaps(objects).segments.segments == ()
    assert paint_classes(objects, None).segments == ()


# class 0 is stuff (road), 1 a thing (car), 2 stuff (sky, hidden by the car)
IS_THING = (False, True, False)
SEMANTIC = SegmentMap(
    np.array([[3, 2, 2, 1]], np.int32),
    (SegmentLabel(1, 0), SegmentLabel(2, 1), SegmentLabel(3, 2)),
)


def test_layers_give_objects_and_the_stuff_around_them() -> None:
    objects = SegmentMap(np.array([[9, 9, 0, 0]], np.int32), (SegmentLabel(9, 1),))
    joined = join_layers(Layered(objects, SEMANTIC), IS_THING)
    # pixel 2 is a car by its class only, so nobody knows which
    assert joined.ids.tolist() == [[9, 9, 0, 1]]
    assert joined.segments == (SegmentLabel(9, 1), SegmentLabel(1, 0))


def test_stuff_gets_ids_that_no_object_has_and_stuff_objects_are_left_out() -> None:
    objects = SegmentMap(
        np.array([[0, 1, 2, 2]], np.int32), (SegmentLabel(1, 1), SegmentLabel(2, 0))
    )
    joined = join_layers(Layered(objects, SEMANTIC), IS_THING)
    assert joined.segments[0] == SegmentLabel(1, 1)
    assert {(s.id, s.class_id) for s in joined.segments[1:]} == {(2, 0), (3, 2)}
    assert joined.ids.tolist() == [[3, 1, 0, 2]]


def test_layers_of_two_sizes_are_refused() -> None:
    objects = SegmentMap(np.zeros((2, 4), np.int32), ())
    with pytest.raises(ValueError, match=r"at size \(h, w\) = \(2, 4\) and the classes at \(1, 4"):
        join_layers(Layered(objects, SEMANTIC), IS_THING)
