"""When memory runs out: how to know it, what to say, and how to do the same step with less."""

import errno
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from mask2former.config import Run
from mask2former.training.memory.knobs import (
    Knob,
    evaluation_knobs,
    image_knobs,
    with_training,
    worker_knobs,
)

Where: TypeAlias = Literal["step", "evaluation", "elsewhere"]

PHRASES = (
    "out of memory",  # CUDA, HIP, MPS, XPU, NPU
    "can't allocate memory",  # PyTorch's CPU allocator on Linux and macOS
    "not enough memory: you tried to allocate",  # and on Windows
    "cannot allocate memory",  # the system's words
    "failed to allocate memory",
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED and its like
    "error_out_of_device_memory",  # Level Zero
    "error_out_of_host_memory",
    "cudaerrormemoryallocation",
    "hiperroroutofmemory",
    "std::bad_alloc",
)
"""How libraries say it, in small letters."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that memory ran out.

    Of an accelerator of any vendor, or of the machine. Every other error, a full disk among them,
    is none.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if _says_so(cause):
            return True
        cause = cause.__cause__
    return False


def _says_so(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # a subclass is another library's way of saying something else, such as NotImplementedError
    if not isinstance(error, RuntimeError) or isinstance(error, NotImplementedError):
        return False
    said = str(error).lower()
    return any(phrase in said for phrase in PHRASES)


def smaller(run: Run, images: int) -> Run | None:
    """The next smaller way to do the same step: half the images at a time, then recomputing.

    The gradients stay those of the whole batch; only a batch norm that learns sees fewer images.

    Args:
        run: As it is.
        images: That this process has of a step.

    Returns:
        The run with another `images_per_pass` or `checkpoint_activations`; none where one image
        with recomputed activations is too much.
    """
    training = run.training
    at_once = min(training.images_per_pass or images, images)
    if at_once > 1:
        return with_training(run, images_per_pass=at_once // 2)
    if training.checkpoint_activations or not recomputes(run):
        return None
    return with_training(run, images_per_pass=1, checkpoint_activations=True)


def recomputes(run: Run) -> bool:
    """Whether the options of a run permit recomputed activations; see `apply_model_options`."""
    return not (run.training.compile and run.model.backbone.norm != "frozen")


def explain_out_of_memory(
    error: BaseException,
    run: Run,
    *,
    output: Path,
    images: int,
    where: Where,
    step: int | None = None,
) -> str:
    """What to do about it, in order of effect, with the values that the run has now.

    Args:
        error: As `is_out_of_memory` knows it.
        run: Its configuration.
        output: Its folder, for commands that can be pasted.
        images: That a process has of a step.
        where: It happened; elsewhere: while a run was set up, a batch moved to its device or a
            loader process begun.
        step: In which it happened.
    """
    what = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    knobs = list(_knobs_for(error, run, images=images, where=where))
    lines = [f"memory ran out {_tell_where(where, step)} ({what[:200]}). In order of effect:"]
    lines += [f"{knob.now}: {knob.options}  ({knob.effect})" for knob in knobs]
    resume = f"mask2former train --output {shlex.quote(str(output))} --resume"
    to_go_on = [knob.options for knob in knobs if not knob.is_for_new_run]
    if to_go_on:
        lines.append(f"go on with: {resume} {to_go_on[0]}")
    return "\n  ".join(lines)


def _tell_where(where: Where, step: int | None) -> str:
    if where == "elsewhere":
        return "outside of steps and evaluations"
    if where == "evaluation":
        return "in an evaluation"
    return "in a step" if step is None else f"in step {step}"


def _knobs_for(error: BaseException, run: Run, *, images: int, where: Where) -> Iterator[Knob]:
    if where == "evaluation":
        yield from evaluation_knobs(run)
        return
    # the system's refusal to begin a process, rather than an allocator's
    is_of_machine = where == "elsewhere" and isinstance(error, OSError)
    if is_of_machine:
        yield from worker_knobs(run)
    yield from pass_knobs(run, images)
    yield from image_knobs(run)
    if not is_of_machine:
        yield from worker_knobs(run)


def pass_knobs(run: Run, images: int) -> Iterator[Knob]:
    """What does the same step with less, in more time.

    Args:
        run: Its configuration.
        images: That a process has of a step.
    """
    less = smaller(run, images)
    if less is not None and not less.training.checkpoint_activations:
        yield Knob(
            f"training.images_per_pass is {run.training.images_per_pass or images}",
            f"--set training.images_per_pass={less.training.images_per_pass}",
            "the same step in more passes",
            less,
        )
    if not run.training.checkpoint_activations and recomputes(run):
        yield Knob(
            "training.checkpoint_activations is false",
            "--set training.images_per_pass=1 --set training.checkpoint_activations=true",
            "the same step, about a third slower",
            with_training(run, images_per_pass=1, checkpoint_activations=True),
        )
