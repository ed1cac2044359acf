"""One training step: data, model and losses meet here."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from mask2former.config import Run
from mask2former.data.batching import pad_images, split_batch
from mask2former.distributed import mean_over_ranks, rank
from mask2former.loss.criterion import Criterion, LossTerms
from mask2former.loss.matching import CostWeights
from mask2former.loss.points import DrawPoints
from mask2former.model.drop_path import drawn_from
from mask2former.model.mask2former import SIZE_DIVISOR, Mask2Former
from mask2former.training.averaging import AveragedWeights
from mask2former.training.optimizer import make_optimizer
from mask2former.training.schedule import learning_rate_factor
from mask2former.types import Batch, Target


class TrainingModule(lightning.LightningModule):
    """What Lightning needs to know."""

    def __init__(self, model: Mask2Former, run: Run, num_steps: int) -> None:
        """Wrap a model.

        Args:
            model: With the weights it starts from.
            run: Its configuration.
            num_steps: Of the whole run.
        """
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.averaged: AveragedWeights | None = None
        self._averages_to_load: dict[str, Any] | None = None
        self.run = run
        self.num_steps = num_steps
        loss = run.loss
        self.criterion = Criterion(
            CostWeights(loss.class_weight, loss.mask_weight, loss.dice_weight),
            no_object_weight=loss.no_object_weight,
            num_points=loss.num_points,
            oversample_ratio=loss.oversample_ratio,
            importance_ratio=loss.importance_ratio,
        )

    def on_fit_start(self) -> None:
        """Parameters are on their device."""
        if self.run.training.ema_decay is not None:
            self.averaged = AveragedWeights(self.model, self.run.training.ema_decay)
            if self._averages_to_load is not None:
                self.averaged.load_state_dict(self._averages_to_load)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Averages belong to the state of a run."""
        if self.averaged is not None:
            checkpoint["averages"] = self.averaged.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `on_save_checkpoint`."""
        self._averages_to_load = checkpoint.get("averages")

    def scored_weights(self) -> AbstractContextManager:
        """Within it the model has the weights that are scored and given away."""
        return nullcontext() if self.averaged is None else self.averaged.swapped_in()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw this step's random numbers from its place in the run, so that a run can resume."""
        del batch, batch_idx
        step_seed = (self.run.training.seed * 1_000_003 + self.global_step) * 4096 + rank()
        torch.manual_seed(step_seed % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the optimizer on this rank's images of a batch, part by part.

        However the images are divided among ranks and parts, gradients are those of the whole
        batch: losses are normalised by what all of its images hold together.

        Returns:
            The losses, weighted and summed over layers, `loss` their sum; of this rank's images,
            so that the mean over ranks is the loss of the batch.

        Raises:
            FloatingPointError: The predictions are not finite.
        """
        del batch_idx
        num_masks, class_weight = self._normalizers(batch.targets)
        losses: dict[str, Tensor] = {}
        parts = split_batch(batch, self.run.training.images_per_pass)
        for number, part in enumerate(parts, start=1):
            generators = [generator_of(seed, self.device) for seed in part.seeds]
            with (
                self._gradients_exchanged(number == len(parts)),
                drawn_from(self.model, generators),
            ):
                terms = self._score(part, num_masks, class_weight, generators)
                loss = self.criterion.total(terms)
                self.manual_backward(loss)
            found = {"loss": loss.detach(), **weighted_sums(terms, self.criterion.weights)}
            if self.run.training.log_layers:
                found |= layer_losses(terms, self.criterion.weights)
            losses = {name: losses.get(name, 0) + value for name, value in found.items()}
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(scheduler, LambdaLR)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        if self.averaged is not None:
            self.averaged.update()
        return losses

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients of all parameters together."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.run.optimizer.clip_norm)

    def _normalizers(self, targets: list[Target]) -> tuple[Tensor, Tensor]:
        """Masks, and weights of the class loss, of a batch: the mean over ranks of their sums."""
        weight = self.criterion.class_weight_of(targets, self.run.model.num_queries)
        num_masks = sum(len(target.labels) for target in targets)
        mean_masks, mean_weight = mean_over_ranks([num_masks, weight], self.device)
        return mean_masks.clamp(min=1), mean_weight

    def _score(
        self,
        batch: Batch,
        num_masks: Tensor,
        class_weight: Tensor,
        generators: list[torch.Generator],
    ) -> LossTerms:
        images = pad_images(batch.images, self.model.pixel_mean.flatten(), SIZE_DIVISOR)
        prediction = self.model(images)
        padded_size = (images.shape[2], images.shape[3])
        draws: list[DrawPoints] = [partial(torch.rand, generator=g) for g in generators]
        try:
            return self.criterion(
                prediction, batch.targets, padded_size, num_masks, class_weight, draws
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}. Images of the batch: {batch.image_ids}") from error

    def _gradients_exchanged(self, is_last: bool) -> AbstractContextManager:
        """Ranks exchange gradients once a step, in the backward pass of the last part."""
        strategy = self.trainer.strategy
        if is_last or not isinstance(strategy, ParallelStrategy):
            return nullcontext()
        return strategy.block_backward_sync()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, and a factor of its learning rates that changes every step."""
        optimizer = make_optimizer(self.model, self.run.optimizer)
        schedule = self.run.schedule
        scheduler = LambdaLR(
            optimizer, lambda step: learning_rate_factor(schedule, step, self.num_steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def generator_of(seed: int, device: torch.device) -> torch.Generator:
    """Of one image: its draws depend on the seed alone, not on what else this process draws."""
    return torch.Generator(device).manual_seed(seed % 2**63)


def weighted_sums(terms: LossTerms, weights: CostWeights) -> dict[str, Tensor]:
    """The parts that add up to the loss."""
    return {
        f"loss_{name}": (weight * term.sum()).detach()
        for name, weight, term in zip(("class", "mask", "dice"), weights, terms, strict=True)
    }


def layer_losses(terms: LossTerms, weights: CostWeights) -> dict[str, Tensor]:
    """The parts of every prediction layer, weighted."""
    return {
        f"loss_{name}_layer{layer}": value
        for name, weight, term in zip(("class", "mask", "dice"), weights, terms, strict=True)
        for layer, value in enumerate((weight * term).detach())
    }
