"""Which part of a batch fits into memory at a time: the same step, by what this machine has."""

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mask2former.byte_sizes import format_size
from mask2former.config import Run
from mask2former.data.geometry import Size, shortest_edge_size
from mask2former.distributed import broadcast, gather, is_main, world_size
from mask2former.evaluation.truth import ScoredImages
from mask2former.training.memory.fitting import (
    count_images,
    is_within,
    tell_need,
    tell_verdict,
)
from mask2former.training.memory.knobs import evaluation_knobs, with_training
from mask2former.training.memory.memory_limit import Room, find_room
from mask2former.training.memory.needs import Measure, Needs
from mask2former.training.memory.nothing_fits import explain_nothing_fits
from mask2former.training.memory.out_of_memory import recomputes
from mask2former.training.memory.peak import measure_peak
from mask2former.training.memory.sharing import identify_device, most_sharing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a run does its steps."""

    images_per_pass: int
    """A number also where the whole batch fits: a run that goes on with fewer processes, each of
    which has more images, keeps to it."""
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
        return with_training(
            run,
            images_per_pass=self.images_per_pass,
            checkpoint_activations=self.checkpoint_activations,
            fit_memory=None,
        )


def make_plan(
    run: Run,
    num_classes: int,
    *,
    device: torch.device,
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
            tell memory, the batch cannot be shared out, or the model is to be divided.
    """
    _check_is_whole(run, processes)
    limit = run.training.fit_memory
    room = find_room(
        device,
        sharing=sharing or (processes if device.type == "cpu" else 1),
        limit=limit if isinstance(limit, int) else None,
    )
    needs = Needs(run, num_classes, device=device, processes=processes, measure=measure)
    usable = room.bytes - needs.beside
    if usable <= needs.own:
        raise ValueError(
            f"{format_size(max(usable, 0))} may be used ({room.told}), and this process takes "
            f"{format_size(needs.own)} before it trains anything; allow it several times as much"
        )
    told = [f"memory: {format_size(room.bytes)} for a process: {room.told}", *needs.tell_beside()]
    evaluation = None
    if sizes:
        evaluation = needs.evaluation(sizes)
        told.append(_tell_evaluation(run, evaluation, sizes=sizes, room=usable))
    recomputing = run.training.checkpoint_activations
    fit = needs.largest(usable, recomputing=recomputing)
    told += fit.told
    if fit.images == 0 and not recomputing and recomputes(run):
        recomputing = True
        told.append("one image does not fit: activations are computed again in the backward pass")
        fit = needs.largest(usable, recomputing=True)
        told += fit.told
    if fit.images == 0:
        raise ValueError(
            explain_nothing_fits(
                run,
                fit.bytes,
                room=usable,
                memory=told[0],
                need=needs.one_image,
                beside=needs.loader_bytes,
            )
        )
    assert fit.bytes is not None
    passes = -(-needs.of_rank // fit.images)
    images = -(-needs.of_rank // passes)
    told += _tell_passes(run, needs.of_rank, images=images, processes=processes)
    return Plan(
        images_per_pass=images,
        checkpoint_activations=recomputing,
        training_bytes=fit.bytes,
        evaluation_bytes=evaluation,
        room=room,
        told=tuple(told),
    )


def _check_is_whole(run: Run, processes: int) -> None:
    if run.training.strategy == "fsdp" and processes > 1:
        raise ValueError(
            f"training.strategy is fsdp in {processes} processes and training.fit_memory is given "
            "(--memory-limit, --batch auto), which do not go together: trials take the whole "
            "model; set training.images_per_pass, and training.checkpoint_activations where that "
            "is not enough, or take training.strategy=ddp"
        )


def plan_together(
    run: Run, num_classes: int, *, device: torch.device, validation: ScoredImages | None
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
    devices = gather(identify_device(device))
    planned: Plan | ValueError | None = None
    if devices is not None:
        sizes = () if validation is None else largest_images(validation, run)
        try:
            planned = make_plan(
                run,
                num_classes,
                device=device,
                processes=world_size(),
                sharing=most_sharing(devices),
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


def _tell_evaluation(run: Run, need: int | None, *, sizes: tuple[Size, ...], room: int) -> str:
    shown = " and ".join(f"{height} x {width}" for height, width in sizes)
    told = f"evaluation of an image of {shown} px: {tell_need(need)}, {tell_verdict(need, room)}"
    if is_within(need, room):
        return told
    knobs = "; ".join(f"{k.options} ({k.now}; {k.effect})" for k in evaluation_knobs(run))
    raise ValueError(f"{told}. Make its images smaller: {knobs}")


def _tell_passes(run: Run, of_rank: int, *, images: int, processes: int) -> Iterator[str]:
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
