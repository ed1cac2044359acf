"""Which part of a batch fits into memory at a time: the same step, by what this machine has."""

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch

from mask2former.byte_sizes import format_size
from mask2former.config import Run
from mask2former.data.geometry import Size, shortest_edge_size
from mask2former.distributed import broadcast, gather, is_main, world_size
from mask2former.evaluation.truth import ScoredImages
from mask2former.training.memory.fitting import (
    Fit,
    count_images,
    is_within,
    largest_that_fits,
    tell_need,
    tell_verdict,
)
from mask2former.training.memory.memory_limit import Room, find_room, own_memory
from mask2former.training.memory.out_of_memory import (
    evaluation_knobs,
    half_side,
    recomputes,
)
from mask2former.training.memory.peak import Peak, measure_peak
from mask2former.training.memory.trials import (
    USUAL_TARGETS,
    EvaluationPass,
    TrainingStep,
    Work,
    largest_training_size,
)

logger = logging.getLogger(__name__)
Measure: TypeAlias = Callable[[Work, torch.device], Peak]
WORKER_BYTES = 100 * 2**20
"""Of a loader process for itself; what it shares with the one that it was forked from is counted
there. Measured: 65 MiB for pictures of 512 x 640 px, of which photos have more."""
BATCHES_AHEAD = 2
"""That PyTorch lets every loader process prepare."""


@dataclass(frozen=True)
class Plan:
    """How a run does its steps."""

    images_per_pass: int | None
    checkpoint_activations: bool
    training_bytes: int
    """At the peak of a step."""
    evaluation_bytes: int | None
    """At the peak of an evaluation; none: nothing is evaluated."""
    room: Room
    told: tuple[str, ...]

    def explain(self) -> list[str]:
        """Every choice with its arithmetic, a line each."""
        return list(self.told)

    def apply(self, run: Run) -> Run:
        """The run with what was planned, which says it for good."""
        return _with_training(
            run,
            images_per_pass=self.images_per_pass,
            checkpoint_activations=self.checkpoint_activations,
            fit_memory=None,
        )


def make_plan(
    run: Run,
    num_classes: int,
    device: torch.device,
    *,
    processes: int = 1,
    sharing: int | None = None,
    sizes: tuple[Size, ...] = (),
    measure: Measure = measure_peak,
) -> Plan:
    """Find the fewest passes by which a step's batch fits; the batch itself stays.

    Args:
        run: Its `training.fit_memory` is the limit; a CPU's is that of the machine for all
            processes. `training.images_per_pass`, where it is set, is not exceeded.
        num_classes: Without "no object".
        device: Of this process.
        processes: Of the run.
        sharing: Of those, the ones that share the device; none: all on a CPU, else one.
        sizes: (height, width) of the largest images that are evaluated; empty: none is.
        measure: Does a step or an evaluation and tells its peak.

    Raises:
        ValueError: Nothing fits: what to change, with what it would take; or the system does not
            tell memory, or the batch cannot be shared out.
    """
    limit = run.training.fit_memory
    room = find_room(
        device,
        sharing=sharing or (processes if device.type == "cpu" else 1),
        limit=limit if isinstance(limit, int) else None,
    )
    trials = _Trials(run, num_classes, device, processes, measure)
    usable = room.bytes - trials.beside
    told = [f"memory: {format_size(room.bytes)} for a process: {room.told}", *trials.tell_beside()]
    evaluation = None
    if sizes:
        evaluation = trials.evaluation(sizes)
        told.append(_tell_evaluation(run, evaluation, sizes, usable))
    recomputing = run.training.checkpoint_activations
    fit = trials.largest(usable, recomputing=recomputing)
    told += fit.told
    if fit.images == 0 and not recomputing and recomputes(run):
        recomputing = True
        told.append("one image does not fit: activations are computed again in the backward pass")
        fit = trials.largest(usable, recomputing=True)
        told += fit.told
    if fit.images == 0:
        raise ValueError(_explain_nothing_fits(trials, fit, usable, told))
    assert fit.bytes is not None
    passes = -(-trials.of_rank // fit.images)
    images = -(-trials.of_rank // passes)
    told += _tell_passes(run, trials.of_rank, images, processes)
    return Plan(
        images_per_pass=None if images == trials.of_rank else images,
        checkpoint_activations=recomputing,
        training_bytes=fit.bytes,
        evaluation_bytes=evaluation,
        room=room,
        told=tuple(told),
    )


def plan_together(
    run: Run, num_classes: int, device: torch.device, validation: ScoredImages | None
) -> Run:
    """The run as rank 0 plans it, on every rank, and the plan on standard error; all call it.

    Args:
        run: With `training.fit_memory`, and a precision that is not "auto".
        num_classes: Without "no object".
        device: Of this process.
        validation: What is evaluated.

    Raises:
        ValueError: Of `make_plan`, on every rank.
    """
    own = (socket.gethostname(), str(device))
    places = gather(own)
    planned: Plan | ValueError | None = None
    if places is not None:
        sizes = () if validation is None else largest_images(validation, run)
        try:
            planned = make_plan(
                run,
                num_classes,
                device,
                processes=world_size(),
                sharing=places.count(own),
                sizes=sizes,
            )
        except ValueError as error:
            planned = error
    planned = broadcast(planned)
    if isinstance(planned, ValueError):
        raise planned
    assert planned is not None
    for line in planned.explain():
        logger.info("plan: %s", line)
        if is_main():
            print(f"plan: {line}", file=sys.stderr, flush=True)  # noqa: T201
    return planned.apply(run)


def largest_images(validation: ScoredImages, run: Run) -> tuple[Size, ...]:
    """Sizes of the images that take most in an evaluation: before and after they are resized.

    Where the annotations do not say, the largest that `data.test_size` lets through is assumed.
    """
    sizes = {
        (record.height, record.width)
        for record in validation.main.records
        if record.height and record.width
    }
    test = run.data.test_size
    if not sizes:
        return ((test.short_side, test.max_long_side),)

    def pixels(size: Size) -> int:
        return size[0] * size[1]

    as_seen = max(
        sizes, key=lambda s: pixels(shortest_edge_size(s, test.short_side, test.max_long_side))
    )
    return tuple({as_seen, max(sizes, key=pixels)})


class _Trials:
    """Trials of one run on one device, none of them twice."""

    def __init__(
        self, run: Run, num_classes: int, device: torch.device, processes: int, measure: Measure
    ) -> None:
        batch = run.training.batch_size
        if batch % processes:
            raise ValueError(
                f"a batch of {batch} images cannot be shared out equally among {processes} "
                f"processes; give a multiple of {processes}"
            )
        self.run, self.num_classes, self.device = run, num_classes, device
        self.processes, self.measure = processes, measure
        self.of_rank = batch // processes
        self.targets = min(run.model.num_queries, USUAL_TARGETS)
        self.own = own_memory(device)
        self.most = min(run.training.images_per_pass or self.of_rank, self.of_rank)

    @property
    def beside(self) -> int:
        """Bytes of the loader processes, which take memory of the machine alone."""
        if self.device.type != "cpu":
            return 0
        return self.run.data.workers * (WORKER_BYTES + BATCHES_AHEAD * self._batch_bytes())

    def tell_beside(self) -> Iterator[str]:
        workers = self.run.data.workers
        if self.beside:
            yield (
                f"{workers} loader processes take {format_size(self.beside)}: each "
                f"{format_size(WORKER_BYTES)} and {BATCHES_AHEAD} batches of "
                f"{format_size(self._batch_bytes())}"
            )

    def _batch_bytes(self) -> int:
        height, width = largest_training_size(self.run.data.augmentation)
        return self.of_rank * height * width * (3 + -(-self.targets // 8))

    def largest(self, room: int, *, recomputing: bool) -> Fit:
        run = _with_training(self.run, checkpoint_activations=recomputing)
        return largest_that_fits(lambda images: self.training(run, images), room, self.most)

    def training(self, run: Run, images: int) -> int | None:
        step = TrainingStep(
            run,
            self.num_classes,
            images,
            of_batch=self.of_rank,
            keeps_gradients=images < self.of_rank or self.processes > 1,
            targets=min(run.model.num_queries, USUAL_TARGETS),
        )
        return self._need(step)

    def evaluation(self, sizes: tuple[Size, ...]) -> int | None:
        return self._need(EvaluationPass(self.run, self.num_classes, sizes))

    def _need(self, work: Work) -> int | None:
        """With what this process has beyond a bare one, such as the index of the data."""
        peak = self.measure(work, self.device)
        if peak.bytes is None:
            return None
        return peak.bytes + max(0, self.own - peak.idle if self.device.type == "cpu" else 0)


def _tell_evaluation(run: Run, need: int | None, sizes: tuple[Size, ...], room: int) -> str:
    shown = " and ".join(f"{height} x {width}" for height, width in sizes)
    told = f"evaluation of an image of {shown} px: {tell_need(need)}, {tell_verdict(need, room)}"
    if is_within(need, room):
        return told
    knobs = "; ".join(f"{k.options} ({k.now}; {k.effect})" for k in evaluation_knobs(run))
    raise ValueError(f"{told}. Make its images smaller: {knobs}")


def _tell_passes(run: Run, of_rank: int, images: int, processes: int) -> Iterator[str]:
    each = f" on {processes} processes are {of_rank} each" if processes > 1 else ""
    parts = [min(images, of_rank - start) for start in range(0, of_rank, images)]
    division = "all at once" if len(parts) == 1 else f"in passes of {', '.join(map(str, parts))}"
    yield f"a step's {count_images(run.training.batch_size)}{each}: {division}"
    if run.model.backbone.norm != "frozen" and len(parts) > 1:
        yield (
            f"batch norm learns (model.backbone.norm={run.model.backbone.norm}) and sees "
            f"{count_images(images)} at a time instead of {of_rank}; with frozen norms the step "
            "would be the same"
        )
    if run.training.compile:
        yield "the trials were not compiled; a compiled step takes about as much or less"


def _explain_nothing_fits(trials: _Trials, fit: Fit, room: int, told: list[str]) -> str:
    """The knobs with what one image would take by each, the most effective first."""
    run = trials.run
    if recomputes(run):
        run = _with_training(run, checkpoint_activations=True)
    rows = [(options, trials.training(other, 1)) for options, other in _alternatives(run)]
    rows.sort(key=lambda row: float("inf") if row[1] is None else row[1])
    lines = [f"{options}: {tell_need(need)}, {tell_verdict(need, room)}" for options, need in rows]
    if trials.beside:
        saved = format_size(trials.beside)
        lines.append(f"--set data.workers=0: {saved} less for loader processes")
    height, width = largest_training_size(run.data.augmentation)
    return "\n  ".join(
        [
            f"one image of {height} x {width} px at a time takes {tell_need(fit.bytes)}, and "
            f"{format_size(room)} may be used ({'; '.join(told[:1])}). One image takes with",
            *lines,
        ]
    )


def _alternatives(run: Run) -> Iterator[tuple[str, Run]]:
    height, width = (half_side(side) for side in run.data.augmentation.crop)
    augmentation = run.data.augmentation.model_copy(update={"crop": (height, width)})
    data = run.data.model_copy(update={"augmentation": augmentation})
    yield (
        f"--set data.augmentation.crop=[{height},{width}]",
        run.model_copy(update={"data": data}),
    )
    if run.model.backbone.name.startswith(("swin", "resnet101", "convnext", "vit")):
        backbone = run.model.backbone.model_copy(update={"name": "resnet50", "drop_path": 0.0})
        model = run.model.model_copy(update={"backbone": backbone})
        yield "--backbone resnet50", run.model_copy(update={"model": model})
    points = max(1, run.loss.num_points // 4)
    loss = run.loss.model_copy(update={"num_points": points})
    yield f"--set loss.num_points={points}", run.model_copy(update={"loss": loss})
    queries = max(1, run.model.num_queries // 2)
    model = run.model.model_copy(update={"num_queries": queries})
    yield f"--set model.num_queries={queries}", run.model_copy(update={"model": model})


def _with_training(run: Run, **changes: int | bool | None) -> Run:
    return run.model_copy(update={"training": run.training.model_copy(update=changes)})
