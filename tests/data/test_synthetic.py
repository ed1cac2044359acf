import hashlib
from pathlib import Path

import numpy as np
import pytest

from mask2former.data.annotations import SegmentMap
from mask2former.data.derive import for_task, instance_rles, semantic_map
from mask2former.data.images import read_image
from mask2former.data.open import list_splits, open_dataset
from mask2former.data.synthetic import MIN_AREA, NAMES, STUFF, THINGS, draw_picture, write_synthetic

SIZE = (48, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "new"
    write_synthetic(folder, train_images=12, val_images=4, size=SIZE, seed=7)
    return folder


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_it_opens_as_a_panoptic_data_set(folder: Path) -> None:
    assert list_splits(folder) == ["train", "val"]
    dataset = open_dataset(folder, "train")
    assert len(dataset) == 12
    assert dataset.classes.names == NAMES
    assert dataset.classes.is_thing == (False,) * len(STUFF) + (True,) * len(THINGS)


@pytest.mark.parametrize("split", ["train", "val"])
def test_segments_are_what_the_pixels_say(folder: Path, split: str) -> None:
    dataset = open_dataset(folder, split)
    for i, record in enumerate(dataset.records):
        annotations = dataset.annotations(i)
        assert isinstance(annotations, SegmentMap)
        assert annotations.ids.shape == read_image(record.image).shape[:2] == SIZE
        ids, counts = np.unique(annotations.ids[annotations.ids > 0], return_counts=True)
        assert sorted(s.id for s in annotations.segments) == ids.tolist()
        assert counts.min() >= MIN_AREA


def test_it_serves_every_task(folder: Path) -> None:
    dataset = open_dataset(folder, "train")
    labels = semantic_map(for_task(dataset, "semantic").annotations(0), len(NAMES))
    assert set(np.unique(labels)) <= set(range(-1, len(NAMES)))
    things = for_task(dataset, "instance")
    assert things.classes.names == THINGS
    found = {c for i in range(12) for c, *_ in instance_rles(things.annotations(i))}
    assert found == set(range(len(THINGS)))


def test_same_seed_draws_the_same_files(folder: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "again", train_images=12, val_images=4, size=SIZE, seed=7)
    assert digest(tmp_path / "again") == digest(folder)


def test_other_seeds_and_splits_draw_other_pictures(folder: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "other", train_images=12, val_images=4, size=SIZE, seed=8)
    ours, theirs = digest(folder), digest(tmp_path / "other")
    pictures = [name for name in ours if name.endswith(".jpg")]
    assert len({ours[name] for name in pictures} | {theirs[name] for name in pictures}) == 32


def test_colour_does_not_tell_the_things() -> None:
    # Mean colours of 300 pictures' things: between the classes they vary no more than chance
    # allows, with a variance ratio (F test, 3 groups more than one) near 1; 5 is p < 0.002.
    colors: dict[int, list[np.ndarray]] = {}
    for seed in range(300):
        picture = draw_picture(np.random.default_rng(seed), SIZE)
        for segment_id, class_id in picture.class_ids.items():
            if NAMES[class_id] in THINGS:
                color = picture.image[picture.ids == segment_id].mean(axis=0)
                colors.setdefault(class_id, []).append(color)
    groups = [np.array(group) for group in colors.values()]
    total = np.concatenate(groups)
    between = sum(len(g) * (g.mean(0) - total.mean(0)) ** 2 for g in groups) / (len(groups) - 1)
    within = sum(((g - g.mean(0)) ** 2).sum(0) for g in groups) / (len(total) - len(groups))
    assert (between / within).max() < 5


def test_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty; give a new folder"):
        write_synthetic(tmp_path, train_images=1, val_images=1, size=SIZE, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (31, 64)}, r"size \(h, w\) = \(31, 64\) is too small to draw on; give 32"),
        ({"train_images": 0}, "0 images in train; give at least 1"),
        ({"val_images": -1}, "-1 images in val; give at least 1"),
    ],
)
def test_numbers_that_are_too_small_are_refused_before_drawing(
    tmp_path: Path, changes: dict, message: str
) -> None:
    numbers = {"train_images": 1, "val_images": 1, "size": SIZE, "seed": 0} | changes
    with pytest.raises(ValueError, match=message):
        write_synthetic(tmp_path / "new", **numbers)
    assert not (tmp_path / "new").exists()
