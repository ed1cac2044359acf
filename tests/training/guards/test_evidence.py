"""A step that was not finite can be repeated from what it left."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.data.synthetic import write_synthetic
from mask2former.model.mask2former import Mask2Former
from mask2former.training.guards.diagnosis import (
    Findings,
    ImageLosses,
    Work,
    diagnose,
    explain,
    tensors_in,
)
from mask2former.training.guards.evidence import (
    EvidenceFolder,
    load_evidence,
    main,
    make_criterion,
    report,
    reproduce,
    save_evidence,
)
from mask2former.training.loader import Splits, make_loader, open_splits
from mask2former.training.module import TrainingModule
from mask2former.training.passes import Normalizers, predict, score
from mask2former.training.train import train
from mask2former.types import Batch
from mask2former.weights.build import build_model

NORMALIZERS = Normalizers(torch.tensor(5.0), torch.tensor(9.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=6, val_images=1, size=(64, 80), seed=0)
    changes = {
        "preset": "tiny",
        "data": {
            "path": folder,
            "augmentation": {"crop": (64, 64), "short_sides": (64, 80)},
            "test_size": {"short_side": 64},
            "workers": 0,
        },
        "model": {"decoder_layers": 2, "encoder_layers": 1, "num_queries": 8},
        "loss": {"num_points": 64},
        "training": {
            "steps": 4, "eval_every": 4, "log_every": 1, "batch_size": 2, "loggers": (),
        },
    }  # fmt: skip
    return compose_run(changes, lambda: ("panoptic",))


@pytest.fixture(scope="module")
def splits(run: Run) -> Splits:
    return open_splits(run.data, run.task)


@pytest.fixture
def model(run: Run, splits: Splits) -> Mask2Former:
    torch.manual_seed(0)
    return build_model(run.model, len(splits.classes)).train()


def work_of(splits: Splits, run: Run, images_per_pass: int | None = None) -> Work:
    batch = next(iter(make_loader(splits, run, start=0)))
    return Work(batch, NORMALIZERS, step_seed=3, images_per_pass=images_per_pass)


@pytest.mark.parametrize("images_per_pass", [None, 1])
def test_losses_of_images_add_up_to_those_of_the_batch(
    model: Mask2Former, run: Run, splits: Splits, images_per_pass: int | None
) -> None:
    # group norms: one image does not change what another one gives
    frozen = run.model.model_copy(
        update={"backbone": run.model.backbone.model_copy(update={"norm": "frozen"})}
    )
    model = build_model(frozen, len(splits.classes)).train()
    work, criterion = work_of(splits, run, images_per_pass), make_criterion(run)
    findings = diagnose(model, criterion, work)
    assert findings.is_clean
    assert explain(findings) == "run again, the batch gave finite numbers"
    whole = score(criterion, predict(model, work.batch), work.batch, NORMALIZERS)
    for name, weight in zip(("classification", "mask", "dice"), criterion.weights, strict=True):
        summed = torch.tensor([getattr(image, name) for image in findings.images]).sum(dim=0)
        assert_close(summed, weight * getattr(whole, name).detach(), rtol=1e-4, atol=1e-5)


def test_gradients_and_the_model_are_left_alone(
    model: Mask2Former, run: Run, splits: Splits
) -> None:
    diagnose(model, make_criterion(run), work_of(splits, run))
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def first_convolution(model: Mask2Former) -> tuple[str, nn.Conv2d]:
    """Of the pixel decoder."""
    return next(
        (name, module)
        for name, module in model.pixel_decoder.named_modules(prefix="pixel_decoder")
        if isinstance(module, nn.Conv2d)
    )


def test_gradients_whose_squares_overflow_are_told_of(
    model: Mask2Former, run: Run, splits: Splits
) -> None:
    with torch.no_grad():
        model.transformer_decoder.classifier.weight[0, 0] = 1e38
    findings = diagnose(model, make_criterion(run), work_of(splits, run))
    assert findings.gradient_norm == math.inf
    assert (findings.first_output, findings.bad_weights, findings.bad_gradients) == (None, (), ())
    assert not findings.is_clean
    told = explain(findings)
    assert told.startswith("weights that earlier steps made huge, such as transformer_decoder.")
    assert "; the squares of the gradients overflow, though each is finite" in told
    assert findings.largest_gradient in report(findings, 1)


def test_the_first_bad_module_and_weight_are_named(
    model: Mask2Former, run: Run, splits: Splits
) -> None:
    name, layer = first_convolution(model)
    with torch.no_grad():
        layer.weight[0, 0] = math.inf
    findings = diagnose(model, make_criterion(run), work_of(splits, run))
    assert findings.bad_weights == (f"{name}.weight",)
    assert findings.first_output is not None
    assert findings.first_output.module == name
    assert 0 < findings.first_output.num_bad <= findings.first_output.num_values
    assert [image.unmatched for image in findings.images] == [(0, 1, 2)] * 2
    told = explain(findings)
    assert f"first output that is not finite: {name} (Conv2d)" in told
    assert "matching cost is not finite in layer 0, 1, 2" in told


def test_gradients_alone_are_named_from_the_losses_on(
    model: Mask2Former, run: Run, splits: Splits
) -> None:
    def broken(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value.register_hook(lambda gradient: gradient * math.nan)
        return value

    # all that comes before the mask features gets NaN; what comes behind them does not
    handle = model.pixel_decoder.register_forward_hook(
        lambda _, __, output: type(output)(*map_tensors(broken, output))
    )
    findings = diagnose(model, make_criterion(run), work_of(splits, run))
    handle.remove()
    assert findings.first_output is None
    assert findings.bad_gradients
    assert all(name.startswith(("pixel_decoder.", "backbone.")) for name in findings.bad_gradients)
    first, last = findings.bad_gradients[0], findings.bad_gradients[-1]
    assert (first.split(".")[0], last.split(".")[0]) == ("pixel_decoder", "backbone")


def map_tensors(function, values):
    return [
        function(value)
        if isinstance(value, torch.Tensor)
        else type(value)(map_tensors(function, value))
        for value in values
    ]


def test_tensors_are_found_in_whatever_a_module_returns() -> None:
    ones = torch.ones(2)
    nested = {"a": [ones, (ones, torch.ones(3, dtype=torch.long))], "b": None, "c": "text"}
    assert len(list(tensors_in(nested))) == 2


def test_evidence_holds_all_that_a_step_needs(
    model: Mask2Former, run: Run, splits: Splits, tmp_path: Path
) -> None:
    work = work_of(splits, run, images_per_pass=1)._replace(precision="bf16-mixed", scale=8.0)
    place = EvidenceFolder(tmp_path / "evidence", run, splits.classes)
    folder = place.of_step(12, 1, 4)
    assert folder == tmp_path / "evidence/step_12_rank1"
    save_evidence(folder, place, model, work, step=12, rank=1)
    # plain values and tensors only
    content = torch.load(folder / "batch.pt", weights_only=True)
    assert content["seeds"] == work.batch.seeds
    kept = load_evidence(folder / "batch.pt", "cpu")
    assert (kept.step, kept.rank, kept.run, kept.classes) == (12, 1, run, splits.classes)
    assert kept.work._replace(batch=work.batch) == work
    assert kept.work.batch.image_ids == work.batch.image_ids
    for ours, theirs in zip(kept.work.batch.targets, work.batch.targets, strict=True):
        assert torch.equal(ours.masks, theirs.masks)
        assert torch.equal(ours.labels, theirs.labels)
    for name, tensor in kept.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert {path.name for path in folder.iterdir()} == {"batch.pt", "0.png", "1.png"}
    assert reproduce(folder).is_clean


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(FileNotFoundError, match=r"no evidence at .*; give a folder such as"):
        load_evidence(tmp_path)
    (tmp_path / "batch.pt").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"batch\.pt cannot be read \(.*\); give the batch\.pt"):
        load_evidence(tmp_path)
    torch.save({"format": 99}, tmp_path / "batch.pt")
    with pytest.raises(ValueError, match=r"batch\.pt is no evidence of format 1; give"):
        load_evidence(tmp_path)
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "is no evidence of format 1" in capsys.readouterr().err


def test_a_report_names_what_is_wrong() -> None:
    image = ImageLosses("a/b", (1.0, 2.0), (0.5, math.nan), (0.25, math.inf))
    text = report(Findings((image,), None, (), ("x.weight",)), 7)
    assert text.startswith("step 7: not finite\n")
    assert "gradients that are not finite, from the losses on: 1\n  x.weight\n" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("a/b")]
    assert rows == [["a/b", "0", "1", "0.5", "0.25"], ["a/b", "1", "2", "nan", "inf"]]
    assert "  mask loss is not finite in layer 1\n  dice loss is not finite in layer 1" in text


@pytest.mark.runs
@pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
def test_the_command_repeats_what_a_run_met(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainingModule.training_step

    def overflow(module: TrainingModule, batch: Batch, batch_idx: int) -> object:
        if module.global_step == 2:
            with torch.no_grad():
                first_convolution(module.model)[1].weight[0, 0] = 1e38
        return step(module, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", overflow)
    with pytest.raises(FloatingPointError, match=r"^step 3: ") as caught:
        train(run, tmp_path / "run", device="cpu", progress=False)
    monkeypatch.undo()
    folder = tmp_path / "run/evidence/step_3"
    command = str(caught.value).rpartition("to repeat it: python ")[2].split()
    assert command[:2] == ["-m", "mask2former.training.guards.evidence"]
    done = subprocess.run(
        [sys.executable, *command, "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (folder / "report.txt").read_text()
    assert not reproduce(folder, "cpu").is_clean
    steps = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in steps] == [1, 2]
