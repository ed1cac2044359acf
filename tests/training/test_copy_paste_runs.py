"""Whole runs whose images get objects of others."""

from pathlib import Path

import pytest
import torch

from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.data.synthetic import write_synthetic
from mask2former.training.module import TrainingModule
from mask2former.training.train import train
from mask2former.types import Batch
from mask2former.weights.open import read

pytestmark = [
    pytest.mark.runs,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=6, val_images=2, size=(64, 80), seed=0)
    return folder


def tiny_run(data: Path, copy_paste: float, workers: int = 0, task: str = "panoptic") -> Run:
    changes = {
        "preset": "tiny",
        "task": task,
        "data": {
            "path": data,
            "augmentation": {"crop": (64, 64), "short_sides": (64, 80)},
            "copy_paste": copy_paste,
            "test_size": {"short_side": 64},
            "workers": workers,
        },
        "model": {"decoder_layers": 2, "encoder_layers": 1, "num_queries": 8},
        "loss": {"num_points": 64},
        "training": {"steps": 4, "eval_every": 2, "log_every": 1, "batch_size": 2},
    }
    return compose_run(changes, lambda: ("panoptic",))


@pytest.fixture(scope="module")
def pasted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that never stopped."""
    output = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_run(data, 0.5), output, device="cpu", progress=False)
    return output


def equal_weights(folder: Path, other: Path) -> bool:
    ours, theirs = (read(f / "weights/last.safetensors").weights for f in (folder, other))
    return all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_pastes_the_same_objects(
    data: Path, tmp_path: Path, pasted: Path, workers: int
) -> None:
    class StopError(Exception):
        pass

    step = TrainingModule.training_step

    def stop_at_step_3(self: TrainingModule, batch: Batch, batch_idx: int) -> object:
        if self.global_step == 3:
            raise StopError
        return step(self, batch, batch_idx)

    run, output = tiny_run(data, 0.5, workers), tmp_path / "broken"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stop_at_step_3)
        with pytest.raises(StopError):
            train(run, output, device="cpu", progress=False)
    train(run, output, device="cpu", progress=False, resume=True)
    assert equal_weights(pasted, output)


def test_pasting_changes_what_is_learnt(data: Path, tmp_path: Path, pasted: Path) -> None:
    train(tiny_run(data, 0.0), tmp_path / "plain", device="cpu", progress=False)
    assert not equal_weights(pasted, tmp_path / "plain")


def test_a_run_for_semantic_segmentation_says_why_it_pastes_nothing(data, tmp_path) -> None:
    run = tiny_run(data, 0.5, task="semantic")
    with pytest.raises(ValueError, match=r"copy_paste = 0\.5 pastes objects .* map of classes has"):
        train(run, tmp_path / "run", device="cpu", progress=False)
