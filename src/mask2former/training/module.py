"""One training step: data, model and losses meet here."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from mask2former.config import Run
from mask2former.data.batching import split_batch
from mask2former.distributed import average_gradients, mean_over_ranks, rank
from mask2former.loss.criterion import LossTerms
from mask2former.loss.matching import UnmatchableError
from mask2former.model.mask2former import Mask2Former
from mask2former.training.averaging import AveragedWeights
from mask2former.training.guards.diagnosis import Work
from mask2former.training.guards.evidence import EvidenceFolder
from mask2former.training.guards.guard import Guard, poisoned, stop_at
from mask2former.training.memory.out_of_memory import is_out_of_memory, smaller
from mask2former.training.model_options import apply_model_options
from mask2former.training.optimizer import allocate_state, make_optimizer
from mask2former.training.passes import (
    Normalizers,
    layer_losses,
    make_criterion,
    own_drop_paths,
    predict,
    score,
    weighted_sums,
)
from mask2former.training.recomputing import recompute_activations
from mask2former.training.schedule import learning_rate_factor
from mask2former.training.sharding import clip_gradients, is_sharded, whole_copy
from mask2former.types import Batch, Target

logger = logging.getLogger(__name__)


class TrainingModule(lightning.LightningModule):
    """What Lightning needs to know."""

    def __init__(
        self,
        model: Mask2Former,
        run: Run,
        num_steps: int,
        *,
        evidence: EvidenceFolder | None = None,
        on_batch: Callable[[Batch], None] | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: With the weights it starts from.
            run: Its configuration.
            num_steps: Of the whole run.
            evidence: Where a step is kept that is not finite; none: nowhere.
            on_batch: Called with every batch before it goes to the device.
        """
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.averaged: AveragedWeights | None = None
        self._averages_to_load: dict[str, Any] | None = None
        self.run = run
        self.num_steps = num_steps
        self.criterion = make_criterion(run)
        self.evidence = evidence
        self.on_batch = on_batch
        training = run.training
        skips = training.on_nonfinite == "skip"
        self.guard = Guard(
            model,
            skips=skips,
            max_skipped=training.max_skipped,
            keeps_statistics=self._shrinks,
        )
        self.is_in_step = False
        """Rather than before, between or in a scoring; stays true where a step fails."""
        self.has_shrunk = False
        """Memory ran out on this rank, whose steps take less since."""
        self._work: Work | None = None

    def on_fit_start(self) -> None:
        """Parameters are on their device."""
        if self.run.training.ema_decay is not None:
            self.averaged = AveragedWeights(self.model, self.run.training.ema_decay)
            if self._averages_to_load is not None:
                self.averaged.load_state_dict(self._averages_to_load)
                self._averages_to_load = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Averages belong to the state of a run, and what its steps have met."""
        checkpoint["not_finite_in_a_row"] = self.guard.in_a_row
        if self.has_shrunk:
            names = ("images_per_pass", "checkpoint_activations")
            checkpoint["shrunk"] = {name: getattr(self.run.training, name) for name in names}
        if self.averaged is not None:
            checkpoint["averages"] = self.averaged.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `on_save_checkpoint`."""
        self.guard.in_a_row = checkpoint.get("not_finite_in_a_row", 0)
        self._averages_to_load = checkpoint.get("averages")
        if self._shrinks and "shrunk" in checkpoint:
            training = self.run.training.model_copy(update=checkpoint["shrunk"])
            self._take_less(self.run.model_copy(update={"training": training}))

    def scored_weights(self) -> AbstractContextManager:
        """Within it the model has the weights that are scored and given away."""
        return nullcontext() if self.averaged is None else self.averaged.swapped_in()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw this step's random numbers from its place in the run, so that a run can resume."""
        del batch, batch_idx
        torch.manual_seed(self._step_seed())

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Let others look at it while that waits for no device."""
        del dataloader_idx
        if self.on_batch is not None:
            self.on_batch(batch)
        return batch

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the optimizer on this rank's images of a batch, part by part.

        However the images are divided among ranks and parts, gradients are those of the whole
        batch: losses are normalised by what all of its images hold together.

        Returns:
            The losses, weighted and summed over layers, `loss` their sum; of this rank's images,
            so that the mean over ranks is the loss of the batch. None where the step is left out.

        Raises:
            FloatingPointError: The loss or its gradients are not finite.
            RuntimeError: Memory ran out (`out_of_memory.is_out_of_memory`), and the step could not
                be done with less.
        """
        del batch_idx
        self.is_in_step = True
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(scheduler, LambdaLR)
        if self._shrinks:
            allocate_state(optimizer.optimizer)
        normalizers = self._normalizers(batch.targets)
        losses = self._add_up_gradients_in_memory(batch, normalizers)
        self._work = self._work_on(batch, normalizers)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        if self.averaged is not None and not self.guard.in_a_row:
            self.averaged.update()
        self._work, self.is_in_step = None, False
        return {} if self.guard.in_a_row else losses

    def _add_up_gradients_in_memory(
        self, batch: Batch, normalizers: Normalizers
    ) -> dict[str, Tensor]:
        """Where memory runs out and the run may shrink, the same once more with less."""
        while True:
            self.guard.begin_step()
            try:
                losses = self._add_up_gradients(batch, normalizers)
            except (RuntimeError, MemoryError) as error:
                less = smaller(self.run, len(batch.images)) if self._shrinks else None
                if less is None or not is_out_of_memory(error):
                    raise
            else:
                if self._shrinks:
                    average_gradients(self.model)
                return losses
            self._shrink_to(less)  # outside of the handler, whose error keeps the pass's tensors

    @property
    def _shrinks(self) -> bool:
        return self.run.training.on_oom == "shrink"

    def _shrink_to(self, less: Run) -> None:
        """Begin the step anew: the same seeds, and statistics as they were before it."""
        self.zero_grad()
        self.guard.restore_statistics()
        self._take_less(less)
        if self.device.type != "cpu":
            torch.accelerator.empty_cache()
        torch.manual_seed(self._step_seed())
        logger.warning(
            "step %d ran out of memory; it is repeated, and all others are done, with "
            "training.images_per_pass=%s%s: %s",
            self.global_step + 1,
            less.training.images_per_pass,
            " and training.checkpoint_activations" * less.training.checkpoint_activations,
            "the same steps in more time"
            if less.model.backbone.norm == "frozen"
            else "batch norm, which learns, sees fewer images at a time",
        )

    def _take_less(self, less: Run) -> None:
        if less.training.checkpoint_activations and not self.run.training.checkpoint_activations:
            recompute_activations(self.model)
        self.run, self.has_shrunk = less, True

    def _add_up_gradients(self, batch: Batch, normalizers: Normalizers) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        parts = split_batch(batch, self.run.training.images_per_pass)
        for number, part in enumerate(parts, start=1):
            exchanged = self._gradients_exchanged(number == len(parts))
            with exchanged, own_drop_paths(self.model, part):
                terms, reason = self._score(part, normalizers)
                loss = self.criterion.total(terms)
                # else autocast makes half the products of gradients of what is float32 on purpose
                with torch.autocast(self.device.type, enabled=False):
                    self.manual_backward(self.guard.watch(loss, part.image_ids, reason))
            found = {"loss": loss.detach(), **weighted_sums(terms, self.criterion.weights)}
            if self.run.training.log_layers:
                found |= layer_losses(terms, self.criterion.weights)
            losses = {name: losses.get(name, 0) + value for name, value in found.items()}
        return losses

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients of all parameters together; go no further where they are no numbers.

        Raises:
            FloatingPointError: They are not, and the step is not to be left out.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = clip_gradients(parameters, self.run.optimizer.clip_norm)
        step = self.global_step + 1
        scaler = self._scaler
        verdict = self.guard.check(norm, step, scaler)
        if verdict == "go on":
            return
        for parameter in parameters:
            parameter.grad = None  # so that the optimizer does nothing
        if verdict == "stop":
            assert self._work is not None, "the step began"
            raise stop_at(
                step,
                self._model_alone(),
                self.criterion,
                self._work._replace(scale=1.0 if scaler is None else scaler.get_scale()),
                place=self.evidence,
                causes=self.guard.causes,
                skips=self.guard.skips,
                in_a_row=self.guard.in_a_row,
            )

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        plugin = self.trainer.precision_plugin
        return plugin.scaler if isinstance(plugin, MixedPrecision) else None

    def _model_alone(self) -> Mask2Former:
        """The model, or a whole copy on the CPU of one that asks other ranks when it runs."""
        asks = is_sharded(self.model) or any(
            isinstance(module, nn.SyncBatchNorm) for module in self.model.modules()
        )
        if not asks:
            return self.model
        num_classes = self.model.transformer_decoder.classifier.out_features - 1
        copy = whole_copy(self.model, self.run.model, num_classes, torch.device("cpu"))
        training = self.run.training.model_copy(update={"compile": False})
        eager = self.run.model_copy(update={"training": training})
        apply_model_options(copy, eager, self.device.type, world_size=1)
        return copy.train()

    def _step_seed(self) -> int:
        seed = (self.run.training.seed * 1_000_003 + self.global_step) * 4096 + rank()
        return seed % 2**63

    def _work_on(self, batch: Batch, normalizers: Normalizers) -> Work:
        """The step, as it can be done again."""
        return Work(
            batch,
            normalizers,
            self._step_seed(),
            self.run.training.images_per_pass,
            str(self.trainer.precision),
        )

    def _normalizers(self, targets: list[Target]) -> Normalizers:
        """Masks, and weights of the class loss, of a batch: the mean over ranks of their sums."""
        weight = self.criterion.class_weight_of(targets, self.run.model.num_queries)
        num_masks = sum(len(target.labels) for target in targets)
        mean_masks, mean_weight = mean_over_ranks([num_masks, weight], self.device)
        return Normalizers(mean_masks.clamp(min=1), mean_weight)

    def _score(self, batch: Batch, normalizers: Normalizers) -> tuple[LossTerms, str | None]:
        """Losses, or why they are NaN: this rank must take part in the exchange all the same."""
        predicted = predict(self.model, batch)
        try:
            return score(self.criterion, predicted, batch, normalizers), None
        except UnmatchableError as error:
            image_id = batch.image_ids[error.image]
            reason = f"matching cost of image {image_id!r} is not finite in layer {error.layer}"
            return poisoned(predicted.prediction), reason

    def _gradients_exchanged(self, is_last: bool) -> AbstractContextManager:
        """Ranks exchange gradients once a step, in the backward pass of the last part.

        If that may run out of memory on one of them, they do so after it.
        """
        strategy = self.trainer.strategy
        if (is_last and not self._shrinks) or not isinstance(strategy, ParallelStrategy):
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
