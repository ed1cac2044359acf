"""The same batch, however it is divided: among processes, and in passes through the model."""

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
from mask2former.training.train import train
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
