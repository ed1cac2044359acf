"""What is planned from what trials say; the trials are fakes but for one whole run."""

import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from mask2former.config import Run
from mask2former.config_io import merge, parse_run, read_run, without_plan
from mask2former.data.synthetic import write_synthetic
from mask2former.presets import find_preset
from mask2former.training.memory import needs
from mask2former.training.memory import plan as planning
from mask2former.training.memory.fitting import largest_that_fits
from mask2former.training.memory.memory_limit import Room
from mask2former.training.memory.peak import Peak, measure_peak
from mask2former.training.memory.plan import make_plan, plan_together
from mask2former.training.memory.trials import EvaluationPass, TrainingStep, Work

CPU = torch.device("cpu")
MIB = 2**20


def tiny(**training: object) -> Run:
    run = find_preset("tiny").run("panoptic")
    return run.model_copy(update={"training": run.training.model_copy(update=training)})


class Linear:
    """Trials that take 1000 MiB, 100 an image, half of that where activations are recomputed."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []

    def __call__(self, work: Work, device: torch.device) -> Peak:  # noqa: ARG002
        if isinstance(work, EvaluationPass):
            return Peak(700 * MIB, 0)
        recomputes = work.run.training.checkpoint_activations
        self.asked.append((work.images, recomputes))
        pixels = work.run.data.augmentation.crop[0] / 128
        each = int((50 if recomputes else 100) * pixels**2)
        return Peak((1000 + each * work.images) * MIB, 0)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch):
    """Sets what a process may take, in MiB."""

    def give(mib: int) -> None:
        monkeypatch.setattr(planning, "find_room", lambda *_, **__: Room(mib * MIB, "as a test"))
        monkeypatch.setattr(needs, "own_memory", lambda _: 0)

    return give


def test_two_trials_and_a_third_find_the_largest_of_a_line() -> None:
    asked = []

    def need(images: int) -> int:
        asked.append(images)
        return 10 + 3 * images

    # 10 + 3 n <= 41 up to n = 10
    assert largest_that_fits(need, room=41, most=64).images == 10
    assert asked == [1, 2, 10]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("room", [0, 3, 8, 9, 26, 27, 40, 10**6])
@pytest.mark.parametrize(
    "need",
    [
        lambda n: 3 * n,
        lambda n: n**3,
        lambda n: 8 + (n > 2) * 18 + (n > 5) * 14,
        lambda _: 8,
        lambda n: None if n > 4 else 9 * n,
    ],
    ids=["line", "cubic", "steps", "constant", "not enough"],
)
def test_what_is_found_fits_and_is_found_by_a_trial(need, room: int, most: int) -> None:
    found = largest_that_fits(need, room, most)
    fitting = [n for n in range(1, most + 1) if need(n) is not None and need(n) <= room]
    assert found.images in [0, *fitting]
    assert (found.images == 0) == (not fitting)
    assert found.bytes == need(max(found.images, 1))


@pytest.mark.parametrize("room", range(1, 70, 5))
def test_halving_finds_the_largest_where_need_rises_faster_than_a_line(room: int) -> None:
    found = largest_that_fits(lambda n: n * n, room, most=7)
    assert found.images == max(n for n in range(8) if n * n <= room)


def test_the_batch_stays_and_its_passes_are_alike(room) -> None:
    room(1560)
    measure = Linear()
    plan = make_plan(tiny(batch_size=16), 7, device=CPU, processes=2, measure=measure)
    # 1000 + 100 n <= 1560 up to 5; 8 images of a process go in 2 passes, of 4 rather than 5 and 3
    assert (plan.images_per_pass, plan.checkpoint_activations) == (4, False)
    assert [images for images, _ in measure.asked] == [1, 2, 5]
    told = plan.explain()
    assert "a step's 16 images on 2 processes are 8 each: in passes of 4, 4" in told
    assert "100 MiB for every further image: 5 images should fit" in told
    run = plan.apply(tiny(batch_size=16, fit_memory="auto"))
    assert run.training.fit_memory is None
    assert (run.training.batch_size, run.training.images_per_pass) == (16, 4)


def test_a_batch_that_fits_goes_at_once(room) -> None:
    room(5000)
    plan = make_plan(tiny(), 7, device=CPU, sizes=((128, 160),), measure=Linear())
    # a number all the same: with fewer processes a part of a step is no larger
    assert (plan.images_per_pass, plan.evaluation_bytes) == (4, 700 * MIB)
    assert "a step's 4 images: all at once" in plan.explain()
    assert "evaluation of an image of 128 x 160 px: 700 MiB, fits" in plan.explain()


def test_images_per_pass_that_were_asked_for_are_not_exceeded(room) -> None:
    room(5000)
    measure = Linear()
    plan = make_plan(tiny(images_per_pass=2), 7, device=CPU, measure=measure)
    assert plan.images_per_pass == 2
    assert max(images for images, _ in measure.asked) == 2


def test_activations_are_recomputed_only_where_one_image_does_not_fit(room) -> None:
    room(1099)
    plan = make_plan(tiny(), 7, device=CPU, measure=Linear())
    assert (plan.images_per_pass, plan.checkpoint_activations) == (1, True)
    room(1100)
    plan = make_plan(tiny(), 7, device=CPU, measure=Linear())
    assert (plan.images_per_pass, plan.checkpoint_activations) == (1, False)


def test_loader_processes_are_counted_on_a_cpu(room) -> None:
    room(1560)
    run = tiny()
    run = run.model_copy(update={"data": run.data.model_copy(update={"workers": 4})})
    # 4 x 100 MiB and some batches leave room for one image
    assert make_plan(run, 7, device=CPU, measure=Linear()).images_per_pass == 1
    assert make_plan(tiny(), 7, device=CPU, measure=Linear()).images_per_pass == 4


def test_where_nothing_fits_the_knobs_are_told_with_what_they_save(room) -> None:
    room(1020)
    message = (
        r"one image of 128 x 128 px at a time takes 1.03 GiB, and 1020 MiB may be used .*"
        r"\n  --set data.augmentation.crop=\[64,64\]: 1012 MiB, fits"
        r"\n  --set loss.num_points=256: 1.03 GiB, does not fit into 1020 MiB"
    )
    with pytest.raises(ValueError, match=message):
        make_plan(tiny(), 7, device=CPU, measure=Linear())


def test_an_evaluation_that_does_not_fit_is_told_before_the_run(room) -> None:
    room(690)
    message = r"700 MiB, does not fit into 690 MiB. Make .*--set data.test_size.short_side=64"
    with pytest.raises(ValueError, match=message):
        make_plan(tiny(), 7, device=CPU, sizes=((128, 160),), measure=Linear())


def test_a_plan_bounds_the_next_one_only_where_that_is_not_asked_for(room) -> None:
    room(1100)
    measure = Linear()
    first = make_plan(tiny(batch_size=8, fit_memory="auto"), 7, device=CPU, measure=measure)
    written = first.apply(tiny(batch_size=8)).model_dump()
    assert written["training"]["images_per_pass"] == 1
    room(5000)
    for later, images in (({}, 1), ({"training": {"fit_memory": "auto"}}, 8)):
        run = parse_run(merge(tiny().model_dump(), merge(without_plan(written, [later]), later)))
        assert make_plan(run, 7, device=CPU, measure=measure).images_per_pass == images


def test_a_larger_machine_keeps_activations_that_a_smaller_one_did_not(room) -> None:
    room(1099)
    written = make_plan(tiny(), 7, device=CPU, measure=Linear()).apply(tiny()).model_dump()
    assert written["training"]["checkpoint_activations"]
    room(5000)
    later = {"training": {"fit_memory": 2**40}}
    run = parse_run(merge(tiny().model_dump(), merge(without_plan(written, [later]), later)))
    plan = make_plan(run, 7, device=CPU, measure=Linear())
    assert (plan.images_per_pass, plan.checkpoint_activations) == (4, False)


def test_a_model_that_is_divided_is_not_planned_for() -> None:
    run = tiny(fit_memory="auto", strategy="fsdp")
    message = r"fsdp in 2 processes .* whole model; set training.images_per_pass"
    with pytest.raises(ValueError, match=message):
        make_plan(run, 7, device=CPU, processes=2, measure=Linear())


@pytest.mark.parametrize(
    ("others", "sharing"), [(["gpu 1", "gpu 2", "gpu 3"], 1), (["gpu 1", "gpu 0", "gpu 1"], 2)]
)
def test_rank_0_plans_with_how_many_share_a_device(
    monkeypatch, room, others: list[str], sharing: int
) -> None:
    room(5000)
    asked = []

    def find_room(device: torch.device, *, sharing: int, limit: int | None) -> Room:
        asked.append((device, sharing, limit))
        return Room(1560 * MIB, "as a test")

    monkeypatch.setattr(planning, "find_room", find_room)
    monkeypatch.setattr(planning, "identify_device", lambda _: ("here", "gpu 0"))
    monkeypatch.setattr(planning, "gather", lambda own: [own, *(("here", o) for o in others)])
    monkeypatch.setattr(planning, "world_size", lambda: 4)
    whole_plan = partial(make_plan, measure=Linear())
    monkeypatch.setattr(planning, "make_plan", whole_plan)
    run = plan_together(tiny(batch_size=16, fit_memory="auto"), 7, device=CPU, validation=None)
    assert asked == [(CPU, sharing, None)]
    assert (run.training.images_per_pass, run.training.fit_memory) == (4, None)


def test_the_others_take_the_plan_of_rank_0_and_its_refusal(monkeypatch, room) -> None:
    room(1250)
    plan = make_plan(tiny(), 7, device=CPU, measure=Linear())
    monkeypatch.setattr(planning, "gather", lambda _: None)
    monkeypatch.setattr(planning, "is_main", lambda: False)
    monkeypatch.setattr(planning, "broadcast", lambda _: plan)
    run = plan_together(tiny(fit_memory="auto"), 7, device=CPU, validation=None)
    assert run.training.images_per_pass == 2
    monkeypatch.setattr(planning, "broadcast", lambda _: ValueError("nothing fits"))
    with pytest.raises(ValueError, match="nothing fits"):
        plan_together(tiny(fit_memory="auto"), 7, device=CPU, validation=None)


def test_batches_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ValueError, match=r"batch of 4 images cannot be shared .* multiple of 3"):
        make_plan(tiny(fit_memory=2**40), 7, device=CPU, processes=3, measure=Linear())


CROP = 512
SIZES = {
    "data.augmentation.crop": [CROP, CROP],
    "data.augmentation.short_sides": [CROP],
    "data.augmentation.max_long_side": 640,
    "data.test_size.short_side": 256,
    "training.log_every": 1,
}


def peak_of(command: list[str], log: Path) -> int:
    """Bytes that a process had resident at the most; what it says of errors goes to a file."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    peak = 0
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        ) as process,
    ):
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)  # a process that has ended has none
            peak = max(peak, int(found[1]) * 1024 if found else 0)
            time.sleep(0.02)
    assert process.returncode == 0, log.read_text()
    return peak


@pytest.mark.runs
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="peaks of other processes are Linux's to tell")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
def test_a_run_stays_below_its_limit_where_it_would_not(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", train_images=8, val_images=1, size=(CROP, 640), seed=0)
    limit = 1750 * MIB
    words = ["--data", str(tmp_path / "data"), "--preset", "tiny", "--task", "panoptic"]
    words += ["--steps", "2", "--device", "cpu", "--output", str(tmp_path / "run")]
    words += [word for key, value in SIZES.items() for word in ("--set", f"{key}={value}")]
    words += ["--set", "training.batch_size=8", "--batch", "auto", "--memory-limit", str(limit)]
    command = [sys.executable, "-m", "mask2former", "train", *words]
    assert peak_of(command, tmp_path / "errors.txt") < limit
    run = read_run(tmp_path / "run/config.yaml")
    assert run.training.fit_memory is None
    assert run.training.batch_size == 8
    assert run.training.images_per_pass in (1, 2)
    assert "plan: a step's 8 images: in passes of" in (tmp_path / "errors.txt").read_text()
    # the limit binds: the whole batch at once takes more
    whole = TrainingStep(run, num_classes=7, images=8, of_batch=8)
    at_once = measure_peak(whole, CPU).bytes
    assert at_once is not None
    assert at_once > limit
