from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mask2former.data.annotations import Instances
from mask2former.data.batching import collate
from mask2former.data.copy_paste import (
    choose_objects,
    cut_geometry,
    draw_other,
    paste_objects,
)
from mask2former.data.dataset import Dataset, Record
from mask2former.data.geometry import Geometry, large_scale_jitter
from mask2former.data.images import read_image
from mask2former.data.open import open_dataset
from mask2former.data.sampling import TrainingBatches
from mask2former.data.training_data import TrainingData, without_empty_images
from mask2former.data.transforms import augment_image, make_target
from mask2former.masks.packed import pack_masks
from mask2former.tasks import Task
from mask2former.types import Classes, Sample, Target
from pasting import CLASSES, JITTER, ROUNDING, SHORTEST, boxes, masks_of, read_map

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"
SIZES = [(40, 62), (62, 40), (40, 40), (30, 50)]


def read_objects(record: Record) -> Instances:
    assert record.height
    assert record.width
    found = boxes([(1, False)] * record.annotation + [(0, True)])
    return replace(found, height=record.height, width=record.width)


def write_dataset(folder: Path, counts: list[int], task: Task = "instance") -> Dataset:
    rng = np.random.default_rng(0)
    records = []
    for i, ((height, width), count) in enumerate(zip(SIZES, counts, strict=False)):
        path = folder / f"{i}.png"
        small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path)
        known = count if task == "instance" else None
        records.append(Record(i, path, count, height, width, num_objects=known))
    if task == "instance":
        classes = Classes(("cat", "dog"), (2, 3), (True, True))
        return Dataset("fake", folder, "train", classes, ("instance",), records, read_objects)
    tasks: tuple[Task, ...] = ("panoptic", "semantic")
    return Dataset("fake", folder, "train", CLASSES, tasks, records, read_map)


def training_data(dataset: Dataset, copy_paste: float = 1.0, **changes: object) -> TrainingData:
    options = {"draw_geometry": JITTER, "color_jitter": True, "keep_emptied": False, **changes}
    return TrainingData(
        without_empty_images(dataset), dataset.tasks[0], copy_paste=copy_paste, **options
    )


def same(first: Sample, second: Sample) -> bool:
    return (
        torch.equal(first.image, second.image)
        and torch.equal(first.target.labels, second.target.labels)
        and torch.equal(first.target.masks, second.target.masks)
        and first.image_id == second.image_id
        and first.seed == second.seed
    )


def whole(size: tuple[int, int], _: np.random.Generator) -> Geometry:
    return Geometry(source=size, resized=size, offset=(0, 0), crop=size, padded=size)


def moved(data: TrainingData, index: int, rng: np.random.Generator) -> tuple[Sample, Geometry]:
    """An image as it is trained on without pasting, step by step."""
    record = data.dataset.records[index]
    geometry = data.draw_geometry((record.height, record.width), rng)
    image = augment_image(read_image(record.image), geometry, rng if data.color_jitter else None)
    annotations = data.dataset.decode(record)
    target = make_target(annotations, geometry, data.task, keep_emptied=data.keep_emptied)
    return Sample(image, target, record.image_id, 0), geometry


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_without_pasting_no_number_more_is_drawn(tmp_path: Path, monkeypatch, task: Task) -> None:
    data = training_data(write_dataset(tmp_path, [2, 1, 3], task), copy_paste=0.0)
    for seed in range(20):
        ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        monkeypatch.setattr(np.random, "default_rng", lambda _, rng=ours: rng)
        sample = data[seed % 3, seed]
        monkeypatch.undo()
        assert same(sample, moved(data, seed % 3, theirs)[0]._replace(seed=seed))
        assert ours.bit_generator.state == theirs.bit_generator.state


def test_samples_that_get_nothing_are_those_without_pasting(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [2, 1, 3])
    without = training_data(dataset, copy_paste=0.0)
    some, all_ = (training_data(dataset, copy_paste=p) for p in (0.3, 1.0))
    changed = 0
    for seed in range(150):
        sample = some[seed % 3, seed]
        is_plain = same(sample, without[seed % 3, seed])
        assert is_plain or same(sample, all_[seed % 3, seed])
        changed += not is_plain
    # Of the 0.3 that are drawn, some have nothing to paste: no object chosen, or none in the crop.
    assert 0.1 < changed / 150 < 0.4


@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("draw", [JITTER, SHORTEST], ids=["jitter", "shortest"])
def test_a_sample_is_made_of_two_as_by_hand(tmp_path: Path, draw: partial, task: Task) -> None:
    dataset = write_dataset(tmp_path, [2, 1, 3, 2], task)
    data = training_data(dataset, draw_geometry=draw, color_jitter=False)
    num_pasted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        main, geometry = moved(data, seed % 4, rng)
        rng.random()
        source = draw_other(seed % 4, 4, rng)
        record = data.dataset.records[source]
        chosen = choose_objects(data.dataset.decode(record), dataset.classes.is_thing, rng)
        own = draw((record.height, record.width), rng)
        other = make_target(chosen, own, data.task, keep_emptied=False)
        # cut or padded to the canvas of the main image, of which the padding stays free
        (height, width), masks = geometry.padded, masks_of(other)
        canvas = np.zeros((len(masks), height, width), bool)
        part = canvas[:, : masks.shape[1], : masks.shape[2]]
        part[:] = masks[:, :height, :width]
        canvas[:, geometry.crop[0] :] = False
        canvas[:, :, geometry.crop[1] :] = False
        is_left = canvas.any(axis=(1, 2))
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        pixels = augment_image(read_image(record.image), own)[:, :height, :width]
        image[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        pasted = Target(other.labels[torch.from_numpy(is_left)], pack_masks(canvas[is_left]))
        expected, target = paste_objects(main.image, main.target, pasted_image=image, pasted=pasted)
        sample = data[seed % 4, seed]
        assert torch.equal(sample.target.labels, target.labels)
        assert torch.equal(sample.target.masks, target.masks)
        assert (sample.image.int() - expected.int()).abs().max() <= ROUNDING
        assert sample.image_id == dataset.records[seed % 4].image_id
        num_pasted += is_left.sum()
    assert num_pasted > 20


def test_a_crowd_below_a_pasted_object_becomes_that_object(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [1, 3], "panoptic")
    data = training_data(dataset, draw_geometry=whole)
    crowd = torch.from_numpy(read_map(dataset.records[0]).ids == 6)
    becomes = False
    for seed in range(20):
        labels, masks = data[0, seed].target
        # sky and a dog of its own, then pasted dogs: of the other image no sky, and no crowd
        assert labels.tolist() in ([0, 2] + [2] * n for n in range(4))
        becomes = becomes or bool(masks[crowd].any())
    assert becomes


def test_nothing_is_pasted_over_padding(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [2, 1, 3]))
    for seed in range(40):
        main, geometry = moved(data, seed % 3, np.random.default_rng(seed))
        height, width = geometry.crop
        sample = data[seed % 3, seed]
        assert sample.image.shape == main.image.shape
        for outside in (np.s_[height:, :], np.s_[:, width:]):
            assert not sample.target.masks[outside].any()
            assert (sample.image[:, *outside] == 128).all()


def test_each_image_has_colours_of_its_own(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [2, 1, 3]), draw_geometry=whole)
    num_pasted = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        main, _ = moved(data, 0, rng)
        rng.random()
        record = data.dataset.records[draw_other(0, 3, rng)]
        objects = choose_objects(data.dataset.decode(record), (True, True), rng)
        geometry = cut_geometry(whole((objects.height, objects.width), rng), SIZES[0])
        target = make_target(objects, geometry, "instance", keep_emptied=False)
        if len(target.labels):
            pixels = augment_image(read_image(record.image), geometry, rng)
            expected, _ = paste_objects(main.image, main.target, pasted_image=pixels, pasted=target)
            assert torch.equal(data[0, seed].image, expected)
            num_pasted += 1
    assert num_pasted > 8


def test_targets_that_the_crop_emptied_stay_where_they_are_kept(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [3, 3, 3], "panoptic")
    kept = training_data(dataset, keep_emptied=True)
    without = training_data(dataset, copy_paste=0.0, keep_emptied=True)
    emptied = 0
    for seed in range(60):
        before, after = without[seed % 3, seed].target, kept[seed % 3, seed].target
        num_empty = (~masks_of(before).any(axis=(1, 2))).sum()
        assert (~masks_of(after).any(axis=(1, 2))).sum() == num_empty
        emptied += num_empty
    assert emptied > 0


def test_workers_give_the_samples_of_one_process(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [2, 1, 3]))

    def load(workers: int) -> list[Sample]:
        batches = TrainingBatches(len(data), batch_size=2, seed=4)
        loader = iter(
            DataLoader(data, batch_sampler=batches, num_workers=workers, collate_fn=collate)
        )
        drawn = [next(loader) for _ in range(4)]
        return [Sample(*s) for b in drawn for s in zip(*b, strict=True)]

    assert all(same(a, b) for a, b in zip(load(0), load(2), strict=True))


def test_images_that_are_left_out_give_no_objects(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [2, 0, 3]))
    (tmp_path / "1.png").write_bytes(b"")
    labels = {len(data[0, seed].target.labels) for seed in range(40)}
    assert max(labels) == 2 + 3


def test_images_without_things_paste_nothing(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [0, 0, 0], "panoptic")
    data, without = (training_data(dataset, copy_paste=p) for p in (1.0, 0.0))
    assert all(same(data[seed % 3, seed], without[seed % 3, seed]) for seed in range(20))


def test_an_unreadable_source_stops_training_with_its_path(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [1, 3]))
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*1\.png"):
        _ = [data[0, seed] for seed in range(20)]


@pytest.mark.parametrize(
    ("task", "counts", "message"),
    [
        ("semantic", [1, 1], r"= 0\.5 pastes objects .* a map of classes has none: .* or panoptic"),
        (
            "panoptic",
            [1],
            r"split 'train' of .* has one image; add some, or leave data\.copy_paste",
        ),
    ],
)
def test_data_that_cannot_give_objects_are_refused(
    tmp_path: Path, task: Task, counts: list[int], message: str
) -> None:
    dataset = write_dataset(tmp_path, counts, "panoptic")
    options = {"draw_geometry": JITTER, "color_jitter": False, "keep_emptied": False}
    TrainingData(dataset, task, **options)
    with pytest.raises(ValueError, match=message):
        TrainingData(dataset, task, copy_paste=0.5, **options)


def test_panoptic_data_of_stuff_alone_are_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [1, 1], "panoptic")
    stuff = replace(dataset, classes=replace(CLASSES, is_thing=(False,) * 3))
    assert len(training_data(stuff, copy_paste=0.0)[0, 0].target.labels) > 0
    with pytest.raises(ValueError, match=r"all classes of .* are stuff; mark those of objects"):
        training_data(stuff)


@pytest.mark.parity
@pytest.mark.skipif(not REAL.exists(), reason="needs the sample data in ../shared")
@pytest.mark.parametrize(
    ("name", "task"), [("coco_instances", "instance"), ("coco_panoptic", "panoptic")]
)
def test_photographs_gain_objects_and_lose_what_they_hide(name: str, task: Task) -> None:
    dataset = without_empty_images(open_dataset(REAL / name, "train", task=task))
    draw = partial(
        large_scale_jitter, crop=(256, 256), min_scale=0.5, max_scale=2.0, flip_probability=0.5
    )
    options = {"draw_geometry": draw, "color_jitter": False, "keep_emptied": False}
    data, without = (TrainingData(dataset, task, copy_paste=p, **options) for p in (1.0, 0.0))
    gained = 0
    for index in range(12):
        after, before = data[index, index], without[index, index]
        is_changed = (after.image != before.image).any(dim=0).numpy()
        masks = masks_of(after.target)
        assert masks.any(axis=(1, 2)).all()
        # a pixel that changed belongs to an object
        assert (masks.any(axis=0) | ~is_changed).all()
        if task == "panoptic":
            assert masks.sum(axis=0).max() <= 1
        gained += len(after.target.labels) > len(before.target.labels)
    assert gained >= 4
