"""Numbers that are not finite never reach the weights: a run stops at that step or leaves it out.

A rank whose predictions are not finite still takes part in the exchange of gradients, with
gradients that are NaN on purpose. So their norm, which clipping computes anyway, is not finite on
every rank, and all of them decide alike, before the weights change.
"""

import logging
import math
import shlex
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm

from mask2former.distributed import broadcast, gather, is_main, rank, world_size
from mask2former.loss.criterion import Criterion, LossTerms
from mask2former.model.mask2former import Mask2Former
from mask2former.training.guards.diagnosis import Findings, Work, diagnose, explain
from mask2former.training.guards.evidence import EvidenceFolder, report, save_evidence
from mask2former.types import MaskPrediction

logger = logging.getLogger(__name__)
Verdict: TypeAlias = Literal["go on", "leave out", "stop"]


def judge(
    *, skips: bool, in_a_row: int, max_skipped: int, scale: float | None, has_cause: bool
) -> Verdict:
    """What to do about gradients that are not finite.

    Args:
        skips: Steps are left out rather than the run stopped.
        in_a_row: Steps that were not finite, this one counted.
        max_skipped: The most of them in a row.
        scale: Of the loss in float16, which grows until gradients overflow and then falls; none
            where losses are not scaled.
        has_cause: The loss or the predictions of a rank are not finite themselves.
    """
    is_usual = scale is not None and scale >= 1 and not has_cause
    if in_a_row > max_skipped or not (skips or is_usual):
        return "stop"
    return "leave out"


def poisoned(prediction: MaskPrediction) -> LossTerms:
    """Losses that are NaN, and make the gradients of all that the prediction came from NaN."""
    zero = sum((tensor.float().sum() for tensor in prediction), start=torch.tensor(0.0))
    nothing = (zero * math.nan).expand(len(prediction.class_logits))
    return LossTerms(nothing, nothing, nothing)


class Suspect(NamedTuple):
    """A loss of some images, to be looked at if gradients are not finite."""

    image_ids: list[int | str]
    loss: Tensor
    reason: str | None = None
    """That there is no loss."""


class Guard:
    """Watches the steps of one rank."""

    def __init__(
        self, model: nn.Module, *, skips: bool, max_skipped: int, keeps_statistics: bool = False
    ) -> None:
        """Say what to do.

        Args:
            model: That learns; on any device.
            skips: Leave out steps that are not finite, instead of stopping at the first.
            max_skipped: The most in a row.
            keeps_statistics: Remember what batch norms have learned before a step, also if no step
                is left out.
        """
        self.keeps_statistics = keeps_statistics
        self.model, self.skips, self.max_skipped = model, skips, max_skipped
        self.in_a_row = 0
        """Steps that were not finite, up to now."""
        self.causes: list[str | None] = []
        """What the last such step showed on each rank."""
        self._suspects: list[Suspect] = []
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def begin_step(self) -> None:
        """Forget the step before; keep what a failing forward pass would spoil."""
        self._suspects = []
        if self.skips or self.keeps_statistics:
            self._statistics = [(s, s.clone()) for s in learning_statistics(self.model)]

    def watch(self, loss: Tensor, image_ids: list[int | str], reason: str | None = None) -> Tensor:
        """The same loss, whose gradients are NaN where it is not finite; nothing waits for it.

        Args:
            loss: Of some images.
            image_ids: Theirs.
            reason: That there is no loss.
        """
        self._suspects.append(Suspect(image_ids, loss.detach(), reason))
        is_number = loss.detach().isfinite()
        return loss * torch.where(is_number, 1.0, math.nan).to(loss.dtype)

    def check(self, norm: Tensor, step: int, scaler: GradScaler | None) -> Verdict:
        """Decide before the weights change; all ranks call it, and all decide alike.

        Args:
            norm: Of the gradients of all ranks; read here, which is all that a good step costs.
            step: As the run logs it.
            scaler: Of losses in float16.
        """
        value = float(norm)
        if math.isfinite(value):
            self.in_a_row = 0
            return "go on"
        self.in_a_row += 1
        self.causes = all_of_ranks(self._cause())
        has_cause = any(cause is not None for cause in self.causes)
        verdict = judge(
            skips=self.skips,
            in_a_row=self.in_a_row,
            max_skipped=self.max_skipped,
            scale=None if scaler is None else scaler.get_scale(),
            has_cause=has_cause,
        )
        if verdict == "leave out" and (scaler is None or has_cause):
            self.restore_statistics()
            told = of_ranks(self.causes) or f"the norm of the gradients is {value}"
            if is_main():
                logger.warning("step %d is left out: %s", step, told)
        return verdict

    def _cause(self) -> str | None:
        """What of this rank's predictions and losses is not finite."""
        for suspect in self._suspects:
            if suspect.reason is not None or not math.isfinite(float(suspect.loss)):
                images = ", ".join(map(repr, suspect.image_ids))
                return suspect.reason or f"the loss of images {images} is {float(suspect.loss)}"
        return None

    def restore_statistics(self) -> None:
        """As they were before the step, where they are kept."""
        for statistic, before in self._statistics:
            statistic.copy_(before)


def learning_statistics(model: nn.Module) -> list[Tensor]:
    """What batch norms that learn have measured."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


def stop_at(
    step: int,
    model: Mask2Former,
    criterion: Criterion,
    work: Work,
    *,
    place: EvidenceFolder | None,
    causes: Sequence[str | None] = (),
    in_a_row: int = 1,
    skips: bool = False,
) -> FloatingPointError:
    """Find out what was not finite, save the evidence, and say so alike on all ranks.

    All ranks call it.

    Args:
        step: As the run logs it.
        model: With the weights of the step, on any device; its gradients are dropped. It asks no
            other rank: how often one runs is its own affair.
        criterion: Of the run.
        work: What this rank did.
        place: Where the evidence goes; none: nowhere.
        causes: What the step showed on each rank; run again, it may not show the same.
        in_a_row: Steps that were not finite, this one counted.
        skips: Such steps are left out, up to a number.

    Returns:
        The error to raise.
    """
    model.zero_grad()
    cause = causes[rank()] if causes else None
    try:
        model.to(work.normalizers.num_masks.device)
        findings = diagnose(model, criterion, work)
        found = explain(findings)
    except (RuntimeError, MemoryError) as error:  # what is known must still be said
        findings, found = None, f"running the batch again failed: {_first_line(error)}"
    is_bad = findings is not None and not findings.is_clean
    is_guilty = is_bad or cause is not None
    nobody = not any(all_of_ranks(is_guilty))
    told, where = None, None
    if is_guilty or (nobody and is_main()):
        told = found if is_bad or cause is None else f"{cause}; {found}"
    if told is not None and place is not None:
        where = _saved(place, model, work, findings, step)
    reasons = of_ranks(all_of_ranks(told))
    places = "; ".join(text for text in all_of_ranks(where) if text)
    before = f" ({in_a_row} such steps in a row)" if in_a_row > 1 else ""
    return FloatingPointError(
        f"step {step}: the loss or its gradients are not finite{before}: {reasons}. The weights "
        f"are those before this step. {_what_to_do(work.precision, skips=skips)}"
        + (f". {places}" if places else "")
    )


def _what_to_do(precision: str, *, skips: bool) -> str:
    """What the run does not do already."""
    do = "Lower the learning rate (optimizer.learning_rate) or warm it up (schedule.warmup_steps)"
    if precision != "32-true":
        do += ", or train in training.precision=32-true"
    return do if skips else f"{do}; training.on_nonfinite=skip leaves such steps out"


def _saved(
    place: EvidenceFolder, model: Mask2Former, work: Work, findings: Findings | None, step: int
) -> str:
    """Where the evidence lies, or why not: the error that it is of must be told in any case."""
    folder = place.of_step(step, rank(), world_size())
    try:
        save_evidence(folder, place, model, work, step=step, rank=rank())
        if findings is not None:
            (folder / "report.txt").write_text(report(findings, step), encoding="utf-8")
    except (OSError, RuntimeError) as error:
        return f"the evidence could not be saved to {folder}: {_first_line(error)}"
    command = f"python -m mask2former.training.guards.evidence {shlex.quote(str(folder))}"
    return f"evidence: {folder}; to repeat it: {command}"


def all_of_ranks(value: object) -> list:
    """What every rank says, known to all of them."""
    return broadcast(gather(value)) or []


def of_ranks(texts: list[str | None]) -> str:
    """What some ranks have to say, with the names of those that speak where there are several."""
    if len(texts) == 1:
        return texts[0] or ""
    return "; ".join(f"rank {number}: {text}" for number, text in enumerate(texts) if text)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
