"""When memory runs out: how to know it, what to say, and how to do the same step with less."""

import errno
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from mask2former.config import Run

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


class Knob(NamedTuple):
    """One setting of a run that takes less memory."""

    now: str
    """What it is."""
    options: str
    """What to add to the command."""
    effect: str


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
        return _with_training(run, images_per_pass=at_once // 2)
    if training.checkpoint_activations or not recomputes(run):
        return None
    return _with_training(run, images_per_pass=1, checkpoint_activations=True)


def recomputes(run: Run) -> bool:
    """Whether the options of a run permit recomputed activations; see `apply_model_options`."""
    return not (run.training.compile and run.model.backbone.norm != "frozen")


def explain_out_of_memory(
    error: BaseException, run: Run, output: Path, *, images: int, step: int | None = None
) -> str:
    """What to do about it, in order of effect, with the values that the run has now.

    Args:
        error: As `is_out_of_memory` knows it.
        run: Its configuration.
        output: Its folder, for commands that can be pasted.
        images: That a process has of a step.
        step: In which it happened; none: outside of the steps, as in an evaluation.
    """
    what = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    where = "in an evaluation" if step is None else f"in step {step}"
    resume = f"mask2former train --output {shlex.quote(str(output))} --resume"
    knobs = list(evaluation_knobs(run) if step is None else training_knobs(run, images))
    lines = [f"memory ran out {where} ({what[:200]}). In order of effect:"]
    lines += [f"{knob.now}: {knob.options}  ({knob.effect})" for knob in knobs]
    lines.append(f"go on with: {resume} {knobs[0].options}")
    return "\n  ".join(lines)


def training_knobs(run: Run, images: int) -> Iterator[Knob]:
    """What makes a step take less, those first that change nothing but its time.

    Args:
        run: Its configuration.
        images: That a process has of a step.
    """
    less = smaller(run, images)
    if less is not None and not less.training.checkpoint_activations:
        half = less.training.images_per_pass
        yield Knob(
            f"training.images_per_pass is {run.training.images_per_pass or images}",
            f"--set training.images_per_pass={half}",
            "the same step in more passes",
        )
    if not run.training.checkpoint_activations and recomputes(run):
        yield Knob(
            "training.checkpoint_activations is false",
            "--set training.images_per_pass=1 --set training.checkpoint_activations=true",
            "the same step, about a third slower",
        )
    height, width = run.data.augmentation.crop
    yield Knob(
        f"data.augmentation.crop is {height} x {width} px",
        f"--set data.augmentation.crop=[{half_side(height)},{half_side(width)}]",
        "activations follow the pixels: about a quarter; small objects suffer",
    )
    yield from _knobs_of_model(run)


def _knobs_of_model(run: Run) -> Iterator[Knob]:
    """Those that make another run."""
    if run.model.backbone.name != "resnet50":
        yield Knob(
            f"model.backbone.name is {run.model.backbone.name}",
            "--backbone resnet50",
            "for a new run; most published backbones take more",
        )
    points, queries = run.loss.num_points, run.model.num_queries
    yield Knob(
        f"loss.num_points is {points}",
        f"--set loss.num_points={max(1, points // 4)}",
        "masks are compared at fewer points",
    )
    yield Knob(
        f"model.num_queries is {queries}",
        f"--set model.num_queries={max(1, queries // 2)}",
        "for a new run; at most so many segments in an image",
    )
    if run.data.workers > 0:
        yield Knob(
            f"data.workers is {run.data.workers}",
            f"--set data.workers={run.data.workers // 2}",
            "memory of the machine, not of an accelerator",
        )


def evaluation_knobs(run: Run) -> Iterator[Knob]:
    """What makes an evaluation take less."""
    short, longest = run.data.test_size.short_side, run.data.test_size.max_long_side
    yield Knob(
        f"data.test_size.short_side is {short} px",
        f"--set data.test_size.short_side={max(1, short // 2)}",
        "about a quarter; metrics change",
    )
    yield Knob(
        f"data.test_size.max_long_side is {longest} px",
        f"--set data.test_size.max_long_side={max(short, longest // 2)}",
        "long images become smaller",
    )


def half_side(side: int, multiple: int = 32) -> int:
    """Half of a side in pixels, at least and preferably a multiple of the model's stride."""
    return max(multiple, side // 2 // multiple * multiple)


def _with_training(run: Run, **changes: int | bool) -> Run:
    return run.model_copy(update={"training": run.training.model_copy(update=changes)})
