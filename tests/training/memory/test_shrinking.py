"""Steps that run out of memory and are repeated with less of it."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mask2former.config import Run
from mask2former.config_io import compose_run, write_run
from mask2former.data.synthetic import write_synthetic
from mask2former.training import data_parallel
from mask2former.training import module as module_file
from mask2former.training.module import TrainingModule
from mask2former.training.scoring import ScoreAndSave
from mask2former.training.train import train
from mask2former.weights.open import read

pytestmark = [
    pytest.mark.runs,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
]
FULL = "CUDA out of memory. Tried to allocate 20.00 MiB."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=6, val_images=1, size=(64, 80), seed=0)
    return folder


def small_run(data: Path, norm: str = "batch", **training: object) -> Run:
    changes = {
        "preset": "tiny",
        "data": {
            "path": data,
            "augmentation": {"crop": (64, 64), "short_sides": (64, 80)},
            "test_size": {"short_side": 64},
        },
        "model": {
            "backbone": {"norm": norm, "drop_path": 0.3},
            "decoder_layers": 2, "encoder_layers": 1, "num_queries": 6,
        },
        "loss": {"num_points": 64},
        "training": {"steps": 3, "eval_every": 3, "log_every": 1, "batch_size": 4, **training},
    }  # fmt: skip
    return compose_run(changes, lambda: ("panoptic",))


@pytest.fixture
def room_for_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of more fail when their predictions are there already."""
    real = module_file.predict

    def predict(model, batch):
        predicted = real(model, batch)
        if len(batch.images) > 1:
            raise torch.OutOfMemoryError(FULL)
        return predicted

    monkeypatch.setattr(module_file, "predict", predict)


def assert_equal_weights(folder: Path, other: Path) -> None:
    ours, theirs = (read(f / "weights/last.safetensors").weights for f in (folder, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.usefixtures("room_for_one_image")
def test_a_run_that_shrinks_equals_one_that_was_small_from_the_beginning(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(small_run(data, on_oom="shrink"), tmp_path / "run", device="cpu", progress=False)
    said = [r.message for r in caplog.records if "ran out of memory" in r.message]
    assert [text.partition(";")[0] for text in said] == ["step 1 ran out of memory"] * 2
    assert "training.images_per_pass=2: batch norm, which learns, sees fewer" in said[0]
    assert "training.images_per_pass=1: batch norm" in said[1]
    small = small_run(data, images_per_pass=1)
    train(small, tmp_path / "small", device="cpu", progress=False)
    assert_equal_weights(tmp_path / "run", tmp_path / "small")


@pytest.mark.usefixtures("room_for_one_image")
def test_without_leave_to_shrink_a_run_stops_and_says_what_takes_less(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(MemoryError, match=r"memory ran out in step 1 .*\n.*images_per_pass=2"):
        train(small_run(data), tmp_path / "run", device="cpu", progress=False)


def test_what_cannot_be_done_with_less_stops_after_all(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def predict(model, batch):
        tried.append(len(batch.images))
        raise MemoryError

    monkeypatch.setattr(module_file, "predict", predict)
    run = small_run(data, "frozen", on_oom="shrink")
    with pytest.raises(MemoryError, match=r"memory ran out in step 1 .*\n.*augmentation\.crop"):
        train(run, tmp_path / "run", device="cpu", progress=False)
    assert tried == [4, 2, 1, 1]


RANK_1_IS_SMALL = """
import sys
from pathlib import Path
import torch
from mask2former.config_io import read_run
from mask2former.distributed import rank
from mask2former.training import module
from mask2former.training.train import train

real = module.predict

def predict(model, batch):
    predicted = real(model, batch)
    if rank() == 1 and len(batch.images) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return predicted

module.predict = predict
train(read_run(Path(sys.argv[1])), Path(sys.argv[2]), device="cpu", progress=False)
"""


def test_one_of_two_processes_may_shrink(data: Path, tmp_path: Path) -> None:
    alone = small_run(data, "frozen")
    train(alone, tmp_path / "alone", device="cpu", progress=False)
    write_run(small_run(data, "frozen", on_oom="shrink"), tmp_path / "config.yaml")
    (tmp_path / "rank.py").write_text(RANK_1_IS_SMALL)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(tmp_path / "rank.py")]
    command += [str(tmp_path / "config.yaml"), str(tmp_path / "run")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    for line, other in zip(logged(tmp_path / "run"), logged(tmp_path / "alone"), strict=True):
        assert line.get("loss") == pytest.approx(other.get("loss"), rel=1e-5)


def logged(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if "loss" in line]


def test_a_resumed_run_remembers_that_it_shrank(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(data, on_oom="shrink", save_every=1)
    real_predict, real_step = module_file.predict, TrainingModule.training_step
    steps: list[int] = []

    def predict(model, batch):
        if steps[-1] == 0 and len(batch.images) > 1:
            raise torch.OutOfMemoryError(FULL)
        return real_predict(model, batch)

    def step(module, batch, batch_idx):
        steps.append(module.global_step)
        if stops and module.global_step == 2:
            raise InterruptedError
        return real_step(module, batch, batch_idx)

    monkeypatch.setattr(module_file, "predict", predict)
    monkeypatch.setattr(TrainingModule, "training_step", step)
    stops = False
    train(run, tmp_path / "whole", device="cpu", progress=False)
    stops = True
    with pytest.raises(InterruptedError):
        train(run, tmp_path / "broken", device="cpu", progress=False)
    stops = False
    train(run, tmp_path / "broken", device="cpu", progress=False, resume=True)
    assert steps == [0, 1, 2, 0, 1, 2, 2]
    assert_equal_weights(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize(
    ("patched", "where", "knob"),
    [
        ((ScoreAndSave, "_evaluate"), "in an evaluation", "data.test_size"),
        ((TrainingModule, "on_train_batch_start"), "outside", "data.workers"),
    ],
)
def test_memory_that_runs_out_elsewhere_is_told_as_such(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patched, where, knob
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(*patched, fail)
    run = small_run(data)
    data_part = run.data.model_copy(update={"workers": 1})
    run = run.model_copy(update={"data": data_part})
    with pytest.raises(MemoryError) as caught:
        train(run, tmp_path / "run", device="cpu", progress=False)
    assert f"memory ran out {where}" in str(caught.value)
    assert knob in str(caught.value)


def test_synchronised_norms_do_not_shrink_by_themselves(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_parallel, "world_size", lambda: 2)
    run = small_run(data, "sync", on_oom="shrink")
    with pytest.raises(ValueError, match=r"norm is sync and training\.on_oom is shrink"):
        data_parallel.make_strategy(run, torch.device("xpu", 0))
    data_parallel.make_strategy(run, torch.device("cpu"))
