"""Warnings of runs that will come to nothing, as early as that can be known."""

import logging
import math
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import lightning
import torch
from torch import Tensor

from mask2former.config import LargeScaleJitter, Run
from mask2former.distributed import gather, is_main
from mask2former.training.guards.drawn_objects import (
    DrawnObjects,
    always_empty,
    mostly_empty,
    too_many_objects,
    unseen_classes,
)
from mask2former.types import Batch, Classes

logger = logging.getLogger(__name__)
STEPS_FOR_GRADIENTS = 10
"""In which a parameter that learns must get a gradient."""
STEPS_FOR_LOSS = 50
"""Whose losses are compared."""
SAME = 1e-6
"""Difference of losses relative to the largest, below which they are the same in float32. Every
step has other images and other random points, so that losses differ by far more."""


class EarlyWarnings(lightning.Callback):
    """Looks at the first epoch's objects, and at rates, gradients and losses.

    Each warning is logged once, by the main process. No step waits for the device: objects are
    counted before they go there, and losses are read once in `STEPS_FOR_LOSS` steps. It comes
    before the callback that saves, as its state changes with a step.
    """

    def __init__(self, run: Run, classes: Classes, *, epoch_length: int, num_steps: int) -> None:
        """Say what is trained.

        Args:
            run: Its configuration.
            classes: Of the data.
            epoch_length: Images that an epoch shows.
            num_steps: Of the whole run.
        """
        self.run, self.classes, self.num_steps = run, classes, num_steps
        # where batches are made of one orientation, that many images may wait for their turn
        waiting = 2 * run.training.batch_size
        self.num_images = epoch_length + waiting
        """After which every image was drawn."""
        self.drawn = DrawnObjects.none_of(len(classes))
        self.is_epoch_judged = False
        self.told: set[str] = set()
        self._without: set[str] | None = None
        self._losses: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know; all ranks call it."""
        all_drawn = gather(self.drawn) or [self.drawn]
        return {
            "drawn": reduce(add, all_drawn).state_dict(),
            "is_epoch_judged": self.is_epoch_judged,
            "told": sorted(self.told),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`; the main process goes on with what all ranks have drawn."""
        if is_main():
            self.drawn = DrawnObjects(**state_dict["drawn"])
        self.is_epoch_judged = state_dict["is_epoch_judged"]
        self.told = set(state_dict["told"])

    def look(self, batch: Batch) -> None:
        """Count the objects of a batch that is still on the CPU."""
        if not self.is_epoch_judged:
            self.drawn.count(batch.targets, self.run.model.num_queries)

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the learning rates of this step."""
        del pl_module, batch, batch_idx
        step = trainer.global_step
        warms_up = step < self.run.schedule.warmup_steps and step == 0
        if not warms_up and step + 1 < self.num_steps:
            self.tell("rate", zero_rates(trainer.optimizers[0].param_groups, step + 1))

    def on_before_optimizer_step(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Note the parameters that have got no gradient so far."""
        del pl_module
        if trainer.global_step >= STEPS_FOR_GRADIENTS:
            return
        without = names_without_gradient(optimizer.param_groups)
        self._without = without if self._without is None else self._without & without
        if trainer.global_step + 1 == STEPS_FOR_GRADIENTS:
            self.tell("gradients", no_gradients(sorted(self._without)))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Judge an epoch when it is over, and losses every so often."""
        del pl_module, batch, batch_idx
        self._compare_losses(outputs)
        seen = trainer.global_step * self.run.training.batch_size
        if not self.is_epoch_judged and seen >= self.num_images:
            self._judge_epoch()

    def _compare_losses(self, outputs: Any) -> None:
        if "loss" in self.told or not is_main() or "loss" not in outputs:
            return
        self._losses.append(outputs["loss"].detach())
        if len(self._losses) == STEPS_FOR_LOSS:
            self.tell("loss", constant_loss(torch.stack(self._losses).tolist()))
            self._losses = []

    def _judge_epoch(self) -> None:
        """All ranks call it."""
        self.is_epoch_judged = True
        of_ranks = gather(self.drawn)
        if of_ranks is None:
            return
        drawn = reduce(add, of_ranks)
        if drawn.images < self.num_images:  # the state was saved by a version that did not count
            return
        knobs = augmentation_knobs(self.run)
        self.tell("unseen", unseen_classes(drawn, self.classes))
        self.tell("empty", mostly_empty(drawn, knobs))
        self.tell("always empty", always_empty(drawn, self.classes, knobs))
        self.tell("queries", too_many_objects(drawn, self.run.model.num_queries))

    def tell(self, kind: str, text: str | None) -> None:
        """Log a warning of its kind once."""
        if text is not None and kind not in self.told:
            self.told.add(kind)
            if is_main():
                logger.warning("%s", text)


def augmentation_knobs(run: Run) -> str:
    """What decides how much of an image is left, with its present values."""
    augmentation = run.data.augmentation
    crop = f"data.augmentation.crop ({augmentation.crop[0]} x {augmentation.crop[1]})"
    if isinstance(augmentation, LargeScaleJitter):
        scales = f"{augmentation.min_scale} to {augmentation.max_scale}"
        return f"{crop} and data.augmentation.min_scale, max_scale ({scales})"
    sides = f"{min(augmentation.short_sides)} to {max(augmentation.short_sides)}"
    return f"{crop} and data.augmentation.short_sides ({sides})"


def zero_rates(groups: Sequence[Mapping[str, Any]], step: int) -> str | None:
    """That parameters have a learning rate of 0.

    Args:
        groups: Of the optimizer, with the names of their parameters.
        step: As the run logs it.
    """
    names = [name for group in groups if group["lr"] == 0 for name in group["names"]]
    if not names:
        return None
    if len(names) == sum(len(group["names"]) for group in groups):
        return (
            f"the learning rate of step {step} is 0, so nothing is learned; see schedule and "
            "optimizer.learning_rate"
        )
    return (
        f"the learning rate of {len(names)} parameters is 0 in step {step}, such as {names[0]}; "
        "freeze what is not to learn, by model.backbone.freeze, which saves time and memory, or "
        "raise optimizer.backbone_learning_rate_factor or layer_decay"
    )


def names_without_gradient(groups: Sequence[Mapping[str, Any]]) -> set[str]:
    """Parameters of an optimizer that got no gradient; one of zeros counts as a gradient."""
    return {
        name
        for group in groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if parameter.grad is None
    }


def no_gradients(names: Sequence[str]) -> str | None:
    """That parameters are no part of what the losses come from.

    Args:
        names: Of those that never got a gradient.
    """
    if not names:
        return None
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return (
        f"{len(names)} parameters got no gradient in the first {STEPS_FOR_GRADIENTS} steps and "
        f"keep their weights: {shown}; the losses do not come from them: freeze them, or see "
        "whether the backbone uses them"
    )


def constant_loss(losses: Sequence[float]) -> str | None:
    """That the losses of steps are all the same, to the accuracy of float32."""
    if not all(map(math.isfinite, losses)) or max(losses) - min(losses) > SAME * abs(max(losses)):
        return None
    return (
        f"the loss was {losses[-1]:.6g} in each of {len(losses)} steps, whatever the images: the "
        "predictions do not depend on them; see the data's pictures in the run's folder, the "
        "weights it starts from and the learning rate"
    )
