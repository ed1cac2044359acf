import random
from pathlib import Path

import pytest

from mask2former.data.annotations import SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.partition import divide, take_listed
from mask2former.data.problems import Collected, Strict
from mask2former.data.sources import FileSlice
from mask2former.types import Classes


def decode(record: Record) -> SegmentMap:
    raise AssertionError("nothing is decoded")


def dataset(records: list[Record]) -> Dataset:
    classes = Classes(("a",), (1,), (False,))
    return Dataset("fake", Path("set"), "all", classes, ("semantic",), records, decode)


def images(count: int) -> list[Record]:
    return [Record(i, Path("set") / "images" / f"{i:03}.jpg", None) for i in range(count)]


def ids(part: Dataset) -> list[int | str]:
    return [record.image_id for record in part.records]


def test_parts_have_their_shares_and_every_image_once() -> None:
    parts = [
        divide(dataset(images(50)), part, (0.7, 0.2, 0.1)) for part in ("train", "val", "test")
    ]
    assert [len(part) for part in parts] == [35, 10, 5]
    assert sorted(i for part in parts for i in ids(part)) == list(range(50))
    assert [part.split for part in parts] == ["train", "val", "test"]
    assert parts[1].notes[-1] == (
        "split 'val' is 10 of 50 images, drawn by the fractions 0.7/0.2/0.1"
    )


def test_parts_depend_on_names_alone() -> None:
    shuffled = random.Random(0).sample(images(40), 40)
    first, second = (divide(dataset(r), "val", (0.9, 0.1)) for r in (images(40), shuffled))
    assert set(ids(first)) == set(ids(second))
    # the order of a split is that of the data set
    assert ids(first) == sorted(ids(first), key=int)
    moved = [Record(r.image_id, Path("elsewhere") / r.image.name, None) for r in images(40)]
    assert ids(divide(dataset(moved), "val", (0.9, 0.1))) == ids(first)


def test_a_smaller_part_is_held_out_of_a_larger_one() -> None:
    small, large = (divide(dataset(images(60)), "val", (1 - f, f)) for f in (0.1, 0.3))
    assert set(ids(small)) < set(ids(large))


def test_videos_stay_whole() -> None:
    records = [
        Record(f"{video}/{frame}", Path("a"), None, group=f"clip{video}", frame=frame)
        for video in range(12)
        for frame in range(1 + video % 4)
    ]
    train, val = (divide(dataset(records), part, (0.8, 0.2)) for part in ("train", "val"))
    groups = [{record.group for record in part.records} for part in (train, val)]
    assert not groups[0] & groups[1]
    assert len(train) + len(val) == 30
    # a border between clips of at most 4 images cannot be further off than half of one
    assert abs(len(val) - 6) <= 2
    assert "images in " in val.notes[-1]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_part_gets_an_image_if_there_are_enough(count: int) -> None:
    for fractions in ((0.99, 0.01), (0.01, 0.99)):
        assert min(len(divide(dataset(images(count)), p, fractions)) for p in ("train", "val")) == 1
    three = [len(divide(dataset(images(count)), p, (0.8, 0.1, 0.1))) for p in ("train", "val")]
    assert min(three) >= 1


def test_of_one_group_every_part_is_all_and_is_called_so() -> None:
    records = [Record(i, Path("a"), None, group="clip") for i in range(3)]
    for part in ("train", "val"):
        whole = divide(dataset(records), part, (0.9, 0.1))
        assert (whole.split, ids(whole)) == ("all", [0, 1, 2])
        assert whole.notes[-1] == (
            f"split {part!r} is all of the data set: 3 images of one group, of which nothing can "
            f"be held out"
        )
    assert (
        divide(dataset(images(1)), "val", (0.9, 0.1))
        .notes[-1]
        .endswith("one image, of which nothing can be held out")
    )


def write_list(folder: Path, *lines: str) -> Path:
    path = folder / "val.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "line",
    ["7", "007", "007.jpg", "images/007.jpg", "images/007", "./images/007.jpg", "/images/007.jpg",
     "images\\007.jpg", "  007  ", "007 1", "images/007.jpg labels/007.png"],
)  # fmt: skip
def test_a_list_names_images_in_many_ways(line: str, tmp_path: Path) -> None:
    path = write_list(tmp_path, line, "", "002.jpg")
    part = take_listed(dataset(images(9)), "val", path, Strict())
    assert ids(part) == [2, 7]
    assert part.split == "val"
    assert part.notes[-1] == f"split 'val' is 2 of 9 images, as {path} says"


def test_a_list_names_whole_videos_and_images_inside_shards(tmp_path: Path) -> None:
    records = [
        Record(10, FileSlice(Path("set/a.tar"), 0, 1, "x.jpg"), None, group="bear"),
        Record(11, FileSlice(Path("set/a.tar"), 9, 1, "y.jpg"), None, group="bear"),
        Record(12, FileSlice(Path("set/a.tar"), 9, 1, "z.jpg"), None, group="dog"),
    ]
    path = write_list(tmp_path, "bear")
    assert ids(take_listed(dataset(records), "val", path, Strict())) == [10, 11]
    path = write_list(tmp_path, "z")
    assert ids(take_listed(dataset(records), "val", path, Strict())) == [12]


def test_a_path_counts_before_an_id_and_an_id_before_a_trailing_part(tmp_path: Path) -> None:
    # ids and file names cross: image 1 is 2.png
    records = [Record(i, Path("set") / f"{3 - i}.png", None) for i in (1, 2)]
    for line, image_id in (("1", 2), ("1.png", 2), ("2", 1)):
        assert ids(take_listed(dataset(records), "val", write_list(tmp_path, line), Strict())) == [
            image_id
        ]
    below = [Record(i, Path("set") / "images" / f"{3 - i}.png", None) for i in (1, 2)]
    for line, image_id in (("1", 1), ("1.png", 2), ("images/1", 2)):
        assert ids(take_listed(dataset(below), "val", write_list(tmp_path, line), Strict())) == [
            image_id
        ]


@pytest.mark.parametrize(
    "records",
    [
        [Record(1, Path("set/a.jpg"), None), Record(2, Path("set/a.png"), None)],
        [Record("a", Path("set/x.jpg"), None), Record("a", Path("set/y.jpg"), None)],
    ],
    ids=["paths", "ids"],
)
def test_a_name_of_two_images_is_an_error(records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="names 'a', but set has no image of that name, or"):
        take_listed(dataset(records), "val", write_list(tmp_path, "a"), Strict())


def test_a_list_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    problems = Collected()
    part = take_listed(dataset(images(3)), "val", write_list(tmp_path, "", " "), problems)
    assert len(part) == 0
    [problem] = problems.found
    assert problem.message.startswith(f"{tmp_path / 'val.txt'} names no image of set; write file")


def test_a_name_that_two_images_have_is_not_enough(tmp_path: Path) -> None:
    records = [Record(name, Path("set") / name, None) for name in ("a/1.jpg", "b/1.jpg")]
    assert ids(take_listed(dataset(records), "val", write_list(tmp_path, "b/1"), Strict())) == [
        "b/1.jpg"
    ]
    with pytest.raises(FileNotFoundError, match=r"names '1\.jpg', but set has no image of that"):
        take_listed(dataset(records), "val", write_list(tmp_path, "1.jpg"), Strict())


def test_unknown_names_are_told_with_the_list(tmp_path: Path) -> None:
    path = write_list(tmp_path, "001", *(f"x{i}" for i in range(5)))
    message = r"val\.txt names 'x0', 'x1', 'x2' and 2 more, but set has no image of that name, or"
    with pytest.raises(FileNotFoundError, match=message):
        take_listed(dataset(images(3)), "val", path, Strict())
    problems = Collected()
    assert ids(take_listed(dataset(images(3)), "val", path, problems)) == [1]
    [problem] = problems.found
    assert (problem.file, problem.is_error) == (str(path), True)
