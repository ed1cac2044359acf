"""Runs that will come to nothing are told of early; those that will not are left in peace."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.data.augmentation import geometry_drawer
from mask2former.data.synthetic import write_synthetic
from mask2former.masks.packed import pack_masks
from mask2former.presets import all_presets, find_preset
from mask2former.training.guards.drawn_objects import (
    ALWAYS,
    MOSTLY_EMPTY,
    DrawnObjects,
    always_empty,
    empty_masks,
    mostly_empty,
    too_many_objects,
    unseen_classes,
)
from mask2former.training.guards.early_warnings import (
    EarlyWarnings,
    augmentation_knobs,
    constant_loss,
    names_without_gradient,
    no_gradients,
    zero_rates,
)
from mask2former.training.optimizer import parameter_groups
from mask2former.training.train import train
from mask2former.types import Batch, Classes, Target

CLASSES = Classes(("cat", "dog", "cow"), (1, 2, 3), (True, True, False))
SIZES = {"COCO": (480, 640), "ADE20K": (512, 683), "Cityscapes": (1024, 2048),
         "Mapillary Vistas": (2448, 3264)}  # fmt: skip
"""(height, width) that are usual in each."""


def target(labels: list[int], empty: set[int] = frozenset(), size=(5, 7)) -> Target:
    """Objects of one pixel, but for those that are empty."""
    masks = np.zeros((len(labels), *size), bool)
    for i in range(len(labels)):
        masks[i, i % size[0], i % size[1]] = i not in empty
    return Target(torch.tensor(labels, dtype=torch.int64), pack_masks(masks))


def drawn_of(*targets: Target, num_queries: int = 100) -> DrawnObjects:
    drawn = DrawnObjects.none_of(len(CLASSES))
    drawn.count(targets, num_queries)
    return drawn


@pytest.mark.parametrize("num_masks", [0, 1, 8, 9, 20])
def test_empty_masks_are_those_without_a_pixel(num_masks: int) -> None:
    masks = np.random.default_rng(num_masks).random((num_masks, 6, 7)) < 0.03
    found = empty_masks(Target(torch.zeros(num_masks, dtype=torch.int64), pack_masks(masks)))
    np.testing.assert_array_equal(found, ~masks.any(axis=(1, 2)))


def test_counts_of_ranks_add_up() -> None:
    targets = [target([0, 0, 2], {1}), target([2], {0}), target([])]
    parts = drawn_of(*targets[:1], num_queries=2) + drawn_of(*targets[1:], num_queries=2)
    assert parts == drawn_of(*targets, num_queries=2)
    assert parts.objects == [2, 0, 2]
    assert parts.empty == [1, 0, 1]
    assert parts.images_with == [1, 0, 2]
    assert parts.images_blank == [0, 0, 1]
    assert (parts.images, parts.crowded, parts.dropped) == (3, 1, 1)
    assert DrawnObjects(**parts.state_dict()) == parts


def test_classes_that_were_never_seen_are_named() -> None:
    told = unseen_classes(drawn_of(target([0, 2])), CLASSES)
    assert told is not None
    assert told.startswith("1 of 3 classes had no object in the 1 images of the first epoch: 'dog'")
    assert unseen_classes(drawn_of(target([0, 2]), target([1])), CLASSES) is None


def test_empty_masks_are_told_of_when_nearly_all_are() -> None:
    # 19 of 20 are more than 0.9 of them, 18 are not
    told = mostly_empty(drawn_of(target([0] * 20, set(range(19)))), "the crop")
    assert told == (
        "19 of 20 objects of the first epoch had an empty mask, because augmentation cut them "
        "away; see the crop"
    )
    assert mostly_empty(drawn_of(target([0] * 20, set(range(18)))), "the crop") is None
    assert mostly_empty(drawn_of(target([])), "the crop") is None


def test_a_class_without_a_pixel_is_named_when_that_is_no_chance() -> None:
    images = [target([0, 1], {1}) for _ in range(ALWAYS)]
    told = always_empty(drawn_of(*images), CLASSES, "the crop")
    assert told is not None
    assert told.startswith("the masks of 'dog' were empty in every image of the first epoch")
    assert always_empty(drawn_of(*images[1:]), CLASSES, "the crop") is None
    assert always_empty(drawn_of(*images, target([1])), CLASSES, "the crop") is None


def test_objects_without_a_query_are_counted() -> None:
    told = too_many_objects(drawn_of(target([0] * 5), target([1] * 3), num_queries=3), 3)
    assert told is not None
    assert told.startswith("1 of the 2 images")
    assert "2 of 8 objects were not learned from; raise model.num_queries" in told
    assert too_many_objects(drawn_of(target([0] * 3), num_queries=3), 3) is None


@pytest.mark.parametrize("name", [n for n, p in all_presets().items() if p.data in SIZES])
def test_published_augmentations_leave_enough_of_small_objects(name: str) -> None:
    preset = find_preset(name)
    draw = geometry_drawer(preset.run().data.augmentation)
    generator = np.random.default_rng(0)
    kept = []
    for _ in range(400):
        # of an object of one point, anywhere in the image
        geometry = draw(SIZES[preset.data], generator)
        inside = np.prod(np.array(geometry.crop) / np.array(geometry.resized))
        kept.append(min(1.0, inside))
    assert 1 - np.mean(kept) < MOSTLY_EMPTY - 0.05


def test_rates_of_zero_are_told_of() -> None:
    groups = [{"lr": 0.1, "names": ["a"]}, {"lr": 0.0, "names": ["b", "c"]}]
    told = zero_rates(groups, 7)
    assert told is not None
    assert told.startswith("the learning rate of 2 parameters is 0 in step 7, such as b; freeze")
    told = zero_rates([{"lr": 0.0, "names": ["a"]}], 7)
    assert told is not None
    assert told.startswith("the learning rate of step 7 is 0, so nothing is learned")
    assert zero_rates([{"lr": 1e-9, "names": ["a"]}], 7) is None


@pytest.mark.parametrize("name", list(all_presets()))
def test_published_schedules_never_come_to_zero(name: str) -> None:
    from mask2former.training.schedule import learning_rate_factor

    run = find_preset(name).run()
    steps = run.training.steps or 1000
    places = {0, 1, steps // 2, steps - 2}
    assert all(learning_rate_factor(run.schedule, step, steps) > 0 for step in places)


def test_parameters_without_a_gradient_are_named() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 3), "unused": nn.Linear(2, 3)})
    groups = parameter_groups(model, find_preset("tiny").run().optimizer)
    model["backbone"](torch.ones(1, 2)).sum().backward()
    without = names_without_gradient(groups)
    assert without == {"unused.weight", "unused.bias"}
    told = no_gradients(sorted(without))
    assert told is not None
    assert told.startswith("2 parameters got no gradient in the first 10 steps")
    assert no_gradients([]) is None


def test_a_loss_is_constant_when_no_step_differs() -> None:
    told = constant_loss([3.5] * 4)
    assert told is not None
    assert told.startswith("the loss was 3.5 in each of 4 steps")
    assert constant_loss([3.5, 3.5001, 3.5]) is None
    assert constant_loss([float("nan"), 1.0]) is None


def test_knobs_are_those_of_the_augmentation() -> None:
    sides = augmentation_knobs(find_preset("cityscapes-instance-resnet50").run())
    assert sides == "data.augmentation.crop (512 x 1024) and data.augmentation.short_sides " + (
        "(512 to 2048)"
    )
    scales = augmentation_knobs(find_preset("coco-instance-resnet50").run())
    assert "min_scale, max_scale (0.1 to 2.0)" in scales


def test_each_warning_is_logged_once_and_remembered(caplog: pytest.LogCaptureFixture) -> None:
    run = find_preset("tiny").run()
    callback = EarlyWarnings(run, CLASSES, epoch_length=4, num_steps=9)
    callback.look(Batch([], [target([0])], [1], [2]))
    with caplog.at_level(logging.WARNING):
        callback.tell("x", "first")
        callback.tell("x", "again")
        callback.tell("y", None)
    assert [record.message for record in caplog.records] == ["first"]
    other = EarlyWarnings(run, CLASSES, epoch_length=4, num_steps=9)
    other.load_state_dict(callback.state_dict())
    assert (other.told, other.drawn) == ({"x"}, callback.drawn)


def run_on(data: Path, steps: int, **model: object) -> Run:
    """As the quickstart trains, on smaller pictures."""
    changes = {
        "preset": "tiny",
        "data": {
            "path": data,
            "augmentation": {"crop": (64, 64), "short_sides": (64, 80)},
            "test_size": {"short_side": 64},
            "workers": 0,
        },
        "model": {"decoder_layers": 1, "encoder_layers": 1, **model},
        "loss": {"num_points": 64},
        "training": {"steps": steps, "eval_every": steps, "batch_size": 2, "loggers": ()},
    }
    return compose_run(changes, lambda: ("panoptic",))


@pytest.mark.runs
@pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
def test_a_run_like_the_quickstart_is_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    write_synthetic(data, train_images=24, val_images=1, size=(64, 80), seed=0)
    with caplog.at_level(logging.WARNING, "mask2former.training.guards.early_warnings"):
        train(run_on(data, 51), tmp_path / "run", device="cpu", progress=False)
    assert [r.message for r in caplog.records if "early_warnings" in r.name] == []
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    [kept] = [v for k, v in state["callbacks"].items() if "EarlyWarnings" in k]
    # 24 of the epoch and twice a batch
    assert kept["is_epoch_judged"]
    assert kept["drawn"]["images"] == 28


@pytest.mark.runs
@pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
def test_a_run_with_too_few_queries_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    write_synthetic(data, train_images=4, val_images=1, size=(64, 80), seed=0)
    run = run_on(data, 6, num_queries=1)
    with caplog.at_level(logging.WARNING, "mask2former.training.guards.early_warnings"):
        train(run, tmp_path / "run", device="cpu", progress=False)
    told = [r.message for r in caplog.records if "early_warnings" in r.name]
    assert sum("more objects than the model has queries (1)" in text for text in told) == 1
