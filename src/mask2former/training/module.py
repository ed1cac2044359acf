"""One training step: data, model and losses meet here."""

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from mask2former.config import Run
from mask2former.data.batching import pad_images
from mask2former.distributed import mean_over_ranks, rank
from mask2former.loss.criterion import Criterion, LossTerms
from mask2former.loss.matching import CostWeights
from mask2former.model.mask2former import SIZE_DIVISOR, Mask2Former
from mask2former.training.optimizer import make_optimizer
from mask2former.training.schedule import learning_rate_factor
from mask2former.types import Batch


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
        self.model = model
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

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Draw this step's random numbers from its place in the run, so that a run can resume."""
        del batch, batch_idx
        step_seed = (self.run.training.seed * 1_000_003 + self.global_step) * 4096 + rank()
        torch.manual_seed(step_seed % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The losses of one batch; each part is weighted and summed over layers.

        Raises:
            FloatingPointError: The predictions are not finite.
        """
        del batch_idx
        images = pad_images(batch.images, self.model.pixel_mean.flatten(), SIZE_DIVISOR)
        prediction = self.model(images)
        num_targets = sum(len(target.labels) for target in batch.targets)
        num_masks = mean_over_ranks(num_targets, images.device).clamp(min=1)
        padded_size = (images.shape[2], images.shape[3])
        try:
            terms = self.criterion(prediction, batch.targets, padded_size, num_masks)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}. Images of the batch: {batch.image_ids}") from error
        return {"loss": self.criterion.total(terms), **weighted_sums(terms, self.criterion.weights)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, and a factor of its learning rates that changes every step."""
        optimizer = make_optimizer(self.model, self.run.optimizer)
        schedule = self.run.schedule
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(schedule, step, self.num_steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def weighted_sums(terms: LossTerms, weights: CostWeights) -> dict[str, Tensor]:
    """The parts that add up to the loss."""
    return {
        f"loss_{name}": (weight * term.sum()).detach()
        for name, weight, term in zip(("class", "mask", "dice"), weights, terms, strict=True)
    }
