"""What `convert` refuses, tells, and leaves behind."""

import errno
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from mask2former.data.annotations import Instance, Instances
from mask2former.data.convert import WRITERS, Converted, convert
from mask2former.data.dataset import Dataset, Record
from mask2former.data.derive import UNLABELLED_NOTE
from mask2former.data.images import read_image
from mask2former.data.open import open_every_split
from mask2former.data.sources import FileSlice
from mask2former.data.synthetic import write_synthetic
from mask2former.types import Classes

Splits = dict[str, Dataset]
Opened = Callable[[Path, str], Splits]
NAMES = [writer.name for writer in WRITERS]
SQUARE = (np.array([[1.0, 1.0], [4.0, 1.0], [4.0, 3.0], [1.0, 3.0]]),)


def kinds(converted: Converted) -> dict[str, int]:
    return {loss.kind: loss.count for loss in converted.losses}


def decode_square(record: Record) -> Instances:
    track_id = None if record.frame is None else 5
    return Instances(*record.annotation, (Instance(0, SQUARE, False, 6.0, track_id),))


def squares(records: list[Record], split: str = "train") -> Splits:
    """A data set that has one square on every image."""
    classes = Classes(("square",), (1,), (True,))
    tasks = ("instance", "panoptic", "semantic")
    return {split: Dataset("own", Path("own"), split, classes, tasks, records, decode_square)}


def image_record(path: Path, **fields) -> Record:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5)).save(path)
    return Record(image_id=path.stem, image=path, annotation=(5, 6), **fields)


def test_a_folder_that_holds_something_is_refused(coco: Splits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"coco is not empty; give a new folder"):
        convert(coco, tmp_path / "coco", "yolo")
    (tmp_path / "file").touch()
    for name, message in (("file", "file is a file; give"), ("file/out", "file is a file; give")):
        with pytest.raises(ValueError, match=message):
            convert(coco, tmp_path / name, "yolo")
    (tmp_path / "empty").mkdir()
    assert convert(coco, tmp_path / "empty", "yolo").num_images == {"train": 2, "val": 1}


def test_links_to_folders_are_followed(coco: Splits, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "yet to be made"):
        (tmp_path / f"link to {name}").symlink_to(tmp_path / name)
        convert(coco, tmp_path / f"link to {name}", "yolo")
        assert (tmp_path / f"link to {name}").is_symlink()
        assert (tmp_path / name / "data.yaml").is_file()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(ValueError, match=r"cannot write to .*circle"):
        convert(coco, tmp_path / "circle", "yolo")


def test_a_full_disk_names_the_folder(
    coco: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OSError, match="No space left") as raised:
        convert(coco, tmp_path / "out", "yolo")
    assert raised.value.filename == str(tmp_path / "out")


def test_an_unknown_format_is_refused(coco: Splits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no format coco-panoptc .*did you mean coco-panoptic"):
        convert(coco, tmp_path / "out", "coco-panoptc")


def test_a_task_that_the_target_cannot_hold_is_refused(coco: Splits, tmp_path: Path) -> None:
    message = "png-masks cannot hold .* taken as instance; it holds semantic .*--task semantic"
    with pytest.raises(ValueError, match=message):
        convert(coco, tmp_path / "out", "png-masks", task="instance")
    semantic = {s: replace(d, tasks=("semantic",)) for s, d in coco.items()}
    message = "yolo cannot hold .*annotated for semantic.*: convert to coco-panoptic or png-masks"
    with pytest.raises(ValueError, match=message):
        convert(semantic, tmp_path / "out", "yolo")


def test_a_task_that_the_data_lack_is_refused_with_those_that_they_have(
    coco: Splits, tmp_path: Path
) -> None:
    semantic = {s: replace(d, tasks=("semantic",)) for s, d in coco.items()}
    message = "is annotated for semantic, not for instance; give --task semantic, or add the files"
    with pytest.raises(ValueError, match=message):
        convert(semantic, tmp_path / "out", "coco-instance", task="instance")


def test_still_images_are_no_video(coco: Splits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1\.png is no frame of a video.*convert to coco-inst"):
        convert(coco, tmp_path / "out", "youtube-vis")


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_leaves_nothing(tmp_path: Path, name: str) -> None:
    good = image_record(tmp_path / "a.png", group="v", frame=0)
    gone = replace(good, image=tmp_path / "gone.png", image_id="gone", frame=1)
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        convert(squares([good, gone]), tmp_path / "place" / "out", name)
    assert not any((tmp_path / "place").iterdir())


def test_what_a_killed_conversion_left_is_told(coco: Splits, tmp_path: Path) -> None:
    (tmp_path / ".out.unfinished").mkdir()
    with pytest.raises(ValueError, match="runs or was killed; if none runs, delete it"):
        convert(coco, tmp_path / "out", "yolo")
    assert (tmp_path / ".out.unfinished").exists()


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    record = replace(image_record(tmp_path / "a.png"), annotation=(9, 6))
    with pytest.raises(ValueError, match=r"a\.png has size \(h, w\) = \(5, 6\) but its annota"):
        convert(squares([record]), tmp_path / "out", "coco-instance")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "youtube-vis"])
def test_images_can_be_linked_or_left(coco: Splits, tmp_path: Path, name: str) -> None:
    convert(coco, tmp_path / "linked", name, images="link")
    original = coco["train"].records[0].image
    assert isinstance(original, Path)
    linked = list((tmp_path / "linked").rglob("1.png"))
    assert any(path.samefile(original) for path in linked)
    converted = convert(coco, tmp_path / "bare", name, images="none")
    assert kinds(converted)["images"] == 3
    assert len(list((tmp_path / "bare").rglob("*"))) < len(list((tmp_path / "linked").rglob("*")))


def test_images_in_archives_are_written_out(tmp_path: Path, opened: Opened) -> None:
    record = image_record(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "shard.tar").write_bytes(b"head" + content)
    inside = FileSlice(tmp_path / "shard.tar", 4, len(content), "folder/b.png")
    splits = squares([replace(record, image=inside)])
    converted = convert(splits, tmp_path / "out", "yolo", images="link")
    assert kinds(converted)["hard links"] == 1
    (written,) = opened(tmp_path / "out", "yolo")["train"].records
    assert written.image.name == "b.png"
    assert written.image.read_bytes() == content


def test_names_in_archives_and_of_videos_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    record = image_record(tmp_path / "a.png", group="../../up", frame=0)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "shard.tar").write_bytes(content)
    inside = FileSlice(tmp_path / "shard.tar", 0, len(content), "../../b.png")
    splits = squares([replace(record, image=inside)])
    for name in ("coco-instance", "youtube-vis"):
        convert(splits, tmp_path / "deep" / "out" / name, name)
        assert len(list((tmp_path / "deep" / "out" / name).rglob("b.png"))) == 1
    assert not list(tmp_path.glob("b.png")) + list((tmp_path / "deep").glob("b.png"))


def test_a_turned_image_that_was_annotated_as_stored_loses_its_tag(
    tmp_path: Path, opened: Opened
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera"
    exif[ExifTags.Base.Orientation] = 6
    noise = np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8)
    record = image_record(tmp_path / "a.jpg")
    Image.fromarray(noise).save(tmp_path / "a.jpg", exif=exif)
    # upright it is 6 high and 5 wide; the annotations are 5 high and 6 wide
    converted = convert(squares([record]), tmp_path / "stored", "yolo")
    assert kinds(converted)["orientation tags"] == 1
    (written,) = opened(tmp_path / "stored", "yolo")["train"].records
    with Image.open(tmp_path / "a.jpg") as image:
        stored = np.asarray(image)
    assert np.array_equal(read_image(written.image), stored)
    with Image.open(written.image) as image:
        assert image.getexif()[ExifTags.Base.Make] == "a camera"
    upright = squares([replace(record, annotation=(6, 5))])
    assert "orientation tags" not in kinds(convert(upright, tmp_path / "upright", "yolo"))


def test_equal_names_in_different_folders_stay_two_images(tmp_path: Path, opened: Opened) -> None:
    records = [image_record(tmp_path / "in" / f"{folder}" / "x.png") for folder in "ab"]
    records.append(image_record(tmp_path / "in" / "a" / "X.jpg"))
    records = [replace(record, image_id=i) for i, record in enumerate(records)]
    for name in NAMES[:-2]:
        convert(squares(records), tmp_path / name, name)
        again = opened(tmp_path / name, name)["train"]
        assert len({str(record.image) for record in again.records}) == 3


def test_names_of_two_splits_do_not_meet_in_voc(tmp_path: Path, opened: Opened) -> None:
    splits = squares([image_record(tmp_path / "a" / "x.png")]) | squares(
        [image_record(tmp_path / "b" / "x.png")], "val"
    )
    converted = convert(splits, tmp_path / "voc", "voc")
    assert kinds(converted)["file names"] == 2
    again = opened(tmp_path / "voc", "voc")
    assert {s: [r.image_id for r in d.records] for s, d in again.items()} == {
        "train": ["train-x"],
        "val": ["val-x"],
    }


def test_names_that_break_lists_are_changed(tmp_path: Path, opened: Opened) -> None:
    names = ("a\nb", "a\u2028b", " c ", "d\udcff")
    records = [image_record(tmp_path / "in" / f"{name}.png") for name in names]
    splits = squares(records)
    classes = Classes(("traffic\r\nlight", "road, route", "a", "a"), (1, 2, 3, 4), (True,) * 4)
    splits["train"] = replace(splits["train"], classes=classes)
    converted = convert(splits, tmp_path / "voc", "voc")
    assert kinds(converted)["class names"] == 2
    losses = {loss.sentence.partition(":")[2]: loss.count for loss in converted.losses}
    assert losses[" line breaks and blanks around names break lists of names"] == 4
    assert losses[" two would share a name"] == 2
    again = opened(tmp_path / "voc", "voc")["train"]
    stems = [record.image_id for record in again.records]
    assert stems == ["a_b-1", "a_b-2", "c", "d_"]
    names = ("_background_", "traffic light", "road, route", "a", "a (2)")
    assert again.classes.names == names


def test_the_note_on_pixels_of_no_object_says_what_was_written(tmp_path: Path) -> None:
    splits = squares([image_record(tmp_path / "a.png")])
    notes = convert(splits, tmp_path / "voc", "voc").notes
    assert "pixels of no object are background, which is value 0" in notes
    assert UNLABELLED_NOTE not in notes
    assert UNLABELLED_NOTE in convert(splits, tmp_path / "panoptic", "coco-panoptic").notes


def test_ids_that_are_names_are_numbered(tmp_path: Path, opened: Opened) -> None:
    records = [image_record(tmp_path / f"{name}.png") for name in "ab"]
    converted = convert(squares(records), tmp_path / "out", "coco-instance")
    assert kinds(converted)["image ids"] == 2
    again = opened(tmp_path / "out", "coco-instance")["train"]
    assert [record.image_id for record in again.records] == [1, 2]


def test_a_data_set_without_splits_stays_whole(tmp_path: Path, opened: Opened) -> None:
    splits = squares([image_record(tmp_path / "a.png", group="v", frame=0)], "all")
    for name in NAMES[:-1]:
        convert(splits, tmp_path / name, name)
        expected = "train" if name == "yolo" else "all"
        assert list(opened(tmp_path / name, name)) == [expected]


def test_split_names_that_a_format_does_not_find_are_told(tmp_path: Path) -> None:
    one = squares([image_record(tmp_path / "a.png")], "fold1")
    assert kinds(convert(one, tmp_path / "one", "labelme"))["splits"] == 1
    two = one | squares([image_record(tmp_path / "b.png")], "fold2")
    with pytest.raises(ValueError, match=r"splits 'fold1', 'fold2' are not all found .*rename"):
        convert(two, tmp_path / "two", "labelme")


def test_splits_without_annotations_are_left_out(tmp_path: Path) -> None:
    splits = squares([image_record(tmp_path / "a.png")])
    bare = replace(splits["train"], split="test", tasks=())
    converted = convert(splits | {"test": bare}, tmp_path / "out", "yolo")
    assert converted.num_images == {"train": 1}
    assert kinds(converted)["splits"] == 1
    with pytest.raises(ValueError, match="no split has annotations to convert"):
        convert({"test": bare}, tmp_path / "none", "yolo")


@pytest.mark.parametrize("num_classes", [254, 255, 256, 300])
def test_more_than_255_classes_take_16_bits(
    tmp_path: Path, opened: Opened, num_classes: int
) -> None:
    # the background is a class more
    names = tuple(f"class {i}" for i in range(num_classes - 1))
    classes = Classes(names, tuple(range(len(names))), (True,) * len(names))
    splits = squares([image_record(tmp_path / "a.png")])
    decode = partial(decode_class, class_id=num_classes - 2)
    many = {"train": replace(splits["train"], classes=classes, decode=decode)}
    converted = convert(many, tmp_path / "out", "png-masks")
    with Image.open(tmp_path / "out" / "masks" / "train" / "a.png") as mask:
        assert mask.mode == ("P" if num_classes <= 255 else "I;16")
    assert ("bits" in kinds(converted)) == (num_classes > 255)
    again = opened(tmp_path / "out", "png-masks")["train"]
    assert again.classes.names == (*names, "background")
    found = {s.class_id for s in again.annotations(0).segments}
    assert found == {num_classes - 2, num_classes - 1}


def decode_class(record: Record, *, class_id: int) -> Instances:
    return Instances(*record.annotation, (Instance(class_id, SQUARE, False, 6.0),))


def test_too_many_classes_for_a_byte_are_refused(tmp_path: Path) -> None:
    names = tuple(f"class {i}" for i in range(300))
    classes = Classes(names, tuple(range(300)), (True,) * 300)
    splits = squares([image_record(tmp_path / "a.png")])
    many = {"train": replace(splits["train"], classes=classes)}
    for name in ("voc", "panoptic-2ch"):
        with pytest.raises(ValueError, match=r"300 classes do not fit .*; convert to "):
            convert(many, tmp_path / name, name)


def test_another_process_writes_the_same(coco: Splits, tmp_path: Path) -> None:
    written = []
    for workers in (0, 1):
        converted = convert(coco, tmp_path / str(workers), "coco-panoptic", workers=workers)
        files = sorted((tmp_path / str(workers)).rglob("*.*"))
        written.append((converted.losses, [p.read_bytes() for p in files if p.is_file()]))
    assert written[0] == written[1]


def test_videos_keep_their_tracks(tmp_path: Path, opened: Opened) -> None:
    records = [
        image_record(tmp_path / "in" / video / f"{frame}.png", group=video, frame=frame)
        for video in ("cat", "dog")
        for frame in range(2)
    ]
    converted = convert(squares(records), tmp_path / "out", "youtube-vis")
    # both videos have a track 5
    assert kinds(converted)["track ids"] == 2
    again = opened(tmp_path / "out", "youtube-vis")["train"]
    found = [(r.group, r.frame, r.image.parent.name) for r in again.records]
    assert found == [("1", 0, "cat"), ("1", 1, "cat"), ("2", 0, "dog"), ("2", 1, "dog")]
    tracks = [again.annotations(i).items[0].track_id for i in range(4)]
    assert tracks == [1, 1, 2, 2]
    assert kinds(convert(squares(records), tmp_path / "still", "coco-instance"))["videos"] == 2


def test_frames_of_one_folder_get_a_folder_for_their_video(tmp_path: Path, opened: Opened) -> None:
    records = [image_record(tmp_path / f"{i}.png", group="7", frame=i) for i in range(2)]
    convert(squares(records[::-1]), tmp_path / "out", "youtube-vis")
    again = opened(tmp_path / "out", "youtube-vis")["train"]
    assert [(r.group, r.image.parent.name, r.image.name) for r in again.records] == [
        ("7", "7", "0.png"),
        ("7", "7", "1.png"),
    ]


def test_objects_without_tracks_and_frames_of_two_sizes_are_no_video(tmp_path: Path) -> None:
    record = image_record(tmp_path / "a.png", group="v", frame=0)
    Image.new("RGB", (8, 7)).save(tmp_path / "b.png")
    other = replace(record, image=tmp_path / "b.png", annotation=(7, 8), frame=1)
    with pytest.raises(ValueError, match=r"b\.png has size \(h, w\) = \(7, 8\) but the frames"):
        convert(squares([record, other]), tmp_path / "out", "youtube-vis")
    splits = squares([record])
    bare = {"train": replace(splits["train"], decode=decode_without_track)}
    with pytest.raises(ValueError, match=r"a\.png has no track id; .*convert to coco-instance"):
        convert(bare, tmp_path / "out", "youtube-vis")


def decode_without_track(record: Record) -> Instances:
    return Instances(5, 6, (Instance(0, SQUARE, False, 6.0),))


def test_labels_with_a_meaning_and_equal_names_are_renamed(tmp_path: Path, opened: Opened) -> None:
    classes = Classes(("__ignore__", "a", "a"), (1, 2, 3), (True,) * 3)
    splits = squares([image_record(tmp_path / "a.png")])
    converted = convert(
        {"train": replace(splits["train"], classes=classes)}, tmp_path / "out", "labelme"
    )
    assert kinds(converted)["class names"] == 2
    again = opened(tmp_path / "out", "labelme")["train"]
    assert again.classes.names == ("ignore", "a", "a (2)")
    assert [item.class_id for item in again.annotations(0).items] == [0]


def test_every_split_is_opened_by_its_name(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "set", train_images=2, val_images=1, size=(32, 40), seed=0)
    assert {s: len(d) for s, d in open_every_split(tmp_path / "set").items()} == {
        "train": 2,
        "val": 1,
    }


def test_what_is_not_split_stays_whole_or_is_divided(tmp_path: Path) -> None:
    records = [image_record(tmp_path / "in" / f"{i}.png") for i in range(10)]
    convert(squares(records, "all"), tmp_path / "out", "labelme")
    assert {s: len(d) for s, d in open_every_split(tmp_path / "out").items()} == {"all": 10}
    shares = (0.8, 0.2)
    divided = open_every_split(tmp_path / "out", format="labelme", fractions=shares)
    assert {s: len(d) for s, d in divided.items()} == {"train": 8, "val": 2}
