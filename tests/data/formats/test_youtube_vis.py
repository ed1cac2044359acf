import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task
from mask2former.data.formats import coco_instance
from mask2former.data.formats.format import WHOLE, Reading
from mask2former.data.formats.youtube_vis import find, read
from mask2former.data.problems import Collected, Problems, Strict
from mask2former.masks.polygons import polygons_to_rle
from mask2former.masks.rle import decode_rle, encode_mask

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
SQUARE = [[1, 2, 4, 2, 4, 5, 1, 5]]
MASK = np.zeros((6, 9), bool)
MASK[2:5, 1:4] = True
COMPRESSED = {"size": [6, 9], "counts": encode_mask(MASK)["counts"].decode()}
# down the columns: 6 + 2 outside, 3 inside, 3 outside, 3, 3, 3, then 1 + 5 * 6 outside
UNCOMPRESSED = {"size": [6, 9], "counts": [8, 3, 3, 3, 3, 3, 31]}


def video(video_id: int | str, num_frames: int, **changes: object) -> dict:
    names = [f"v{video_id}/{i:05d}.jpg" for i in range(num_frames)]
    size = {"height": 6, "width": 9}
    return {"id": video_id, "file_names": names, "length": num_frames, **size} | changes


def track(track_id: int, *segmentations: object, **changes: object) -> dict:
    return {
        "id": track_id,
        "video_id": 1,
        "category_id": 3,
        "iscrowd": 0,
        "segmentations": list(segmentations),
        "areas": [None if s is None else 9 for s in segmentations],
    } | changes


def content(*tracks: object, videos: list | None = None) -> dict:
    videos = [video(1, 3), video(2, 1)] if videos is None else videos
    return {"videos": videos, "annotations": list(tracks), "categories": CATEGORIES}


def write(
    folder: Path, data: dict, *, file: str = "train.json", frames: str = "JPEGImages"
) -> Path:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(data))
    for entry in data["videos"]:
        for name in entry.get("file_names") or []:
            (folder / frames / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 6)).save(folder / frames / name)
    return folder


def read_split(folder: Path, split: str = "train", problems: Problems | None = None) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(problems or Strict()))


def objects(dataset: Dataset, index: int) -> Instances:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, Instances)
    return annotations


def test_every_frame_is_a_record_of_its_video(tmp_path: Path) -> None:
    dataset = read_split(write(tmp_path, content(track(5, COMPRESSED, None, COMPRESSED))))
    assert [(r.image_id, r.group, r.frame) for r in dataset.records] == [
        ("1/0", "1", 0),
        ("1/1", "1", 1),
        ("1/2", "1", 2),
        ("2/0", "2", 0),
    ]
    assert dataset.records[1].image == tmp_path / "JPEGImages" / "v1" / "00001.jpg"
    assert {(r.height, r.width) for r in dataset.records} == {(6, 9)}
    assert dataset.classes.category_ids == (7, 3)
    assert dataset.classes.is_thing == (True, True)
    assert dataset.tasks == ("instance", "panoptic", "semantic")


def test_objects_are_on_the_frames_that_have_a_mask_of_them(tmp_path: Path) -> None:
    tracks = [track(5, COMPRESSED, None, SQUARE), track(9, None, [], UNCOMPRESSED, iscrowd=1)]
    dataset = read_split(write(tmp_path, content(*tracks)))
    by_frame = [
        [(i.track_id, i.class_id, i.is_crowd) for i in objects(dataset, f).items] for f in range(4)
    ]
    assert by_frame == [[(5, 1, False)], [], [(5, 1, False), (9, 1, True)], []]
    assert [r.num_objects for r in dataset.records] == [1, 0, 1, 0]


def test_boxes_are_those_of_their_frames(tmp_path: Path) -> None:
    boxes = [[1, 2, 3, 3.5], None, None]
    tracks = [
        track(5, COMPRESSED, None, SQUARE, bboxes=boxes),
        track(6, COMPRESSED, None, None, bboxes=boxes[:2]),
        track(7, COMPRESSED, None, None, bboxes=None),
    ]
    dataset = read_split(write(tmp_path, content(*tracks)))
    assert [item.box for item in objects(dataset, 0).items] == [(1.0, 2.0, 3.0, 3.5), None, None]
    assert [item.box for item in objects(dataset, 2).items] == [None]


@pytest.mark.parametrize("form", [COMPRESSED, UNCOMPRESSED, SQUARE])
def test_masks_are_read_in_every_form(tmp_path: Path, form: list | dict) -> None:
    dataset = read_split(write(tmp_path, content(track(1, form, None, None))))
    (item,) = objects(dataset, 0).items
    rle = item.mask if isinstance(item.mask, dict) else polygons_to_rle(item.mask, 6, 9)
    np.testing.assert_array_equal(decode_rle(rle), MASK)
    assert item.area == 9


def test_areas_that_are_not_given_are_counted(tmp_path: Path) -> None:
    without = track(1, SQUARE, COMPRESSED, None)
    del without["areas"]
    dataset = read_split(
        write(tmp_path, content(without, track(2, SQUARE, None, None, areas=[4.5, None, None])))
    )
    assert [item.area for item in objects(dataset, 0).items] == [9, 4.5]
    assert objects(dataset, 1).items[0].area == 9


@pytest.mark.parametrize(
    ("file", "frames", "split"),
    [
        ("train.json", "train/JPEGImages", "train"),
        ("valid.json", "valid/JPEGImages", "valid"),
        ("valid.json", "JPEGImages", "valid"),
        ("train/instances.json", "train/JPEGImages", "train"),
        ("annotations/instances_train_sub.json", "train/JPEGImages", "train"),
        ("annotations/instances_val_sub.json", "valid/JPEGImages", "val"),
        ("annotations_train.json", "train", "train"),
        ("annotations_valid.json", "valid", "valid"),
        ("instances.json", "JPEGImages", WHOLE),
        ("instances_ytvis.json", ".", WHOLE),
    ],
)
def test_layouts_are_found(tmp_path: Path, file: str, frames: str, split: str) -> None:
    write(tmp_path, content(track(1, SQUARE, None, None)), file=file, frames=frames)
    found = find(tmp_path)
    assert found is not None
    assert found.splits == {split: tmp_path / file}
    dataset = read_split(tmp_path, split)
    assert dataset.records[3].image == tmp_path / frames / "v2" / "00000.jpg"
    assert coco_instance.find(tmp_path) is None


def test_files_of_single_images_are_not_of_this_format(tmp_path: Path) -> None:
    data = {"images": [], "annotations": [], "categories": CATEGORIES}
    for name in ("train.json", "instances.json"):
        (tmp_path / name).write_text(json.dumps(data))
    assert find(tmp_path) is None


@pytest.mark.parametrize("annotations", [None, []])
def test_a_file_without_annotations_opens_and_serves_no_task(
    tmp_path: Path, annotations: list | None
) -> None:
    write(tmp_path, content(track(1, SQUARE, None, None)))
    write(tmp_path, content() | {"annotations": annotations}, file="valid.json")
    dataset = read_split(tmp_path, "valid")
    assert len(dataset) == 4
    assert objects(dataset, 0).items == ()
    assert dataset.records[0].num_objects is None
    assert dataset.tasks == ()
    assert "There are no annotations in valid.json, as in the splits" in dataset.notes[0]
    assert read_split(tmp_path, "train").tasks
    message = r"split 'valid' of .* has no annotations; it can be predicted, not trained or scored"
    with pytest.raises(ValueError, match=message):
        for_task(dataset, "instance")


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        ([track(4, SQUARE, None)], "annotation 4 has 2 segmentations but video 1 has 3 frames"),
        ([track(4, None, None, SQUARE, areas=[1])], "annotation 4 has 1 areas but video 1 has 3"),
        ([track(4, None, None, SQUARE, video_id=8)], "annotation 4 is for video id 8, which 'vid"),
        ([track(4, None, None, SQUARE, category_id=5)], "annotation 4 has category id 5, but the "),
        ([track(4, SQUARE, None, None)] * 2, "annotation 4 occurs twice; give each track its own"),
        ([track(4, None, [[1, 2, 3]], None)], "annotation 4, frame 1, has a polygon of 3 numbers"),
        (
            [track(4, None, None, {"size": [9, 6], "counts": [54]})],
            "annotation 4, frame 2, has run",
        ),
        ([track(4, None, None, None, segmentations=None)], "annotation 4 has no list 'segmentati"),
        ([{"video_id": 1}], "annotation None has no whole number as 'id'; number the tracks"),
    ],
)
def test_wrong_track_is_named_with_its_file(
    tmp_path: Path, tracks: list[dict], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"train\.json: {message}"):
        read_split(write(tmp_path, content(*tracks)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 3}, "video 2 has the length 3 but 1 file_names; make the two agree"),
        ({"file_names": []}, "video 2 has no list of file_names, one a frame"),
        ({"height": "tall"}, r"video 2 has the size \(h, w\) = \('tall', 9\), which are no"),
        ({"id": 1}, "video 1 occurs twice; give each video its own id"),
        ({"id": None}, "video None has an id that is neither a number nor a text"),
    ],
)
def test_wrong_video_is_named_with_its_file(tmp_path: Path, changes: dict, message: str) -> None:
    videos = [video(1, 3), video(2, 1) | changes]
    with pytest.raises(ValueError, match=rf"train\.json: {message}"):
        read_split(write(tmp_path, content(videos=videos)))


def test_missing_frames_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, content(track(1, SQUARE, None, None)))
    (folder / "JPEGImages/v1/00001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"v1/00001\.jpg is not in .*1 of its 4 files are"):
        read_split(folder)


def test_every_fault_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    videos = [video(1, 3), video(2, 1), video(2, 1), video(3, 2, length=5), "video"]
    tracks = [
        track(1, SQUARE, None, SQUARE),
        track(2, SQUARE),
        track(3, SQUARE, None, None, video_id=3),
        track(4, SQUARE, None, None, category_id=None),
        track(1, SQUARE, None, None),
        track(5, [[1, 2, 3, 4]], {"size": [6, 9], "counts": [50]}, SQUARE),
        "track",
    ]
    folder = write(tmp_path, content(*tracks, videos=videos[:-1]))
    (folder / "train.json").write_text(json.dumps(content(*tracks, videos=videos)))
    (folder / "JPEGImages/v1/00001.jpg").unlink()
    problems = Collected()
    dataset = read_split(folder, problems=problems)
    assert [(p.kind, p.image_id) for p in problems.found if p.is_error] == [
        ("duplicate id", None),
        ("size mismatch", None),
        ("unreadable annotation", None),
        ("missing image", "1/1"),
        ("size mismatch", None),
        ("annotation without image", None),
        ("unknown class", None),
        ("duplicate id", None),
        ("bad run lengths", "1/1"),
        ("unreadable annotation", None),
    ]
    assert [p.kind for p in problems.found if not p.is_error] == ["degenerate polygon"]
    # frames keep their positions when one between them is missing
    assert [(r.image_id, r.frame, r.num_objects) for r in dataset.records] == [
        ("1/0", 0, 1),
        ("1/2", 2, 2),
        ("2/0", 0, 0),
    ]


def test_frames_that_no_video_names_are_a_warning(tmp_path: Path) -> None:
    folder = write(tmp_path, content(track(1, SQUARE, None, None)))
    (folder / "JPEGImages/v1/00003.jpg").touch()
    problems = Collected()
    read_split(folder, problems=problems)
    (problem,) = problems.found
    assert (problem.kind, problem.is_error) == ("image without annotation", False)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, content(track(1, SQUARE, None, None)))
    found = find(folder)
    assert found is not None
    path = folder / "train.json"
    path.write_text(json.dumps({"categories": CATEGORIES}))
    with pytest.raises(ValueError, match=r"train\.json has no list 'videos'"):
        read(folder, "train", found, Reading())
    path.write_text(json.dumps(content(videos=[])))
    with pytest.raises(ValueError, match="lists no videos"):
        read(folder, "train", found, Reading())


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = read_split(write(tmp_path, content(track(5, SQUARE, None, None))))
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert objects(copy, 0).items[0].track_id == 5


# (folder, split, videos, frames, masks, tracks): from the samples' own README, and for the objects
# of pan_clips counted with a few lines of json
COUNTS = [
    ("davis_video", "train", 2, 24, 24, 2),
    ("davis_video", "valid", 2, 24, 24, 2),
    ("caps_video", WHOLE, 1, 5, 8, 2),
    ("pan_clips", "train", 3, 18, None, None),
    ("pan_clips", "valid", 2, 12, None, None),
    ("labelme_video", WHOLE, 1, 5, 10, 2),
]


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize(("name", "split", "videos", "frames", "masks", "tracks"), COUNTS)
def test_real_videos_have_the_counts_that_are_known(
    name: str, split: str, videos: int, frames: int, masks: int | None, tracks: int | None
) -> None:
    dataset = read_split(SAMPLES / name, split)
    items = [item for i in range(len(dataset)) for item in objects(dataset, i).items]
    assert len({record.group for record in dataset.records}) == videos
    assert len(dataset) == frames
    found = find(SAMPLES / name)
    assert found is not None
    given = json.loads(found.splits[split].read_text())["annotations"]
    assert len(items) == sum(s is not None for a in given for s in a["segmentations"])
    assert len({item.track_id for item in items}) == len(given)
    if masks is not None:
        assert (len(items), len(given)) == (masks, tracks)
    areas = [area for annotation in given for area in annotation["areas"] if area is not None]
    assert sorted(item.area for item in items) == sorted(areas)
    masks_of = [decode_rle(item.mask) for item in items if isinstance(item.mask, dict)]
    assert sorted(int(mask.sum()) for mask in masks_of) == sorted(areas)
