import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentLabel, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.formats.davis import find, read
from mask2former.data.formats.format import WHOLE, Reading
from mask2former.data.problems import Collected, Problems, Strict

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)


def mask(*values: int) -> Image.Image:
    """Columns of one value each, 5 pixels high, as a palette PNG."""
    image = Image.fromarray(np.tile(np.array(values, np.uint8), (5, 1)), "P")
    image.putpalette(bytes(range(256)) * 3)
    return image


def write(folder: Path, sequences: dict[str, list[Image.Image]], resolution: str = "480p") -> Path:
    for sequence, masks in sequences.items():
        frames = folder / "JPEGImages" / resolution / sequence
        places = folder / "Annotations" / resolution / sequence
        frames.mkdir(parents=True)
        places.mkdir(parents=True)
        for i, image in enumerate(masks):
            Image.new("RGB", image.size).save(frames / f"{i:05d}.jpg")
            image.save(places / f"{i:05d}.png")
    return folder


def write_list(folder: Path, name: str, *lines: str) -> None:
    path = folder / "ImageSets" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))


def read_split(folder: Path, split: str = WHOLE, problems: Problems | None = None) -> Dataset:
    found = find(folder)
    assert found is not None
    return read(folder, split, found, Reading(problems or Strict()))


def segment_map(dataset: Dataset, index: int) -> SegmentMap:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, SegmentMap)
    return annotations


def row(dataset: Dataset, index: int) -> list[int]:
    return segment_map(dataset, index).ids[0].tolist()


@pytest.mark.parametrize("resolution", ["480p", "Full-Resolution", "1080p", ""])
def test_objects_keep_their_numbers_over_the_frames(tmp_path: Path, resolution: str) -> None:
    masks = [mask(0, 1, 2, 2), mask(0, 0, 2, 3)]
    dataset = read_split(write(tmp_path, {"bear": masks}, resolution))
    assert dataset.classes.names == ("object",)
    assert dataset.tasks == ("instance", "panoptic", "semantic")
    assert [(r.image_id, r.group, r.frame) for r in dataset.records] == [
        ("bear/00000", "bear", 0),
        ("bear/00001", "bear", 1),
    ]
    assert dataset.records[0].image == tmp_path / "JPEGImages" / resolution / "bear" / "00000.jpg"
    assert segment_map(dataset, 0).segments == (SegmentLabel(1, 0), SegmentLabel(2, 0))
    assert segment_map(dataset, 1).segments == (SegmentLabel(2, 0), SegmentLabel(3, 0))
    assert row(dataset, 1) == [0, 0, 2, 3]


def test_255_alone_is_the_object_and_beside_others_is_ignored(tmp_path: Path) -> None:
    binary = [mask(0, 0, 0), mask(0, 255, 255)]
    numbered = [mask(0, 1, 255), mask(0, 0, 255)]
    dataset = read_split(write(tmp_path, {"binary": binary, "numbered": numbered}))
    assert segment_map(dataset, 0).segments == ()
    assert row(dataset, 1) == [0, 1, 1]
    assert segment_map(dataset, 1).segments == (SegmentLabel(1, 0),)
    assert segment_map(dataset, 2).segments == (SegmentLabel(1, 0),)
    # nothing but void: no object, and not the one of a binary mask
    assert segment_map(dataset, 3).segments == ()
    assert row(dataset, 3) == [0, 0, 255]
    assert "255 is the one object of sequences whose masks hold nothing else" in dataset.notes[0]


def test_lists_name_the_sequences_of_splits(tmp_path: Path) -> None:
    write(tmp_path, {name: [mask(0, 1)] for name in ("a", "b", "c")})
    write_list(tmp_path, "2017/train", "c", "a")
    write_list(tmp_path, "2017/val", "b")
    found = find(tmp_path)
    assert found is not None
    assert list(found.splits) == ["train", "val"]
    assert [r.group for r in read_split(tmp_path, "train").records] == ["c", "a"]
    assert [r.group for r in read_split(tmp_path, "val").records] == ["b"]


def test_lists_of_2016_name_frames_and_join_the_objects(tmp_path: Path) -> None:
    write(tmp_path, {"a": [mask(0, 1, 2, 255), mask(0, 2, 2, 0)], "b": [mask(0, 255)]})
    lines = [f"/JPEGImages/480p/a/{i:05d}.jpg /Annotations/480p/a/{i:05d}.png" for i in range(2)]
    write_list(tmp_path, "2016/train", *lines)
    dataset = read_split(tmp_path, "train")
    assert len(dataset) == 2
    assert row(dataset, 0) == [0, 1, 1, 255]
    assert segment_map(dataset, 0).segments == (SegmentLabel(1, 0),)
    assert "All objects of a frame are joined to one" in dataset.notes[1]


def test_of_two_years_the_later_has_the_plain_names(tmp_path: Path) -> None:
    write(tmp_path, {"a": [mask(0, 1)], "b": [mask(0, 1)]})
    write_list(tmp_path, "2016/train", "/JPEGImages/480p/a/00000.jpg /Annotations/480p/a/00000.png")
    write_list(tmp_path, "2017/train", "b")
    found = find(tmp_path)
    assert found is not None
    assert list(found.splits) == ["train", "train2016"]
    assert read_split(tmp_path, "train").records[0].group == "b"
    assert read_split(tmp_path, "train2016").records[0].group == "a"


def test_every_fault_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"a": [mask(0, 1)] * 3, "no_masks": [mask(0, 1)], "no_frames": [mask(0, 1)]})
    (tmp_path / "JPEGImages/480p/a/00000.jpg").unlink()
    (tmp_path / "Annotations/480p/a/00001.png").unlink()
    (tmp_path / "Annotations/480p/no_masks/00000.png").unlink()
    (tmp_path / "JPEGImages/480p/no_frames/00000.jpg").unlink()
    write_list(tmp_path, "2017/train", "a", "no_masks", "no_frames", "gone")
    problems = Collected()
    dataset = read_split(tmp_path, "train", problems)
    assert [(p.kind, p.is_error) for p in problems.found] == [
        ("annotation without image", False),
        ("image without annotation", False),
        ("missing annotation", True),
        ("missing image", True),
        ("missing image", True),
    ]
    assert [r.image_id for r in dataset.records] == ["a/00002"]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("Annotations/480p/b/00000.png", "sequence b of .*train.txt has no masks in .*Annotations"),
        ("JPEGImages/480p/b/00000.jpg", "sequence b of .*train.txt has no frames in .*JPEGImages"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, gone: str, message: str) -> None:
    write(tmp_path, {"a": [mask(0, 1)] * 2, "b": [mask(0, 1)]})
    write_list(tmp_path, "2017/train", "a", "b")
    (tmp_path / gone).unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_split(tmp_path, "train")


def test_a_list_without_names_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a": [mask(0, 1)]})
    write_list(tmp_path, "2017/train")
    with pytest.raises(ValueError, match=r"train\.txt names no sequences; write one a line"):
        read_split(tmp_path, "train")


def test_voc_folders_are_not_of_this_format(tmp_path: Path) -> None:
    for name in ("JPEGImages", "Annotations", "SegmentationClass"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "Annotations" / "a.xml").touch()
    write_list(tmp_path, "Segmentation/train", "a")
    assert find(tmp_path) is None


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = read_split(write(tmp_path, {"a": [mask(0, 4)]}))
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert row(copy, 0) == [0, 4]


# (folder, sequences, frames, masks), from the samples' own README
COUNTS = [("davis_video", 4, 48, 48), ("caps_video", 1, 5, 8)]


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize(("name", "sequences", "frames", "masks"), COUNTS)
def test_real_sequences_have_the_counts_that_are_known(
    name: str, sequences: int, frames: int, masks: int
) -> None:
    dataset = read_split(SAMPLES / name)
    assert len({record.group for record in dataset.records}) == sequences
    assert len(dataset) == frames
    assert sum(len(segment_map(dataset, i).segments) for i in range(frames)) == masks
