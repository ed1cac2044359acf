"""Half precision reaches the metrics of float32: run with `pytest -m gpu` where there is a GPU.

A model learns the drawn data in each precision from two seeds. Two seeds in float32 tell how much
a metric moves by chance.
"""

import json
import statistics
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from mask2former.config_io import compose_run
from mask2former.data.synthetic import write_synthetic
from mask2former.training.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
    pytest.mark.timeout(600),  # the first of these tests waits for the runs in float32
]
STEPS = 200
SEEDS = (0, 1)
LEAST_PQ = 25.0
"""That a model which learns has by then: an untrained one has about 0."""


class Outcome(NamedTuple):
    """Of a run."""

    loss: float
    """Mean of the last quarter."""
    pq: float


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=200, val_images=24, size=(128, 160), seed=0)
    return folder


def outcome(data: Path, output: Path, precision: str, seed: int) -> Outcome:
    changes = {
        "preset": "tiny",
        "data": {"path": data, "workers": 4},
        "training": {
            "steps": STEPS,
            "eval_every": STEPS,
            "log_every": 5,
            "loggers": (),
            "precision": precision,
            "seed": seed,
        },
    }
    run = compose_run(changes, lambda: ("panoptic",))
    metrics = train(run, output, device="cuda", progress=False).metrics
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line and line["step"] > STEPS * 3 / 4]
    return Outcome(statistics.fmean(losses), metrics["PQ"])


@pytest.fixture(scope="module")
def in_float32(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    folder = tmp_path_factory.mktemp("float32")
    return [outcome(data, folder / str(seed), "32-true", seed) for seed in SEEDS]


def test_float32_learns(in_float32: list[Outcome]) -> None:
    assert all(each.pq > LEAST_PQ for each in in_float32)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_reaches_the_metrics_of_float32(
    data: Path, tmp_path: Path, in_float32: list[Outcome], precision: str
) -> None:
    half = [outcome(data, tmp_path / str(seed), precision, seed) for seed in SEEDS]
    loss_noise, pq_noise = (abs(a - b) for a, b in zip(*in_float32, strict=True))
    loss, pq = map(statistics.fmean, zip(*half, strict=True))
    full_loss, full_pq = map(statistics.fmean, zip(*in_float32, strict=True))
    # Two runs tell their noise badly: below these bounds a difference may be chance in any case.
    assert abs(loss - full_loss) < max(0.05 * full_loss, 2 * loss_noise)
    assert pq > full_pq - max(8.0, 2 * pq_noise)
