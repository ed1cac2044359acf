"""Runs of two processes that share a model, and runs that go on from one another's states."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.data.synthetic import write_synthetic
from mask2former.distributed import is_main, joined
from mask2former.launch import end_with_launcher, run_processes
from mask2former.training.module import TrainingModule
from mask2former.training.train import train

pytestmark = [
    pytest.mark.runs,
    pytest.mark.timeout(300),  # five runs, of which the first test waits for all
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
]
STEPS, SAVED, KILLED = 6, 3, 4


def small_run(data: Path, strategy: str) -> Run:
    changes = {
        "preset": "tiny",
        "data": {
            "path": data,
            "augmentation": {"crop": (64, 64), "short_sides": (64, 80)},
            "test_size": {"short_side": 64},
            "workers": 0,
        },
        "model": {
            "backbone": {"norm": "frozen"},
            "decoder_layers": 2, "encoder_layers": 1, "num_queries": 10,
        },
        # choosing the least certain points, and a high rate, make another run of a last bit
        "loss": {"num_points": 64, "importance_ratio": 0.0},
        "optimizer": {"learning_rate": 1e-4},
        "training": {
            "steps": STEPS, "eval_every": SAVED, "log_every": 1, "batch_size": 4,
            "images_per_pass": 1, "ema_decay": 0.9, "strategy": strategy, "loggers": (),
        },
    }  # fmt: skip
    return compose_run(changes, lambda: ("panoptic",))


def train_and_copy(run: Run, folder: Path, copies: tuple[str, ...]) -> None:
    """Copies of the run's folder are what is left of it if it is killed in one of its steps."""
    training_step = TrainingModule.training_step

    def copied_in_a_step(self, batch, batch_idx):
        if self.global_step == KILLED and is_main():
            for name in copies:
                shutil.copytree(folder, folder.with_name(name))
        return training_step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", copied_in_a_step)
        train(run, folder, device="cpu", progress=False)


def run_rank(folder: Path) -> None:
    ddp, fsdp = (small_run(folder / "shapes", strategy) for strategy in ("ddp", "fsdp"))
    train_and_copy(ddp, folder / "ddp", ("ddp_then_fsdp",))
    copies = ("fsdp_then_fsdp", "fsdp_then_ddp", "fsdp_then_alone")
    train_and_copy(fsdp, folder / "fsdp", copies)
    for run, name in ((fsdp, "fsdp_then_fsdp"), (ddp, "fsdp_then_ddp"), (fsdp, "ddp_then_fsdp")):
        train(run, folder / name, device="cpu", resume=True, progress=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of the runs; `fsdp_then_alone` is still to go on."""
    folder = tmp_path_factory.mktemp("runs")
    # of three images to score, one process has two
    write_synthetic(folder / "shapes", train_images=7, val_images=3, size=(64, 80), seed=0)
    assert run_processes(2, [str(folder)], [__file__]) == 0
    return folder


def weights(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def logged(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def saved(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def assert_same_run(folder: Path, other: Path) -> None:
    """To the accuracy of float32, which steps make worse."""
    assert [line["step"] for line in logged(folder)] == [*range(1, STEPS + 1)]
    for line, others in zip(logged(folder), logged(other), strict=True):
        for name in ("loss", "loss_class", "loss_mask", "loss_dice", "lr"):
            assert line[name] == pytest.approx(others[name], rel=1e-5), (line["step"], name)
    for file in ("weights/last.safetensors", "weights/best.safetensors"):
        # a tenth of a step: Adam makes full ones where gradients are but noise of the last bit
        assert_close(weights(folder / file), weights(other / file), rtol=0, atol=1e-5)


def test_a_shared_model_trains_as_a_whole_one_does(runs: Path) -> None:
    assert_same_run(runs / "fsdp", runs / "ddp")


def test_files_of_weights_are_the_usual_ones(runs: Path) -> None:
    for name in ("last", "best"):
        with (
            safe_open(runs / f"fsdp/weights/{name}.safetensors", "pt") as file,
            safe_open(runs / f"ddp/weights/{name}.safetensors", "pt") as usual,
        ):
            assert list(file.keys()) == list(usual.keys())
            assert file.metadata().keys() == usual.metadata().keys()
            for key in file.keys():  # noqa: SIM118
                found, expected = file.get_slice(key), usual.get_slice(key)
                assert found.get_shape() == expected.get_shape()
                assert found.get_dtype() == expected.get_dtype()


def test_states_are_the_usual_ones(runs: Path) -> None:
    found, usual = saved(runs / "fsdp"), saved(runs / "ddp")
    assert found.keys() == usual.keys()
    assert_close(found["state_dict"], usual["state_dict"], rtol=0, atol=1e-5)
    assert_close(found["averages"], usual["averages"], rtol=0, atol=1e-5)
    (optimizer,), (other,) = found["optimizer_states"], usual["optimizer_states"]
    assert optimizer["param_groups"] == other["param_groups"]
    assert optimizer["state"].keys() == other["state"].keys()
    for number, values in optimizer["state"].items():
        assert values.keys() == other["state"][number].keys()
        for name, tensor in values.items():
            assert type(tensor) is torch.Tensor
            expected = other["state"][number][name]
            assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype)


def test_a_killed_run_goes_on_bit_by_bit(runs: Path) -> None:
    assert logged(runs / "fsdp_then_fsdp")[-1]["loss"] == logged(runs / "fsdp")[-1]["loss"]
    found, whole = saved(runs / "fsdp_then_fsdp"), saved(runs / "fsdp")
    for part in ("state_dict", "averages"):
        assert_close(found[part], whole[part], rtol=0, atol=0)
    (optimizer,), (other,) = found["optimizer_states"], whole["optimizer_states"]
    assert_close(optimizer["state"], other["state"], rtol=0, atol=0)
    assert optimizer["param_groups"] == other["param_groups"]


@pytest.mark.parametrize("name", ["fsdp_then_ddp", "ddp_then_fsdp"])
def test_runs_go_on_with_the_other_strategy(runs: Path, name: str) -> None:
    assert_same_run(runs / name, runs / "fsdp")


def test_a_run_goes_on_in_one_process_which_shares_nothing(
    runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = small_run(runs / "shapes", "fsdp")
    train(run, runs / "fsdp_then_alone", device="cpu", resume=True, progress=False)
    assert "a single process has nothing to divide" in caplog.text
    assert_same_run(runs / "fsdp_then_alone", runs / "fsdp")


if __name__ == "__main__":
    end_with_launcher()
    with joined():
        run_rank(Path(sys.argv[1]))
