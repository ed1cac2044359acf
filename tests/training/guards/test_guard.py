"""Numbers that are not finite do not reach the weights."""

import itertools
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from mask2former.config import Run
from mask2former.config_io import compose_run, write_run
from mask2former.data.synthetic import write_synthetic
from mask2former.launch import run_processes
from mask2former.loss.criterion import Criterion, LossTerms
from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.training import trainer as trainer_file
from mask2former.training.guards import guard as guard_file
from mask2former.training.guards.diagnosis import Findings, Work
from mask2former.training.guards.evidence import reproduce
from mask2former.training.guards.guard import (
    Guard,
    judge,
    learning_statistics,
    poisoned,
    stop_at,
)
from mask2former.training.module import TrainingModule
from mask2former.training.passes import Normalizers
from mask2former.training.schedule import learning_rate_factor
from mask2former.training.train import train
from mask2former.types import Batch, MaskPrediction
from mask2former.weights.open import read

needs_lightning = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
GOOD, BAD = torch.tensor(1.0), torch.tensor(math.nan)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=6, val_images=1, size=(64, 80), seed=0)
    return folder


def small_run(data: Path, norm: str = "frozen", **training: object) -> Run:
    changes = {
        "preset": "tiny",
        "task": "panoptic",
        "data": {
            "path": data,
            "augmentation": {"crop": (64, 64), "short_sides": (64, 80)},
            "test_size": {"short_side": 64},
            "workers": 0,
        },
        "model": {
            "backbone": {"norm": norm},
            "decoder_layers": 2, "encoder_layers": 1, "num_queries": 8,
        },
        "loss": {"num_points": 64},
        "training": {
            "steps": 6, "eval_every": 6, "log_every": 1, "batch_size": 2, "loggers": (), **training,
        },
    }  # fmt: skip
    return compose_run(changes, lambda: ("panoptic",))


class Spoiler:
    """Makes the losses of one image of some steps NaN, and notes the weights before every step."""

    def __init__(self, patch: pytest.MonkeyPatch, steps: set[int]) -> None:
        """Steps count from 0."""
        self.before: list[Tensor] = []
        self.module: TrainingModule | None = None
        self.image_id: int | str | None = None
        seeds: set[int] = set()
        training_step, score = TrainingModule.training_step, Criterion.__call__

        def watched(module: TrainingModule, batch: Batch, batch_idx: int) -> object:
            self.module = module
            self.before.append(weights_of(module))
            if module.global_step in steps:
                seeds.add(batch.seeds[-1] % 2**63)
                self.image_id = batch.image_ids[-1]
            return training_step(module, batch, batch_idx)

        def spoiled(criterion, prediction, targets, size, masks, weight, draws) -> LossTerms:
            terms = score(criterion, prediction, targets, size, masks, weight, draws)
            drawn = {draw.keywords["generator"].initial_seed() for draw in draws}
            return terms._replace(mask=terms.mask * math.nan) if drawn & seeds else terms

        patch.setattr(TrainingModule, "training_step", watched)
        patch.setattr(Criterion, "__call__", spoiled)


def weights_of(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def lines_of(output: Path) -> list[dict]:
    text = (output / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("skips", "in_a_row", "scale", "has_cause", "expected"),
    [
        (False, 1, None, False, "stop"),
        (True, 1, None, True, "leave out"),
        (True, 4, None, True, "stop"),
        (False, 3, 1024.0, False, "leave out"),  # float16 finds its scale
        (False, 4, 1024.0, False, "stop"),
        (False, 1, 0.5, False, "stop"),
        (False, 1, 1024.0, True, "stop"),
    ],
)
def test_what_is_done_depends_on_the_cause_and_on_the_steps_before(
    skips: bool, in_a_row: int, scale: float | None, has_cause: bool, expected: str
) -> None:
    verdict = judge(skips=skips, in_a_row=in_a_row, max_skipped=3, scale=scale, has_cause=has_cause)
    assert verdict == expected


def test_a_finite_loss_keeps_its_gradients_bit_for_bit() -> None:
    weight = torch.linspace(0.1, 3.0, 7, requires_grad=True)
    plain = torch.autograd.grad((weight**3).sum(), weight)[0]
    guard = Guard(nn.Identity(), skips=False, max_skipped=3)
    watched = guard.watch((weight**3).sum(), [1])
    assert torch.equal(torch.autograd.grad(watched, weight)[0], plain)


def test_an_infinite_loss_with_finite_gradients_shows_in_them() -> None:
    # the derivative of w + inf is 1
    weight = torch.ones(2, requires_grad=True)
    guard = Guard(nn.Identity(), skips=False, max_skipped=3)
    guard.watch((weight + math.inf).sum(), [1]).backward()
    assert weight.grad is not None
    assert weight.grad.isnan().all()


def test_a_poisoned_prediction_reaches_all_that_it_came_from() -> None:
    parts = [torch.ones(shape, requires_grad=True) for shape in ((2, 1, 4, 3), (2, 1, 4, 5))]
    features = torch.ones(1, 5, 6, 7, requires_grad=True)
    terms = poisoned(MaskPrediction(*parts, features))
    assert [len(term) for term in terms] == [2, 2, 2]
    Criterion().total(terms).backward()
    for tensor in (*parts, features):
        assert tensor.grad is not None
        assert tensor.grad.isnan().all()


def test_statistics_of_norms_that_learn_are_as_before_a_step_that_is_left_out(caplog) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval())
    guard = Guard(model, skips=True, max_skipped=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    guard.begin_step()
    model(torch.full((2, 3, 4, 5), math.nan))
    assert model[0].running_mean.isnan().all()
    with caplog.at_level(logging.WARNING):
        assert guard.check(BAD, 5, None) == "leave out"
    assert "step 5 is left out: the norm of the gradients is nan" in caplog.text
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert len(learning_statistics(model)) == 3


def test_good_steps_between_are_counted_out() -> None:
    guard = Guard(nn.Identity(), skips=True, max_skipped=2)
    norms = [BAD, BAD, GOOD, BAD, BAD, BAD]
    verdicts = [guard.check(norm, step, None) for step, norm in enumerate(norms)]
    assert verdicts == ["leave out", "leave out", "go on", "leave out", "leave out", "stop"]


def test_what_the_step_showed_is_told_where_its_repetition_shows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard_file, "diagnose", lambda *_: Findings((), None, (), ()))
    numbers = Normalizers(torch.tensor(1.0), torch.tensor(1.0))
    work = Work(Batch([], [], [], []), numbers, 0, None)
    cause = "the loss is nan (images 7)"
    model = Mask2Former(make_backbone("resnet10t"), 2, encoder_layers=1, decoder_layers=1)
    error = stop_at(3, model, Criterion(), work, place=None, causes=[cause])
    assert f"are not finite: {cause}; run again, the batch gave finite numbers" in str(error)


@pytest.mark.runs
@needs_lightning
@pytest.mark.parametrize("images_per_pass", [None, 1])
def test_a_run_stops_at_the_step_before_its_weights_change(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_per_pass: int | None
) -> None:
    spoiler = Spoiler(monkeypatch, {2})
    run = small_run(data, images_per_pass=images_per_pass)
    folder = tmp_path / "run/evidence/step_3"
    with pytest.raises(FloatingPointError) as caught:
        train(run, tmp_path / "run", device="cpu", progress=False)
    message = str(caught.value)
    image = spoiler.image_id
    assert message.startswith("step 3: the loss or its gradients are not finite: image")
    assert f"image {image!r}: mask loss is not finite in layer 0, 1, 2" in message
    assert message.endswith(f"python -m mask2former.training.guards.evidence {folder}")
    assert spoiler.module is not None
    assert torch.equal(weights_of(spoiler.module), spoiler.before[2])
    assert not torch.equal(spoiler.before[1], spoiler.before[2])
    assert {path.name for path in folder.iterdir()} == {"batch.pt", "report.txt", "0.png", "1.png"}
    findings = reproduce(folder)
    guilty = [i.image_id for i in findings.images if any(map(math.isnan, i.mask))]
    # together in a pass, the images share their losses; alone, each has its own
    assert guilty == [image]
    assert findings.first_output is None
    assert findings.bad_gradients


@pytest.mark.runs
@needs_lightning
def test_a_full_disk_does_not_hide_the_error(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    Spoiler(monkeypatch, {1})
    monkeypatch.setattr(guard_file, "save_evidence", fail)
    with pytest.raises(FloatingPointError, match=r"step 2: .* could not be saved to .*No space"):
        train(small_run(data), tmp_path / "run", device="cpu", progress=False)


@pytest.mark.runs
@needs_lightning
def test_what_cannot_be_run_again_is_told_all_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("out of memory\nand more")

    Spoiler(monkeypatch, {1})
    monkeypatch.setattr(guard_file, "diagnose", fail)
    with pytest.raises(FloatingPointError, match=r"step 2: .* again failed: out of memory\. "):
        train(small_run(data), tmp_path / "run", device="cpu", progress=False)
    assert (tmp_path / "run/evidence/step_2/batch.pt").is_file()


@pytest.mark.runs
@needs_lightning
@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_a_step_is_left_out_and_the_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch, capsys, ema_decay: float | None
) -> None:
    spoiler = Spoiler(monkeypatch, {2})
    run = small_run(data, norm="batch", on_nonfinite="skip", ema_decay=ema_decay)
    train(run, tmp_path / "run", device="cpu", progress=False)
    same = [torch.equal(a, b) for a, b in itertools.pairwise(spoiler.before)]
    assert same == [False, False, True, False, False]
    told = capsys.readouterr().err
    assert "warning: step 3 is left out: the loss of images " in told
    assert repr(spoiler.image_id) in told
    lines = [line for line in lines_of(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 4, 5, 6]
    # the schedule goes on
    expected = run.optimizer.learning_rate * learning_rate_factor(run.schedule, 3, 6)
    assert lines[2]["lr"] == pytest.approx(expected)
    loaded = read(tmp_path / "run/weights/last.safetensors").weights
    assert all(tensor.isfinite().all() for tensor in loaded.values())
    assert not (tmp_path / "run/evidence").exists()


@pytest.mark.runs
@needs_lightning
def test_too_many_steps_in_a_row_stop_a_run_that_leaves_them_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spoiler(monkeypatch, {0, 2, 3, 4})
    run = small_run(data, on_nonfinite="skip", max_skipped=2)
    with pytest.raises(FloatingPointError, match=r"^step 5: .*\(3 such steps in a row\)"):
        train(run, tmp_path / "run", device="cpu", progress=False)


def in_float16(scale: float) -> Callable[..., MixedPrecision]:
    """What a run on a CPU is not given by name."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, backoff_factor=2.0**-30)
    return lambda _, device: MixedPrecision("16-mixed", device.type, scaler)


@pytest.mark.runs
@needs_lightning
def test_float16_may_look_for_its_scale(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiler = Spoiler(monkeypatch, set())
    # so much overflows float16; the next scale is 2^10
    monkeypatch.setattr(trainer_file, "make_precision", in_float16(2.0**40))
    run = small_run(data, steps=3, eval_every=3)
    train(run, tmp_path / "run", device="cpu", progress=False)
    same = [torch.equal(a, b) for a, b in itertools.pairwise(spoiler.before)]
    assert same == [True, False]
    assert not (tmp_path / "run/evidence").exists()


@pytest.mark.runs
@needs_lightning
def test_float16_does_not_excuse_losses_that_are_not_finite(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spoiler(monkeypatch, {1})
    monkeypatch.setattr(trainer_file, "make_precision", in_float16(64.0))
    with pytest.raises(FloatingPointError, match=r"^step 2: .*mask loss is not finite"):
        train(small_run(data), tmp_path / "run", device="cpu", progress=False)
    content = torch.load(tmp_path / "run/evidence/step_2/batch.pt", weights_only=True)
    assert (content["precision"], content["scale"]) == ("16-mixed", 64.0)


TWO_RANKS = """
import hashlib, json, sys
from pathlib import Path

from mask2former.config_io import read_run
from mask2former.distributed import rank
from mask2former.training.module import TrainingModule
from mask2former.training.train import train

step = TrainingModule.training_step
weights = []

def spoil(module, inputs):
    return ({stride: features * float("nan") for stride, features in inputs[0].items()},)

def spoiled(module, batch, batch_idx):
    values = [p.detach().numpy().tobytes() for p in module.model.parameters()]
    weights.append(hashlib.sha256(b"".join(values)).hexdigest())
    if module.global_step not in (1, 3, 4) or rank() != 1:
        return step(module, batch, batch_idx)
    handle = module.model.pixel_decoder.register_forward_pre_hook(spoil)
    try:
        return step(module, batch, batch_idx)
    finally:
        handle.remove()

TrainingModule.training_step = spoiled
folder, message = Path(sys.argv[1]), None
try:
    train(read_run(folder / "config.yaml"), folder / "run", device="cpu", progress=False)
except FloatingPointError as error:
    message = str(error)
said = {"message": message, "weights": weights}
(folder / f"rank{rank()}.json").write_text(json.dumps(said))
"""


@pytest.mark.runs
@needs_lightning
def test_all_ranks_leave_out_and_stop_at_what_fails_on_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = small_run(data, on_nonfinite="skip", max_skipped=1)
    write_run(run, tmp_path / "config.yaml")
    (tmp_path / "two_ranks.py").write_text(TWO_RANKS)
    assert run_processes(2, [str(tmp_path)], [str(tmp_path / "two_ranks.py")]) == 0
    first, second = (json.loads((tmp_path / f"rank{n}.json").read_text()) for n in range(2))
    assert first["weights"] == second["weights"]
    same = [a == b for a, b in itertools.pairwise(first["weights"])]
    assert same == [False, True, False, True]
    assert first["message"] == second["message"]
    assert first["message"].startswith(
        "step 5: the loss or its gradients are not finite (2 such steps in a row): rank 1: "
        "first output that is not finite: pixel_decoder."
    )
    assert "matching cost is not finite in layer 0, 1, 2" in first["message"]
    assert [path.name for path in (tmp_path / "run/evidence").iterdir()] == ["step_5_rank1"]
    log = (tmp_path / "run/log.txt").read_text()
    assert log.count("is left out: rank 1: matching cost of image") == 2
    lines = [line for line in lines_of(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 3]
    assert all(math.isfinite(line["loss"]) for line in lines)
