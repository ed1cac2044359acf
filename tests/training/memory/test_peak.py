"""Trials take what a step takes, and leave everything as it was; limits are what systems say."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mask2former.config import LargeScaleJitter, Run, ShortestEdgeCrop
from mask2former.masks.packed import unpack_masks
from mask2former.presets import find_preset
from mask2former.training.memory import memory_limit
from mask2former.training.memory.memory_limit import find_room, groups_free
from mask2former.training.memory.peak import measure_peak
from mask2former.training.memory.trials import (
    EvaluationPass,
    TrainingStep,
    largest_training_size,
    synthetic_batch,
)

CPU = torch.device("cpu")
GIB = 2**30


def tiny(**training: object) -> Run:
    run = find_preset("tiny").run("panoptic")
    return run.model_copy(update={"training": run.training.model_copy(update=training)})


@pytest.mark.parametrize(
    ("augmentation", "size"),
    [
        (LargeScaleJitter(crop=(96, 128)), (96, 128)),
        (ShortestEdgeCrop(short_sides=(64,), max_long_side=90, crop=(32, 256)), (32, 256)),
        # YouTube-VIS: no crop, so that the longer side is bounded by its own limit
        (
            ShortestEdgeCrop(
                short_sides=(360, 480), max_long_side=1333, crop=(1333, 1333), pad_to_crop=False
            ),
            (480, 1333),
        ),
        # Cityscapes: a flat crop, which upright images do not fill
        (
            ShortestEdgeCrop(
                short_sides=(2048,), max_long_side=4096, crop=(512, 1024), pad_to_crop=False
            ),
            (512, 1024),
        ),
    ],
)
def test_the_largest_sample_is_what_the_augmentation_can_make(augmentation, size) -> None:
    assert largest_training_size(augmentation) == size


def test_made_up_images_have_targets_to_find() -> None:
    batch = synthetic_batch(tiny(), 3, 2, targets=5, device=CPU)
    assert [tuple(image.shape) for image in batch.images] == [(3, 128, 128)] * 2
    masks = unpack_masks(batch.targets[1].masks, 5)
    assert masks.flatten(1).any(dim=1).all()
    assert batch.targets[0].labels.tolist() == [0, 1, 2, 0, 1]
    assert batch.targets[0].masks.data_ptr() != batch.targets[1].masks.data_ptr()


def small(**training: object) -> Run:
    run = tiny(**training)
    augmentation = run.data.augmentation.model_copy(update={"crop": (64, 64)})
    return run.model_copy(
        update={
            "data": run.data.model_copy(update={"augmentation": augmentation}),
            "loss": run.loss.model_copy(update={"num_points": 64}),
        }
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_trial_is_a_whole_step(precision: str) -> None:
    options = {"precision": precision, "ema_decay": 0.9, "checkpoint_activations": True}
    TrainingStep(small(**options), 7, images=1, of_batch=2, keeps_gradients=True).work(CPU)


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_a_trial_evaluates_every_task(task: str) -> None:
    run = small().model_copy(update={"task": task})
    EvaluationPass(run, 7, sizes=((40, 70),)).work(CPU)


@pytest.mark.runs
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="peaks of processes are exact on Linux alone")
def test_more_images_take_more_and_this_process_does_not_notice() -> None:
    run = tiny()
    augmentation = run.data.augmentation.model_copy(update={"crop": (256, 256)})
    run = run.model_copy(
        update={"data": run.data.model_copy(update={"augmentation": augmentation})}
    )
    torch.manual_seed(5)
    before, resident = torch.get_rng_state(), memory_limit.own_memory(CPU)
    one, eight = (
        measure_peak(TrainingStep(run, 7, images, of_batch=8), CPU).bytes for images in (1, 8)
    )
    assert one is not None
    assert eight is not None
    # the last prediction alone, features of 64 channels at stride 4, is 1 MiB of an image
    assert eight - one > 7 * 2**20
    assert torch.equal(torch.get_rng_state(), before)
    assert memory_limit.own_memory(CPU) - resident < 16 * 2**20


@pytest.mark.runs
@pytest.mark.timeout(300)
def test_what_a_run_cannot_do_is_refused_by_its_trial() -> None:
    run = tiny()
    backbone = run.model.backbone.model_copy(update={"name": "no_such_net"})
    wrong = run.model_copy(update={"model": run.model.model_copy(update={"backbone": backbone})})
    with pytest.raises(ValueError, match="no_such_net"):
        measure_peak(TrainingStep(wrong, 7, 1, of_batch=1), CPU)


def test_room_is_what_is_free_less_a_part_and_what_a_process_has(monkeypatch) -> None:
    monkeypatch.setattr(memory_limit, "free_memory", lambda _: 20 * GIB)
    monkeypatch.setattr(memory_limit, "own_memory", lambda _: GIB)
    assert find_room(CPU).bytes == 19 * GIB
    assert find_room(CPU, sharing=2).bytes == 10 * GIB
    # 6 GiB less a tenth for two
    room = find_room(CPU, sharing=2, limit=6 * GIB)
    assert room == (int(2.7 * GIB), "6.00 GiB as given, less 10%, shared by 2")
    # more than there is was asked for
    assert find_room(CPU, limit=30 * GIB).bytes == 19 * GIB


def test_a_machine_that_says_nothing_wants_a_limit(monkeypatch) -> None:
    def unknown(_: torch.device) -> int:
        raise ValueError("give --memory-limit")

    monkeypatch.setattr(memory_limit, "free_memory", unknown)
    with pytest.raises(ValueError, match="give --memory-limit"):
        find_room(CPU)
    assert find_room(CPU, limit=6 * GIB).bytes == int(5.4 * GIB)


def write(files: dict[str, str], root: Path) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_groups_of_version_2_bound_memory_all_the_way_up(tmp_path: Path) -> None:
    write(
        {
            "proc/self/cgroup": "0::/slice/job\n",
            "groups/slice/job/memory.max": "max\n",
            "groups/slice/job/memory.current": "500\n",
            "groups/slice/memory.max": "1000\n",
            "groups/slice/memory.current": "700\n",
            "groups/slice/memory.stat": "anon 400\ninactive_file 250\n",
        },
        tmp_path,
    )
    # 1000 - 700 + 250 that would be given back
    assert list(groups_free(tmp_path / "proc", tmp_path / "groups")) == [550]


def test_groups_of_version_1_are_read_by_their_own_names(tmp_path: Path) -> None:
    write(
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/box/a\n0::/\n",
            "groups/memory/memory.limit_in_bytes": "9000\n",
            "groups/memory/memory.usage_in_bytes": "4000\n",
            "groups/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 30\n",
        },
        tmp_path,
    )
    # within a container the group's own folder is not visible
    assert list(groups_free(tmp_path / "proc", tmp_path / "groups")) == [5030]


def test_a_system_without_groups_has_no_bound(tmp_path: Path) -> None:
    assert list(groups_free(tmp_path, tmp_path)) == []


class Accelerator:
    """What `torch.accelerator` tells, of a device that has no memory left for a step."""

    def __init__(self) -> None:
        self.emptied = self.reset = 0

    def current_device_index(self) -> int:
        return 1

    def empty_cache(self) -> None:
        self.emptied += 1

    def reset_peak_memory_stats(self, _: torch.device) -> None:
        self.reset += 1

    def memory_reserved(self, _: torch.device) -> int:
        return 3

    def max_memory_reserved(self, _: torch.device) -> int:
        return 40

    def synchronize(self, _: torch.device) -> None:
        pass


class Done(TrainingStep):
    def work(self, device: torch.device) -> None:
        assert device.type == "meta"


class Full(TrainingStep):
    def work(self, device: torch.device) -> None:
        assert device.type == "meta"
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("index", [None, 0, 2])
@pytest.mark.parametrize(("kind", "peak"), [(Done, 40), (Full, None)])
def test_an_accelerator_is_left_as_it_was(monkeypatch, kind, peak, index: int | None) -> None:
    fake = Accelerator()
    for name in (n for n in dir(fake) if not n.startswith("_") and callable(getattr(fake, n))):
        monkeypatch.setattr(torch.accelerator, name, getattr(fake, name))
    forked = []

    @contextmanager
    def fork_rng(devices: list[int], *, device_type: str) -> Iterator[None]:
        forked.append((devices, device_type))
        yield
        forked.append("joined")

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    step = kind(tiny(), 7, 1, of_batch=1)
    assert measure_peak(step, torch.device("meta", index)) == (peak, 3)
    assert forked == [([1 if index is None else index], "meta"), "joined"]
    assert (fake.emptied, fake.reset) == (2, 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_trial_on_a_gpu_is_near_what_a_step_takes() -> None:
    device = torch.device("cuda", 0)
    state = torch.cuda.get_rng_state(device)
    step = TrainingStep(tiny(precision="32-true"), 7, images=4, of_batch=4)
    peak, idle = measure_peak(step, device)
    assert peak is not None
    assert peak > idle
    assert torch.equal(torch.cuda.get_rng_state(device), state)
    assert torch.accelerator.max_memory_allocated(device) <= idle
