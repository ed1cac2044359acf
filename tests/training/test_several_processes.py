"""The same batch, however it is divided: among processes, and in passes through the model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mask2former.config import Run
from mask2former.config_io import compose_run, write_run
from mask2former.data.synthetic import write_synthetic
from mask2former.training.module import TrainingModule
from mask2former.training.states.signals import Stopped
from mask2former.training.states.state import StateFiles
from mask2former.training.train import train
from mask2former.types import Batch
from mask2former.weights.build import build_model
from mask2former.weights.open import read

pytestmark = [
    pytest.mark.runs,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
]
STEPS = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures, two of which show no object."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=7, val_images=2, size=(64, 80), seed=0)
    path = folder / "annotations/panoptic_train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"][:2]:
        annotation["segments_info"] = []
    path.write_text(json.dumps(content))
    return folder


def small_run(data: Path, **training: object) -> Run:
    changes = {
        "preset": "tiny",
        "data": {
            "path": data,
            "augmentation": {"crop": (64, 64), "short_sides": (64, 80)},
            "test_size": {"short_side": 64},
        },
        "model": {
            "backbone": {"norm": "frozen", "drop_path": 0.3},
            "decoder_layers": 2, "encoder_layers": 1, "num_queries": 6,
        },
        # choosing the least certain points, and a high rate, make another run of a last bit
        "loss": {"num_points": 64, "importance_ratio": 0.0},
        "optimizer": {"learning_rate": 1e-4},
        "training": {
            "steps": STEPS, "eval_every": STEPS, "log_every": 1, "batch_size": 4, **training,
        },
    }  # fmt: skip
    return compose_run(changes, lambda: ("panoptic",))


def logged(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def movement(folder: Path, run: Run) -> torch.Tensor:
    """How far all weights have moved from where the run began."""
    loaded = read(folder / "weights/last.safetensors")
    torch.manual_seed(run.training.seed)
    start = build_model(run.model, 7).state_dict()
    moved = [loaded.weights[n].double() - t for n, t in start.items() if t.is_floating_point()]
    return torch.cat([tensor.flatten() for tensor in moved])


def assert_same(folder: Path, other: Path, run: Run) -> None:
    """Losses of every step and weights, to the accuracy of float32, which steps make worse."""
    for line, others in zip(logged(folder), logged(other), strict=True):
        tolerance = 1e-5 if line["step"] <= 5 else 1e-3
        for name in ("loss", "loss_class", "loss_mask", "loss_dice", "lr"):
            if name in line:
                assert line[name] == pytest.approx(others[name], rel=tolerance), (line, name)
    ours, theirs = movement(folder, run), movement(other, run)
    # Adam moves weights by their rate even where the gradient is but noise of the last bit
    assert (ours - theirs).norm() < 0.05 * theirs.norm()


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "alone"
    train(small_run(data), folder, device="cpu", progress=False)
    return folder


@pytest.mark.parametrize("images", [1, 3])
def test_passes_of_some_images_add_up_to_the_batch(
    data: Path, alone: Path, tmp_path: Path, images: int
) -> None:
    run = small_run(data, images_per_pass=images)
    train(run, tmp_path / "run", device="cpu", progress=False)
    assert_same(tmp_path / "run", alone, run)


@pytest.mark.parametrize("images_per_pass", [1])
def test_two_processes_train_as_one_does(
    data: Path, alone: Path, tmp_path: Path, images_per_pass: int | None
) -> None:
    run = small_run(data, images_per_pass=images_per_pass)
    write_run(run, tmp_path / "config.yaml")
    command = [sys.executable, "-m", "mask2former", "train", "--devices", "2", "--device", "cpu"]
    command += ["--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "run")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "run", alone, run)
    assert done.stdout.count("20 steps in") == 1


# Two ranks of `mask2former`, whose launcher gets in a step what SLURM sends before a job's end.
ANNOUNCED = """
import os, signal, sys, time
from mask2former.cli import main as cli
from mask2former.distributed import is_main
from mask2former.launch import launched, run_processes
from mask2former.training.module import TrainingModule

step, announced_in, *words = TrainingModule.training_step, *sys.argv[1:]

def announced_step(self, batch, batch_idx):
    losses = step(self, batch, batch_idx)
    if self.global_step == int(announced_in) and is_main():
        os.kill(os.getppid(), signal.SIGUSR1)
    if self.global_step >= int(announced_in):
        time.sleep(0.2)
    return losses

TrainingModule.training_step = announced_step
if launched():
    sys.exit(cli.main(words))
sys.exit(run_processes(2, sys.argv[1:], [__file__]))
"""


@contextmanager
def announced_in(step: int) -> Iterator[None]:
    """The same for a run in this process."""
    training_step = TrainingModule.training_step

    def announced_step(self: TrainingModule, batch: Batch, batch_idx: int) -> object:
        if self.global_step == step:
            signal.raise_signal(signal.SIGUSR1)
        return training_step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", announced_step)
        yield


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_a_run_goes_on_with_another_number_of_processes(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    run, output = small_run(data), tmp_path / "run"
    files = StateFiles(output / "checkpoints")
    with announced_in(5), pytest.raises(Stopped, match="SIGUSR1"):
        train(run, output, device="cpu", progress=False)
    assert files.newest_good().step == 6
    script = tmp_path / "announced.py"
    script.write_text(ANNOUNCED, encoding="utf-8")
    words = ["train", "--resume", "--device", "cpu", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, str(script), "12", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 128 + signal.SIGUSR1, done.stderr
    assert 12 <= files.newest_good().step < STEPS
    train(run, output, device="cpu", progress=False, resume=True)
    assert files.newest_good().step == STEPS
    assert_same(output, alone, run)
