"""Settings of a run that take less memory: what each is, what it could be, what that changes."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch

from mask2former.config import Run
from mask2former.model.backbone import make_backbone
from mask2former.presets import published_backbone

SMALLEST_PUBLISHED = "resnet50"
STRIDE = 32
"""Of the model, in pixels."""


class Knob(NamedTuple):
    """One setting of a run that takes less memory."""

    now: str
    """What it is."""
    options: str
    """What to add to the command."""
    effect: str
    changed: Run
    """The run with these options."""
    is_for_new_run: bool = False
    """A run that has begun cannot go on with it."""


def image_knobs(run: Run) -> Iterator[Knob]:
    """What makes one image take less in a step, and another run of it.

    Args:
        run: Its configuration; what cannot be less is left out.
    """
    knobs = (_crop(run), *_backbone(run), _points(run), _queries(run))
    yield from _that_change(run, knobs)


def _crop(run: Run) -> Knob:
    height, width = run.data.augmentation.crop
    half = (half_side(height), half_side(width))
    augmentation = run.data.augmentation.model_copy(update={"crop": half})
    data = run.data.model_copy(update={"augmentation": augmentation})
    return Knob(
        f"data.augmentation.crop is {height} x {width} px",
        f"--set data.augmentation.crop=[{half[0]},{half[1]}]",
        "activations follow the pixels: about a quarter; small objects suffer",
        run.model_copy(update={"data": data}),
    )


def half_side(side: int) -> int:
    """Half of a side in pixels, at least and preferably a multiple of the model's stride."""
    return min(side, max(STRIDE, side // 2 // STRIDE * STRIDE))


def _backbone(run: Run) -> Iterator[Knob]:
    """The smallest published one, for a run whose own is larger."""
    own, other = (count_parameters(name) for name in (run.model.backbone.name, SMALLEST_PUBLISHED))
    if own is None or other is None or own <= other:
        return
    model = run.model.model_copy(update={"backbone": published_backbone(SMALLEST_PUBLISHED)})
    yield Knob(
        f"model.backbone.name is {run.model.backbone.name}",
        f"--backbone {SMALLEST_PUBLISHED}",
        f"for a new run; {other / 1e6:.0f} million parameters instead of {own / 1e6:.0f}",
        run.model_copy(update={"model": model}),
        is_for_new_run=True,
    )


def count_parameters(backbone: str) -> int | None:
    """How many a backbone has, without memory for them; none where it must compute to be made.

    Raises:
        ValueError: There is no backbone of that name.
    """
    try:
        with torch.device("meta"):
            made = make_backbone(backbone, norm="frozen", drop_path=0.0)
    except (NotImplementedError, RuntimeError):
        return None
    return sum(parameter.numel() for parameter in made.parameters())


def _points(run: Run) -> Knob:
    points = max(1, run.loss.num_points // 4)
    loss = run.loss.model_copy(update={"num_points": points})
    return Knob(
        f"loss.num_points is {run.loss.num_points}",
        f"--set loss.num_points={points}",
        "masks are compared at fewer points",
        run.model_copy(update={"loss": loss}),
    )


def _queries(run: Run) -> Knob:
    queries = max(1, run.model.num_queries // 2)
    model = run.model.model_copy(update={"num_queries": queries})
    return Knob(
        f"model.num_queries is {run.model.num_queries}",
        f"--set model.num_queries={queries}",
        "for a new run; at most so many segments in an image",
        run.model_copy(update={"model": model}),
        is_for_new_run=True,
    )


def worker_knobs(run: Run) -> Iterator[Knob]:
    """What takes less of the machine's memory, where loader processes take some of it."""
    workers = run.data.workers // 2
    data = run.data.model_copy(update={"workers": workers})
    knob = Knob(
        f"data.workers is {run.data.workers}",
        f"--set data.workers={workers}",
        "memory of the machine, not of an accelerator",
        run.model_copy(update={"data": data}),
    )
    yield from _that_change(run, [knob])


def evaluation_knobs(run: Run) -> Iterator[Knob]:
    """What makes an evaluation take less.

    Args:
        run: Its configuration; what cannot be less is left out.
    """
    short, longest = run.data.test_size.short_side, run.data.test_size.max_long_side
    less_short, less_long = max(1, short // 2), max(short, longest // 2)
    knobs = (
        Knob(
            f"data.test_size.short_side is {short} px",
            f"--set data.test_size.short_side={less_short}",
            "about a quarter; metrics change",
            _with_test_size(run, short_side=less_short),
        ),
        Knob(
            f"data.test_size.max_long_side is {longest} px",
            f"--set data.test_size.max_long_side={less_long}",
            "long images become smaller",
            _with_test_size(run, max_long_side=less_long),
        ),
    )
    yield from _that_change(run, knobs)


def _with_test_size(run: Run, **changes: int) -> Run:
    test_size = run.data.test_size.model_copy(update=changes)
    return run.model_copy(update={"data": run.data.model_copy(update={"test_size": test_size})})


def _that_change(run: Run, knobs: Iterable[Knob]) -> Iterator[Knob]:
    return (knob for knob in knobs if knob.changed != run)


def with_training(run: Run, **changes: int | bool | None) -> Run:
    """The run with other settings of its part `training`."""
    return run.model_copy(update={"training": run.training.model_copy(update=changes)})
