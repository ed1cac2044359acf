"""What is told where not even one image fits into memory."""

from collections.abc import Callable

from mask2former.byte_sizes import format_size
from mask2former.config import Run
from mask2former.training.memory.fitting import tell_need, tell_verdict
from mask2former.training.memory.knobs import image_knobs, with_training, worker_knobs
from mask2former.training.memory.out_of_memory import recomputes
from mask2former.training.memory.trials import largest_training_size


def explain_nothing_fits(
    run: Run,
    taken: int | None,
    *,
    room: int,
    memory: str,
    need: Callable[[Run], int | None],
    beside: Callable[[Run], int],
) -> str:
    """The knobs with what one image would take by each, the most effective first.

    Args:
        run: Its configuration.
        taken: Bytes of one image; none: more than there are.
        room: Bytes that may be used.
        memory: How those came about.
        need: Bytes of one image in a run; none: more than there are.
        beside: Bytes of a run's loader processes.
    """
    height, width = largest_training_size(run.data.augmentation)
    if recomputes(run):
        run = with_training(run, checkpoint_activations=True)
    rows = [(knob.options, need(knob.changed)) for knob in image_knobs(run)]
    rows.sort(key=lambda row: float("inf") if row[1] is None else row[1])
    lines = [f"{options}: {tell_need(need)}, {tell_verdict(need, room)}" for options, need in rows]
    for knob in worker_knobs(run):
        saved = beside(run) - beside(knob.changed)
        if saved > 0:
            lines.append(f"{knob.options}: {format_size(saved)} less for loader processes")
    return "\n  ".join(
        [
            f"one image of {height} x {width} px at a time takes {tell_need(taken)}, and "
            f"{format_size(room)} may be used ({memory}). One image takes with",
            *lines,
        ]
    )
