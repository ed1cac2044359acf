from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mask2former.data.annotations import Annotations, Instance, Instances, SegmentLabel, SegmentMap
from mask2former.data.batching import collate
from mask2former.data.dataset import Dataset, Record
from mask2former.data.derive import for_task
from mask2former.data.geometry import large_scale_jitter
from mask2former.data.sampling import TrainingBatches
from mask2former.data.training_data import (
    TrainingData,
    classes_per_image,
    landscape_flags,
    without_empty_images,
)
from mask2former.masks.packed import unpack_masks
from mask2former.types import Classes, Sample

SIZES = [(20, 34), (34, 20), (20, 20)]
JITTER = partial(
    large_scale_jitter, crop=(24, 32), min_scale=0.5, max_scale=2.0, flip_probability=0.5
)


def disc(record: Record) -> Instances:
    """As many objects as the record says, all the same."""
    assert record.height
    assert record.width
    angles = np.arange(16) * np.pi / 8
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * 6 + (10, 9)
    item = Instance(1, (points,), False, 113.0)
    return Instances(record.height, record.width, (item,) * record.annotation)


def write_dataset(folder: Path, counts: list[int]) -> Dataset:
    rng = np.random.default_rng(0)
    records = []
    for i, ((height, width), count) in enumerate(zip(SIZES, counts, strict=False)):
        path = folder / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        records.append(Record(i, path, count, height, width, num_objects=count))
    classes = Classes(("a", "b"), (1, 2), (True, True))
    return Dataset("fake", folder, "train", classes, ("instance",), records, disc)


def training_data(dataset: Dataset, *, color_jitter: bool = True) -> TrainingData:
    return TrainingData(
        without_empty_images(dataset),
        "instance",
        draw_geometry=JITTER,
        color_jitter=color_jitter,
        keep_emptied=True,
    )


def same(first: Sample, second: Sample) -> bool:
    return (
        torch.equal(first.image, second.image)
        and torch.equal(first.target.labels, second.target.labels)
        and torch.equal(first.target.masks, second.target.masks)
        and first.image_id == second.image_id
    )


def test_sample_depends_on_its_request_alone(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [2, 1, 1]))
    sample = data[0, 17]
    _ = data[1, 3], np.random.random(), torch.rand(1)  # noqa: NPY002 disturbs global generators
    assert same(sample, data[0, 17])
    assert same(sample, training_data(data.dataset)[0, 17])
    assert not same(sample, data[0, 18])


def test_sample_has_the_size_of_the_crop_and_its_masks(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [2, 1, 1]))
    sample = data[0, 3]
    assert sample.image.shape == (3, 24, 32)
    assert sample.image.dtype == torch.uint8
    assert sample.target.masks.shape == (24, 32, 1)
    assert sample.target.labels.tolist() == [1, 1]
    assert sample.image_id == 0
    first, second = unpack_masks(sample.target.masks, 2)
    assert torch.equal(first, second)
    assert first.any()


def test_colour_jitter_leaves_geometry_alone(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [2, 1, 1])
    plain = [training_data(dataset, color_jitter=False)[0, seed] for seed in range(8)]
    colored = [training_data(dataset)[0, seed] for seed in range(8)]
    for a, b in zip(plain, colored, strict=True):
        assert torch.equal(a.target.masks, b.target.masks)
    assert any(not torch.equal(a.image, b.image) for a, b in zip(plain, colored, strict=True))


def test_workers_give_the_samples_of_one_process(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [2, 1, 1]))

    def load(workers: int) -> list[Sample]:
        batches = TrainingBatches(len(data), batch_size=2, seed=4)
        loader = iter(
            DataLoader(data, batch_sampler=batches, num_workers=workers, collate_fn=collate)
        )
        drawn = [next(loader) for _ in range(2)]
        return [Sample(*s) for b in drawn for s in zip(*b, strict=True)]

    assert all(same(a, b) for a, b in zip(load(0), load(2), strict=True))


def test_images_without_objects_are_left_out(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [0, 3, 0])
    assert [record.image_id for record in without_empty_images(dataset).records] == [1]
    assert training_data(dataset)[0, 5].image_id == 1


def test_images_of_other_formats_are_all_kept(tmp_path: Path) -> None:
    records = [Record(i, tmp_path / "a.png", None) for i in range(3)]
    dataset = Dataset(
        "fake", tmp_path, "train", Classes(("a",), (1,), (True,)), ("panoptic",), records, disc
    )
    assert without_empty_images(dataset) is dataset


def test_split_without_any_object_is_refused(tmp_path: Path) -> None:
    message = r"split 'train' of .* has 3 images and none with an object; annotate some or choose"
    with pytest.raises(ValueError, match=message):
        training_data(write_dataset(tmp_path, [0, 0, 0]))


def test_unreadable_image_stops_training_with_its_path(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [1, 1, 1]))
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*1\.png"):
        data[1, 0]


def test_image_of_another_size_than_its_annotations_is_named(tmp_path: Path) -> None:
    data = training_data(write_dataset(tmp_path, [1, 1, 1]))
    Image.new("RGB", (9, 8)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1\.png has size .* \(8, 9\) but .* at \(34, 20\)"):
        data[1, 0]


def read_two_segments(record: Record) -> Annotations:
    ids = np.ones((20, 34), np.int32)
    ids[:, 17:] = 2
    return SegmentMap(ids, (SegmentLabel(1, 1), SegmentLabel(2, 1)))


def test_annotations_are_converted_for_the_task(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [1])
    dataset = Dataset(
        "fake",
        tmp_path,
        "train",
        dataset.classes,
        ("panoptic", "semantic"),
        dataset.records,
        read_two_segments,
    )
    semantic = TrainingData(
        dataset, "semantic", draw_geometry=JITTER, color_jitter=False, keep_emptied=False
    )
    assert semantic[0, 0].target.labels.tolist() == [1]


def read_crowd(record: Record) -> Instances:
    found = disc(record)
    crowd = replace(found.items[0], class_id=0, is_crowd=True)
    return replace(found, items=(crowd, *found.items))


def test_classes_of_an_image_are_those_of_its_objects_but_not_of_crowds(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [1, 2, 1])
    assert classes_per_image(for_task(dataset, "instance")) == [frozenset({1})] * 3
    crowded = replace(dataset, decode=read_crowd)
    assert classes_per_image(for_task(crowded, "instance")) == [frozenset({1})] * 3


def test_semantic_data_sets_keep_images_without_objects(tmp_path: Path) -> None:
    dataset = replace(write_dataset(tmp_path, [0, 3, 0]), tasks=("instance", "semantic"))
    assert len(without_empty_images(for_task(dataset, "semantic"))) == 3


def test_square_and_high_images_are_no_landscapes(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [1, 1, 1])
    assert landscape_flags(dataset).tolist() == [True, False, False]


def test_orientation_is_read_from_the_image_when_no_file_tells(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, [1, 1, 1])
    records = [Record(r.image_id, r.image, r.annotation) for r in dataset.records]
    silent = Dataset("fake", tmp_path, "train", dataset.classes, ("semantic",), records, disc)
    assert landscape_flags(silent).tolist() == [True, False, False]
