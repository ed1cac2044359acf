"""A whole run on a data set of a few drawn pictures."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from mask2former.config import Run
from mask2former.config_io import compose_run, read_run
from mask2former.data.synthetic import write_synthetic
from mask2former.evaluation.evaluate import evaluate
from mask2former.evaluation.scored_data import open_scored_data
from mask2former.inference.segmenter import Segmenter
from mask2former.training.log.strips import read_strip
from mask2former.training.module import TrainingModule
from mask2former.training.scoring import ScoreAndSave
from mask2former.training.train import TrainResult, train
from mask2former.training.trainer import choose_precision
from mask2former.types import Batch
from mask2former.weights.open import load, read

pytestmark = [
    pytest.mark.runs,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=6, val_images=2, size=(64, 80), seed=0)
    return folder


def tiny_run(data: Path, task: str = "panoptic", **training: object) -> Run:
    changes = {
        "preset": "tiny",
        "task": task,
        "data": {
            "path": data,
            "augmentation": {"crop": (64, 64), "short_sides": (64, 80)},
            "test_size": {"short_side": 64},
        },
        "model": {"decoder_layers": 2, "encoder_layers": 1, "num_queries": 8},
        "loss": {"num_points": 64},
        "training": {"steps": 4, "eval_every": 2, "log_every": 1, "batch_size": 2, **training},
    }
    return compose_run(changes, lambda: ("panoptic",))


def column_labels(path: Path) -> list[str | int]:
    return [column.label for column in read_strip(path)]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A whole run, to be read and not changed."""
    return train(
        tiny_run(data), tmp_path_factory.mktemp("runs") / "run", device="cpu", progress=False
    )


def test_a_run_leaves_what_its_folder_promises(data: Path, finished: TrainResult) -> None:
    output, result = finished.output, finished
    run = tiny_run(data)
    assert result.steps == 4
    assert result.metrics["PQ"] >= 0
    assert read_run(output / "config.yaml") == run
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    for line in steps:
        parts = line["loss_class"] + line["loss_mask"] + line["loss_dice"]
        assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert [line["step"] for line in lines if "PQ" in line] == [2, 4]
    assert json.loads((output / "metrics.json").read_text())["step"] == 4
    assert "step 4: PQ" in (output / "log.txt").read_text()
    assert list((output / "tensorboard").glob("events*"))
    assert {path.name for path in (output / "plots").iterdir()} == {"losses.png", "metrics.png"}
    assert len(list((output / "pictures/training").glob("*.png"))) == 8
    with Image.open(output / "pictures/training/0.png") as picture:
        assert picture.width > picture.height
    strips = sorted((output / "pictures/validation").glob("*.png"))
    assert [column_labels(path) for path in strips] == [["image", "ground truth", 2, 4]] * 2
    assert result.best_weights.is_file()
    image = next(data.rglob("*.jpg"), None) or next(data.rglob("images/**/*.png"))
    prediction = Segmenter.load(output, device="cpu").predict(image)
    assert prediction.segment_map.shape == (64, 80)


def test_the_saved_model_is_the_trained_one(data: Path, finished: TrainResult) -> None:
    output = finished.output
    model, classes, run = load(output / "weights/last.safetensors")
    assert run == tiny_run(data)
    assert "disc" in classes.names
    state = torch.load(output / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[f"model.{name}"]), name


def stop_and_resume(run: Run, output: Path) -> None:
    class StopError(Exception):
        pass

    step = TrainingModule.training_step

    def stop_at_step_3(self: TrainingModule, batch: Batch, batch_idx: int) -> object:
        if self.global_step == 3:
            raise StopError
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stop_at_step_3)
        with pytest.raises(StopError):
            train(run, output, device="cpu", progress=False)
    train(run, output, device="cpu", progress=False, resume=True)


def equal_weights(folder: Path, other: Path) -> bool:
    ours, theirs = (read(f / "weights/last.safetensors").weights for f in (folder, other))
    return all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


def test_a_resumed_run_equals_one_that_never_stopped(data, tmp_path, finished) -> None:
    run = tiny_run(data)
    run = run.model_copy(update={"data": run.data.model_copy(update={"workers": 2})})
    stop_and_resume(run, tmp_path / "broken")
    assert equal_weights(finished.output, tmp_path / "broken")
    strip = tmp_path / "broken/pictures/validation/0.png"
    assert column_labels(strip) == ["image", "ground truth", 2, 4]


def test_averages_and_passes_are_resumed_as_well(data, tmp_path, finished) -> None:
    options = {"ema_decay": 0.5, "images_per_pass": 1, "checkpoint_activations": True}
    run = tiny_run(data, save_every=1, **options)
    train(run, tmp_path / "whole", device="cpu", progress=False)
    stop_and_resume(run, tmp_path / "broken")
    assert equal_weights(tmp_path / "whole", tmp_path / "broken")
    # what is given away is the average, not the last step
    assert not equal_weights(tmp_path / "whole", finished.output)


@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_panoptic_data_train_the_other_tasks(data: Path, tmp_path: Path, task: str) -> None:
    result = train(tiny_run(data, task), tmp_path / "run", device="cpu", progress=False)
    assert ("mIoU" in result.metrics) == (task == "semantic")
    assert ("AP" in result.metrics) == (task == "instance")


def test_a_run_on_undivided_data_says_and_keeps_what_it_held_out(tmp_path, capsys) -> None:
    data, output = tmp_path / "data", tmp_path / "run"
    write_synthetic(data, train_images=1, val_images=4, size=(64, 80), seed=0)
    (data / "annotations/panoptic_train.json").unlink()
    run = tiny_run(data, steps=2, eval_every=2)
    metrics = train(run, output, device="cpu", progress=False).metrics
    said = f"warning: {data} has only the split 'val', which is trained on; held out to validate: 1"
    assert said in capsys.readouterr().err
    model = Segmenter.load(output, device="cpu")
    assert model.trained_on.folders == (data,)
    held_out = open_scored_data([data], None, model.trained_on, "panoptic")
    assert len(held_out) == 1
    assert evaluate(model, held_out).metrics == pytest.approx(metrics, nan_ok=True)
    assert "data: split 'val' is 1 of 4 images" in (output / "log.txt").read_text()


def test_training_starts_from_a_trained_model(
    data: Path, tmp_path: Path, finished: TrainResult
) -> None:
    run = tiny_run(data)
    still = run.model_copy(
        update={"optimizer": run.optimizer.model_copy(update={"learning_rate": 1e-12})}
    )
    still = still.model_copy(update={"weights": str(finished.output)})
    train(still, tmp_path / "second", device="cpu", progress=False)
    assert f"weights: {finished.output}" in (tmp_path / "second/log.txt").read_text()
    first = read(finished.output).weights
    second = read(tmp_path / "second/weights/last.safetensors").weights
    for name, tensor in first.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-9)


def test_a_taken_folder_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"exists already; name another folder with --output"):
        train(tiny_run(data), tmp_path, device="cpu", progress=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_whoever_reads_it(tmp_path, workers, monkeypatch) -> None:
    data = tmp_path / "data"
    write_synthetic(data, train_images=8, val_images=1, size=(64, 64), seed=0)
    run = tiny_run(data, steps=9, batch_size=8)
    run = run.model_copy(update={"data": run.data.model_copy(update={"workers": workers})})
    step = TrainingModule.training_step

    def damage_all(self: TrainingModule, batch: Batch, batch_idx: int) -> object:
        for image in data.glob("images/train/*.jpg"):
            image.write_bytes(image.read_bytes()[:500])
        return step(self, batch, batch_idx)

    # The first samples are read while they are whole, to draw them.
    message = r"^cannot read .*\.jpg as an image .* replace it or take it out of the data set$"
    monkeypatch.setattr(TrainingModule, "training_step", damage_all)
    with pytest.raises(ValueError, match=message):
        train(run, tmp_path / "run", device="cpu", progress=False)


def test_nothing_to_resume_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to resume in"):
        train(tiny_run(data), tmp_path, device="cpu", progress=False, resume=True)


def test_a_diverged_run_stops_with_the_reason(data: Path, tmp_path: Path) -> None:
    run = tiny_run(data)
    wild = run.model_copy(
        update={
            "optimizer": run.optimizer.model_copy(update={"learning_rate": 1e30}),
            "schedule": run.schedule.model_copy(update={"warmup_steps": 0}),
        }
    )
    with pytest.raises(FloatingPointError, match=r"not finite in layer 0.*Lower the learning rate"):
        train(wild, tmp_path / "run", device="cpu", progress=False)


def test_a_tiny_model_learns_two_pictures(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_synthetic(data, train_images=2, val_images=2, size=(64, 64), seed=1)
    output = tmp_path / "run"
    train(tiny_run(data, steps=40, eval_every=40), output, device="cpu", progress=False)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


def test_an_unreadable_image_is_found_before_training(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "run"
    write_synthetic(data, train_images=4, val_images=1, size=(64, 64), seed=0)
    (image,) = data.glob("images/val/*.jpg")
    image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(ValueError, match=rf"cannot read {re.escape(str(image))}"):
        train(tiny_run(data), output, device="cpu", progress=False)
    assert not output.exists()


def test_an_unreadable_validation_image_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the look before training reads a few images; this one is not among them
    monkeypatch.setattr("mask2former.training.train.fast_check", lambda *_, **__: [])
    data, output = tmp_path / "data", tmp_path / "run"
    write_synthetic(data, train_images=4, val_images=1, size=(64, 64), seed=0)
    (image,) = data.glob("images/val/*.jpg")
    whole = image.read_bytes()
    image.write_bytes(whole[:500])
    with pytest.raises(ValueError, match="cannot read"):
        train(tiny_run(data), output, device="cpu", progress=False)
    assert read(output / "weights/last.safetensors").run == tiny_run(data)
    image.write_bytes(whole)
    result = train(tiny_run(data), output, device="cpu", progress=False, resume=True)
    assert result.steps == 4


def test_a_precision_that_a_device_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="16-mixed needs a GPU"):
        choose_precision("16-mixed", torch.device("cpu"))


def test_the_cpu_trains_in_float32_unless_told_otherwise() -> None:
    assert choose_precision("auto", torch.device("cpu")) == "32-true"
    assert choose_precision("bf16-mixed", torch.device("cpu")) == "bf16-mixed"


def test_the_logged_rate_is_that_of_the_step(finished: TrainResult) -> None:
    text = (finished.output / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    rates = [line["lr"] for line in lines if "lr" in line]
    # warm-up over 20 steps times the poly factor of the steps done before
    expected = [1e-3 * (t + 1) / 20 * (1 - t / 4) ** 0.9 for t in range(4)]
    assert rates == pytest.approx(expected)


def test_a_run_that_gets_no_better_ends_early_and_stays_ended(
    data: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    scores = iter([1.0, 3.0, 3.0, 2.0])
    monkeypatch.setattr(ScoreAndSave, "_evaluate", lambda *_: {"PQ": next(scores)})
    caplog.set_level("INFO")
    run = tiny_run(data, steps=40, eval_every=1, patience=2)
    result = train(run, tmp_path / "run", device="cpu", progress=False)
    assert result.steps == 4
    assert "step 4 of 40: the run ends here: no better PQ than 3.00 in 2 evaluations" in caplog.text
    assert read(tmp_path / "run/weights/best.safetensors").weights.keys()
    again = train(run, tmp_path / "run", device="cpu", progress=False, resume=True)
    assert again.steps == 4


def test_patience_needs_something_to_wait_for(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_synthetic(folder, train_images=2, val_images=1, size=(64, 80), seed=0)
    (folder / "annotations/panoptic_val.json").unlink()
    with pytest.raises(ValueError, match=r"training\.patience = 2 waits .* no validation split"):
        train(tiny_run(folder, patience=2), tmp_path / "run", device="cpu", progress=False)
