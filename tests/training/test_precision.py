"""What is computed in float32 also where training is in half precision, and what half changes.

The islands are those of the specification, 2.4, 2.6, 3.2, 3.5 and 4.5.
"""

import math
import warnings
from collections.abc import Callable, Sequence

import lightning
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.loss.criterion import Criterion
from mask2former.masks.packed import pack_masks
from mask2former.model.pixel_decoder import PixelDecoder
from mask2former.model.position import sine_position
from mask2former.model.transformer_decoder import Attention, attention_mask
from mask2former.training.module import TrainingModule
from mask2former.types import Batch, MaskPrediction, Target
from mask2former.weights.build import build_model

HALVES = (torch.bfloat16, torch.float16)
SIZE = (64, 96)
NUM_CLASSES = 3

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")


class HalfOperations(TorchDispatchMode):
    """Takes down what computes with half precision; conversions, views and copies do not."""

    MOVES = ("_to_copy", "view", "detach", "alias", "copy_", "clone", "expand", "select", "slice")

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        values = tree_leaves((args, kwargs, result))
        self.seen += 1
        name = func.overloadpacket.__name__
        if name not in self.MOVES and any(
            isinstance(value, Tensor) and value.dtype in HALVES for value in values
        ):
            self.found.add(name)
        return result


def autocast(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast("cpu", dtype=dtype)


def run_of(**training: object) -> Run:
    changes = {
        "preset": "tiny",
        "task": "panoptic",
        "model": {"decoder_layers": 3, "encoder_layers": 1, "num_queries": 6},
        "loss": {"num_points": 64},
        "training": {"steps": 100, "batch_size": 2, **training},
    }
    return compose_run(changes, lambda: ("panoptic",))


def random_batch(seed: int, size: tuple[int, int] = (32, 64)) -> Batch:
    g = torch.Generator().manual_seed(seed)
    images = [torch.randint(256, (3, *size), generator=g, dtype=torch.uint8) for _ in range(2)]
    masks = [(torch.rand(count, *size, generator=g) > 0.5).numpy() for count in (2, 3)]
    targets = [Target(torch.randint(3, (len(m),), generator=g), pack_masks(m)) for m in masks]
    return Batch(images, targets, [0, 1], [seed, seed + 1])


def random_features(dtype: torch.dtype) -> dict[int, Tensor]:
    g = torch.Generator().manual_seed(1)
    channels = {4: 5, 8: 6, 16: 7, 32: 9}
    return {
        stride: torch.randn(2, c, SIZE[0] // stride, SIZE[1] // stride, generator=g).to(dtype)
        for stride, c in channels.items()
    }


@pytest.mark.parametrize("dtype", HALVES)
def test_the_pixel_decoder_computes_nothing_in_half_precision(dtype: torch.dtype) -> None:
    """Its projections, norms, positions, deformable attention and mask features, and gradients."""
    torch.manual_seed(0)
    decoder = PixelDecoder(
        {4: 5, 8: 6, 16: 7, 32: 9}, hidden_dim=64, num_layers=2, num_heads=4, feedforward_dim=80
    )
    features = random_features(dtype)
    outcomes = []
    for context, given in (
        (autocast(dtype), features),
        (torch.autocast("cpu", enabled=False), {s: f.float() for s, f in features.items()}),
    ):
        decoder.zero_grad()
        with context, HalfOperations() as operations:
            levels, mask_features = decoder(given)
            total = sum(map(torch.sum, (*levels, mask_features.square())))
        with operations:  # training leaves autocast for the backward pass: see below
            total.backward()
        assert not operations.found
        assert operations.seen > 100
        gradients = [parameter.grad.clone() for parameter in decoder.parameters()]
        outcomes.append([*levels, mask_features, *gradients])
    for under_autocast, without in zip(*outcomes, strict=True):
        assert under_autocast.dtype == torch.float32
        assert torch.equal(under_autocast, without)


@pytest.mark.parametrize("dtype", HALVES)
def test_losses_of_half_predictions_are_those_of_the_same_numbers_in_float32(dtype) -> None:
    """Matching, the choice of points, samples and losses, to the last bit; gradients as well."""
    g = torch.Generator().manual_seed(2)
    half = MaskPrediction(
        torch.randn(3, 2, 6, NUM_CLASSES + 1, generator=g).to(dtype),
        torch.randn(3, 2, 6, 8, generator=g).to(dtype),
        torch.randn(2, 8, 16, 24, generator=g),
    )
    targets = random_batch(3, SIZE).targets
    outcomes = []
    for context, tensors in (
        (autocast(dtype), half),
        (torch.autocast("cpu", enabled=False), MaskPrediction(*(t.float() for t in half))),
    ):
        prediction = MaskPrediction(*(t.detach().requires_grad_() for t in tensors))
        drawn: list[torch.dtype] = []
        criterion = Criterion(num_points=64, draw=recording(drawn, seed=4))
        with context, HalfOperations() as operations:
            terms = criterion(prediction, targets, SIZE, num_masks=5)
            total = criterion.total(terms)
        assert not operations.found
        assert operations.seen > 100
        assert {*drawn} == {torch.float32}
        assert {t.dtype for t in (*terms, total)} == {torch.float32}
        total.backward()
        outcomes.append((total, *terms, *(t.grad for t in prediction)))
    under_autocast, without = outcomes
    for ours, exact in zip(under_autocast, without, strict=True):
        assert torch.equal(ours, exact.to(ours.dtype))


def recording(dtypes: list[torch.dtype], *, seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, device: torch.device) -> Tensor:
        points = torch.rand(*shape, generator=generator, device=device)
        dtypes.append(points.dtype)
        return points

    return draw


@pytest.mark.parametrize("dtype", HALVES)
def test_positions_are_float32_whatever_they_are_added_to(dtype: torch.dtype) -> None:
    exact = sine_position(50, 40, 64, like=torch.zeros(1))
    like = torch.zeros(1, dtype=dtype)
    with autocast(dtype), HalfOperations() as operations:
        code = sine_position(50, 40, 64, like=like)
    assert not operations.found
    assert code.dtype == torch.float32
    assert torch.equal(code, exact)


@pytest.mark.parametrize("dtype", HALVES)
def test_an_attention_mask_differs_only_where_a_logit_is_within_rounding_of_zero(dtype) -> None:
    """As in the release, it is made of logits in half precision, after the sigmoid."""
    g = torch.Generator().manual_seed(5)
    embeddings, features = torch.randn(2, 7, 64, generator=g), torch.randn(2, 64, 500, generator=g)
    embeddings = embeddings.to(dtype).float()
    exact = attention_mask(embeddings, features)[:, 0]
    with autocast(dtype):
        half = attention_mask(embeddings.to(dtype), features)[:, 0]
    epsilon = torch.finfo(dtype).eps
    # Features, products' sum and sigmoid are each rounded by half of epsilon; the sigmoid of a
    # logit s is 0.5 + s / 4, so that its rounding counts four times as much in s.
    reach = epsilon * (torch.bmm(embeddings.abs(), features.abs()) + 4)
    certain = torch.bmm(embeddings, features).abs() > reach
    assert torch.equal(half[certain], exact[certain])
    assert certain.float().mean() > 0.8
    assert (half == exact).float().mean() > 0.99


@pytest.mark.parametrize("dtype", HALVES)
def test_an_empty_mask_is_reopened_in_half_precision_too(dtype: torch.dtype) -> None:
    features = torch.ones(1, 4, 6)
    with autocast(dtype):
        blocked = attention_mask(torch.tensor([[[-1.0] * 4, [1.0] * 4]], dtype=dtype), features)
    assert not blocked.any()


@pytest.mark.parametrize("dtype", HALVES)
def test_attention_takes_its_softmax_in_more_than_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(6)
    attention = Attention(64, 4)
    queries, tokens = torch.randn(2, 5, 64), torch.randn(2, 300, 64)
    seen: dict[str, Tensor] = {}
    for name in ("query", "key", "value", "output"):
        module = getattr(attention, name)
        module.register_forward_hook(
            lambda _, given, made, name=name: seen.update({name: made, f"to {name}": given[0]})
        )
    with autocast(dtype):
        attention(queries, tokens, tokens)
    q, k, v = (
        seen[name].double().unflatten(2, (4, -1)).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    exact = ((q @ k.mT) / 4).softmax(dim=-1) @ v
    found = seen["to output"].unflatten(2, (4, -1)).transpose(1, 2)
    assert found.dtype == dtype
    # Of 300 weights near 1 / 300 the rounding to half would cancel out in the sum only by chance:
    # what is left is that of the weights before their product, and of the result.
    assert_close(found.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=2e-3)


@pytest.mark.parametrize("dtype", HALVES)
def test_what_queries_add_up_to_stays_float32_between_layers(dtype: torch.dtype) -> None:
    """Layer norms get and give float32, while linear layers compute in half precision."""
    torch.manual_seed(7)
    model = build_model(run_of().model, NUM_CLASSES)
    norms: list[torch.dtype] = []
    linears: list[torch.dtype] = []
    for module in model.transformer_decoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(
                lambda _, given, made: norms.extend((given[0].dtype, made.dtype))
            )
        elif isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, __, made: linears.append(made.dtype))
    with autocast(dtype):
        prediction = model(torch.rand(1, 3, *SIZE))
    assert len(norms) > 20
    assert {*norms} == {torch.float32}
    assert {*linears} == {dtype}
    assert prediction.mask_features.dtype == torch.float32
    assert prediction.mask_embeddings.dtype == prediction.class_logits.dtype == dtype


def trained(
    precision: str,
    num_steps: int,
    *,
    scale: float = 2.0**10,
    watch: Callable[[TrainingModule], None] = lambda _: None,
    callbacks: Sequence[lightning.Callback] = (),
) -> tuple[TrainingModule, list[float]]:
    """A module after some steps, and the norm of each step's gradients before they are clipped."""
    lightning.seed_everything(0, verbose=False)
    run = run_of()
    module = TrainingModule(build_model(run.model, NUM_CLASSES), run, 100)
    plugins = []
    if precision != "32-true":
        # Lightning lets GPUs alone have 16 bits. By default a scale is only halved.
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, backoff_factor=2.0**-30)
        is_scaled = precision == "16-mixed"
        plugins = [MixedPrecision(precision, "cpu", scaler if is_scaled else None)]
    norms: list[float] = []
    clip = module.on_before_optimizer_step

    def note_norm(optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norms.append(float(nn.utils.get_total_norm(gradients)))
        clip(optimizer)
        watch(module)

    module.on_before_optimizer_step = note_norm
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        trainer = lightning.Trainer(
            accelerator="cpu", max_steps=num_steps, logger=False, plugins=plugins,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[*callbacks],
        )  # fmt: skip
        batches = [random_batch(seed) for seed in range(num_steps)]
        trainer.fit(module, DataLoader(batches, batch_size=None))
    return module, norms


@pytest.mark.runs
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_step_keeps_float32_weights_and_clips_gradients_as_large_as_in_float32(precision) -> None:
    _, exact = trained("32-true", 1)
    module, norms = trained(precision, 1)
    # rounding chooses other points; a scale that was left in would count a thousand times
    assert norms[0] == pytest.approx(exact[0], rel=0.3)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    state = module.trainer.optimizers[0].state
    assert {t.dtype for s in state.values() for t in s.values()} == {torch.float32}


@pytest.mark.runs
def test_a_step_that_overflows_in_16_bits_changes_no_weight_and_the_run_goes_on() -> None:
    starts: list[Tensor] = []

    def note(module: TrainingModule) -> None:
        starts.append(module.model.transformer_decoder.classifier.weight.detach().clone())

    module, norms = trained("16-mixed", 3, scale=2.0**40, watch=note)
    assert [math.isfinite(norm) for norm in norms] == [False, True, True]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[2])
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert module.trainer.global_step == 3, "the schedule goes on"


@pytest.mark.runs
def test_the_scale_of_16_bits_is_part_of_the_state() -> None:
    module, _ = trained("16-mixed", 1, scale=2.0**40)
    trainer = module.trainer
    state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    key = MixedPrecision.__qualname__
    assert state[key]["scale"] == trainer.precision_plugin.scaler.get_scale() == 2.0**10


class NoteAutocast(lightning.Callback):
    """Whether autocast is on in both passes of training, and in callbacks, which score."""

    def __init__(self) -> None:
        self.in_model: list[bool] = []
        self.in_backward: list[bool] = []
        self.in_callbacks: list[bool] = []

    def setup(self, trainer, pl_module, stage) -> None:
        del trainer, stage
        model = pl_module.model
        model.register_forward_hook(
            lambda *_: self.in_model.append(torch.is_autocast_enabled("cpu"))
        )
        model.pixel_decoder.mask_projection.weight.register_hook(
            lambda _: self.in_backward.append(torch.is_autocast_enabled("cpu"))
        )

    def on_train_batch_end(self, *_: object) -> None:
        self.in_callbacks.append(torch.is_autocast_enabled("cpu"))


@pytest.mark.runs
def test_autocast_ends_with_the_forward_pass() -> None:
    """Under it, gradients of what is float32 would be products in half precision."""
    note = NoteAutocast()
    trained("bf16-mixed", 1, callbacks=[note])
    assert (note.in_model, note.in_backward, note.in_callbacks) == ([True], [False], [False])
