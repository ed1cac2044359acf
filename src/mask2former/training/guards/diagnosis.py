"""What was not finite: a batch is run again, and every number of it is looked at."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mask2former.data.batching import split_batch
from mask2former.loss.criterion import Criterion
from mask2former.model.mask2former import Mask2Former
from mask2former.training.passes import (
    Normalizers,
    Predicted,
    autocast_as,
    own_drop_paths,
    predict,
    score,
)
from mask2former.types import Batch, MaskPrediction

HUGE = 1e4
"""Absolute value of a weight to which no training comes that goes well."""
SHOWN = 3
"""Names of a list that a message gives."""


class Work(NamedTuple):
    """What one rank does in one step, as it can be done again."""

    batch: Batch
    """This rank's images, on the device."""
    normalizers: Normalizers
    step_seed: int
    """Of what the model draws."""
    images_per_pass: int | None
    """None: all at once."""
    precision: str = "32-true"
    """As Lightning names it."""
    scale: float = 1.0
    """Of the loss in the backward pass; above 1 for float16."""


class BadOutput(NamedTuple):
    """A module whose output is not finite."""

    module: str
    """Name within the model; empty for the model itself."""
    kind: str
    """Name of its class."""
    num_bad: int
    num_values: int


class ImageLosses(NamedTuple):
    """Weighted losses of one image, one of each prediction layer: its part of those of the step."""

    image_id: int | str
    classification: tuple[float, ...]
    mask: tuple[float, ...]
    dice: tuple[float, ...]
    unmatched: tuple[int, ...] = ()
    """Layers whose matching costs are not finite; the losses of the image are NaN then."""


class Findings(NamedTuple):
    """All numbers of a batch that are not finite, and the losses of its images."""

    images: tuple[ImageLosses, ...]
    first_output: BadOutput | None
    """The first module, in the order in which they end, whose output is not finite."""
    bad_weights: tuple[str, ...]
    """Parameters that are not finite themselves."""
    bad_gradients: tuple[str, ...]
    """Parameters whose gradients are not finite, those nearest to the losses first."""
    gradient_norm: float = 0.0
    """Of all gradients of a pass; of several passes the largest. The squares of finite gradients
    may overflow in it."""
    largest_gradient: str = ""
    """The parameter that has it, and its largest absolute value."""
    largest_weight: str = ""
    """Likewise of the weights, if it is beyond `HUGE`: an earlier step has spoilt them."""

    @property
    def is_clean(self) -> bool:
        """Whether all numbers are finite."""
        bad = self.first_output or self.bad_weights or self.bad_gradients
        is_good = _is_number(self.gradient_norm)
        return is_good and not bad and not any(faults_of(image) for image in self.images)


class Gradients(NamedTuple):
    """Of one pass."""

    norm: float
    largest: str


def diagnose(model: Mask2Former, criterion: Criterion, work: Work) -> Findings:
    """Run a batch again, forward, losses and backward.

    It gives what the step gave: weights and seeds are the same. Gradients of the parameters and
    the exchange of gradients between ranks are left alone. The generators of random numbers and
    the statistics of batch norms that learn change as in the step.

    Args:
        model: In training mode, with the weights of the step.
        criterion: Of the run.
        work: What this rank did.
    """
    device = work.normalizers.num_masks.device
    bad_weights = tuple(n for n, p in model.named_parameters() if not is_finite(p))
    images: list[ImageLosses] = []
    worst = Gradients(0.0, "")
    torch.manual_seed(work.step_seed)
    with (
        torch.enable_grad(),
        torch.compiler.set_stance("force_eager"),
        autocast_as(work.precision, device),
        _noting_outputs(model) as outputs,
        _noting_gradients(model) as gradients,
    ):
        for part in split_batch(work.batch, work.images_per_pass):
            with own_drop_paths(model, part):
                predicted = predict(model, part)
                images += losses_of_images(criterion, predicted, part, work.normalizers)
                found = _run_backward(model, criterion, predicted, part, work)
            worst = max(worst, found, key=lambda gradients: _size(gradients.norm))
    first = outputs[0] if outputs else None
    bad_gradients = tuple(dict.fromkeys(gradients))
    huge = huge_weight(model)
    return Findings(tuple(images), first, bad_weights, bad_gradients, *worst, huge)


def losses_of_images(
    criterion: Criterion, predicted: Predicted, batch: Batch, normalizers: Normalizers
) -> list[ImageLosses]:
    """What each image adds to the losses; it draws from its own seed, so the others do not matter.

    Args:
        criterion: Of the run.
        predicted: Of all images of a pass.
        batch: They.
        normalizers: Of the step.
    """
    (logits, embeddings, features), size = predicted
    found = []
    for i, (target, image_id, seed) in enumerate(
        zip(batch.targets, batch.image_ids, batch.seeds, strict=True)
    ):
        own = MaskPrediction(logits[:, i : i + 1], embeddings[:, i : i + 1], features[i : i + 1])
        alone = Batch([batch.images[i]], [target], [image_id], [seed])
        found.append(_losses_of_image(criterion, Predicted(own, size), alone, normalizers))
    return found


@torch.no_grad()
def _losses_of_image(
    criterion: Criterion, predicted: Predicted, batch: Batch, normalizers: Normalizers
) -> ImageLosses:
    [image_id] = batch.image_ids
    try:
        terms = score(criterion, predicted, batch, normalizers)
    except FloatingPointError:
        layers = range(len(predicted.prediction.class_logits))
        unmatched = [
            layer
            for layer in layers
            if not _is_matched(criterion, _layer(predicted, layer), batch, normalizers)
        ]
        unknown = tuple(float("nan") for _ in layers)
        return ImageLosses(image_id, unknown, unknown, unknown, tuple(unmatched))
    weighted = [
        tuple((weight * term).tolist())
        for weight, term in zip(criterion.weights, terms, strict=True)
    ]
    return ImageLosses(image_id, *weighted)


def _layer(predicted: Predicted, layer: int) -> Predicted:
    (logits, embeddings, features), size = predicted
    one = slice(layer, layer + 1)
    return Predicted(MaskPrediction(logits[one], embeddings[one], features), size)


def _is_matched(
    criterion: Criterion, predicted: Predicted, batch: Batch, normalizers: Normalizers
) -> bool:
    try:
        score(criterion, predicted, batch, normalizers)
    except FloatingPointError:
        return False
    return True


def _run_backward(
    model: Mask2Former, criterion: Criterion, predicted: Predicted, batch: Batch, work: Work
) -> Gradients:
    """Not into the parameters' own gradients, which several processes would exchange."""
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    try:
        loss = criterion.total(score(criterion, predicted, batch, work.normalizers))
    except FloatingPointError:
        return Gradients(0.0, "")
    with torch.autocast(loss.device.type, enabled=False):  # as in the step
        found = torch.autograd.grad(work.scale * loss, [*learning.values()], allow_unused=True)
    gradients = {n: g / work.scale for n, g in zip(learning, found, strict=True) if g is not None}
    largest = {name: float(gradient.abs().max()) for name, gradient in gradients.items()}
    name = max(largest, key=lambda each: _size(largest[each]))
    norm = float(torch.nn.utils.get_total_norm([*gradients.values()]))
    return Gradients(norm, f"{name}, {largest[name]:.3g}")


@contextmanager
def _noting_outputs(model: nn.Module) -> Iterator[list[BadOutput]]:
    """The modules whose outputs are not finite, the innermost before those around them."""
    found: list[BadOutput] = []

    def look(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        del inputs
        tensors = list(tensors_in(output))
        if found or all(map(is_finite, tensors)):
            return
        num_bad = sum(int((~t.isfinite()).sum()) for t in tensors)
        num_values = sum(t.numel() for t in tensors)
        found.append(BadOutput(name, type(module).__name__, num_bad, num_values))

    hooks = [m.register_forward_hook(partial(look, name)) for name, m in model.named_modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _noting_gradients(model: nn.Module) -> Iterator[list[str]]:
    """Names of parameters whose gradients are not finite, as a backward pass comes to them."""
    found: list[str] = []

    def look(name: str, gradient: Tensor) -> None:
        if not is_finite(gradient):
            found.append(name)

    learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hooks = [parameter.register_hook(partial(look, name)) for name, parameter in learning]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of floating point in what a module returns."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are; waits for the device."""
    return bool(tensor.isfinite().all())


def faults_of(image: ImageLosses) -> list[str]:
    """What is not finite in the losses of an image."""
    if image.unmatched:
        return [f"matching cost is not finite in layer {_listed(image.unmatched)}"]
    losses = (("class", image.classification), ("mask", image.mask), ("dice", image.dice))
    bad = [
        (name, [layer for layer, value in enumerate(values) if not _is_number(value)])
        for name, values in losses
    ]
    return [f"{name} loss is not finite in layer {_listed(where)}" for name, where in bad if where]


def huge_weight(model: nn.Module) -> str:
    """The parameter with the largest absolute value and that value, if one is beyond `HUGE`."""
    largest = {name: float(p.detach().abs().max()) for name, p in model.named_parameters()}
    name = max(largest, key=lambda each: _size(largest[each]))
    return f"{name}, {largest[name]:.3g}" if largest[name] > HUGE else ""


def explain(findings: Findings) -> str:
    """One sentence without its end, for a message; `is_clean` findings say so."""
    faults = []
    if findings.bad_weights:
        faults.append(f"weights that are not finite: {_listed(findings.bad_weights)}")
    if findings.largest_weight:
        faults.append(f"weights that earlier steps made huge, such as {findings.largest_weight}")
    if findings.first_output is not None:
        faults.append(f"first output that is not finite: {describe_output(findings.first_output)}")
    told = [f"image {i.image_id!r}: {', '.join(f)}" for i in findings.images if (f := faults_of(i))]
    if told:
        faults.append(_listed(told, "; "))
    if findings.bad_gradients:
        first, *others = findings.bad_gradients
        more = f" and {len(others)} more parameters" if others else ""
        faults.append(f"first gradient that is not finite: {first}{more}")
    elif not _is_number(findings.gradient_norm):
        faults.append(
            "the squares of the gradients overflow, though each is finite; the largest: "
            f"{findings.largest_gradient}"
        )
    return "; ".join(faults) or "run again, the batch gave finite numbers"


def describe_output(output: BadOutput) -> str:
    """Its name, kind and numbers."""
    name = output.module or "the model"
    return f"{name} ({output.kind}), {output.num_bad} of {output.num_values} values"


def _size(value: float) -> float:
    """To compare by: NaN is larger than all numbers."""
    return math.inf if math.isnan(value) else value


def _is_number(value: float) -> bool:
    return abs(value) < float("inf")  # NaN is not less


def _listed(items: Sequence[object], separator: str = ", ") -> str:
    shown = separator.join(str(item) for item in items[:SHOWN])
    rest = len(items) - SHOWN
    if rest == 1:
        return f"{shown}{separator}{items[-1]}"
    return shown if rest < 1 else f"{shown} and {rest} more"
