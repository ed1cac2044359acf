"""What a batch of another size than the preset's means for learning rate and length of a run."""

import math
from collections.abc import Mapping
from typing import Any

from mask2former.config import Run
from mask2former.presets import find_preset


def rate_for_batch(rate: float, batch: int, other: int) -> float:
    """The learning rate for batches of another size.

    Args:
        rate: That fits batches of the first size.
        batch: Images per step.
        other: Images per step that the rate is wanted for.

    Source:
        Malladi et al. (2022), "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms":
        Adam's step does not grow with the gradient, so that its noise follows the square root of
        the batch, and so must the rate. The rule's changes of Adam's betas are left out.
    """
    return rate * math.sqrt(other / batch)


def follow_batch(run: Run, given: Mapping[str, Any]) -> tuple[Run, list[str]]:
    """Let the learning rate follow the batch, unless it was given, and say what else changes.

    Args:
        run: Complete.
        given: What differs from its preset, as `config_io.compose_run` took it.

    Returns:
        The run, and lines that say how its rate came about and how many images it sees. There are
        none where the batch is the preset's.
    """
    training = run.training
    preset = find_preset(run.preset).run(run.task)
    batch, rate = preset.training.batch_size, preset.optimizer.learning_rate
    if training.batch_size == batch:
        return run, []
    scaled = rate_for_batch(rate, batch, training.batch_size)
    told = f"learning rate {rate:g} x sqrt({training.batch_size} / {batch}) = {scaled:.3g}"
    own_rate = run.optimizer.learning_rate
    if _is_given(given, "optimizer", "learning_rate"):
        is_same = math.isclose(own_rate, scaled, rel_tol=0.01)
        lines = [] if is_same else [f"learning rate {own_rate:g} as given (the rule: {told})"]
    else:
        optimizer = run.optimizer.model_copy(update={"learning_rate": scaled})
        run = run.model_copy(update={"optimizer": optimizer})
        lines = [f"{told}, since the preset's is for batches of {batch}"]
    is_length_given = any(_is_given(given, "training", name) for name in ("steps", "epochs"))
    if not is_length_given and training.steps is not None:
        lines.append(_tell_images_seen(training.steps, training.batch_size, batch))
    return run, lines


def _tell_images_seen(steps: int, batch: int, of_preset: int) -> str:
    wanted = math.ceil(steps * of_preset / batch)
    return (
        f"{steps} steps of {batch} images show {steps * batch} images, where the preset's of "
        f"{of_preset} show {steps * of_preset}; --steps {wanted} shows as many"
    )


def tell_epochs(run: Run, num_steps: int, epoch_length: int) -> str:
    """How often a run shows its images.

    Args:
        run: The configuration.
        num_steps: Of the whole run.
        epoch_length: Images that an epoch shows.
    """
    seen = num_steps * run.training.batch_size
    return (
        f"{num_steps} steps of {run.training.batch_size} images show {seen} images: "
        f"{seen / epoch_length:.1f} epochs of {epoch_length}"
    )


def _is_given(given: Mapping[str, Any], part: str, name: str) -> bool:
    return (given.get(part) or {}).get(name) is not None
