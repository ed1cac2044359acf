"""A training step and an evaluation on made-up images, to see what memory they take."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from mask2former.config import LargeScaleJitter, Run, ShortestEdgeCrop
from mask2former.data.batching import split_batch
from mask2former.data.geometry import Size
from mask2former.inference.segmenter import Segmenter
from mask2former.loss.criterion import Criterion
from mask2former.masks.packed import pack_masks
from mask2former.model.mask2former import Mask2Former
from mask2former.training.averaging import AveragedWeights
from mask2former.training.model_options import apply_model_options
from mask2former.training.optimizer import make_optimizer
from mask2former.training.passes import (
    Normalizers,
    autocast_as,
    make_criterion,
    own_drop_paths,
    predict,
    score,
)
from mask2former.types import Batch, Classes, Target
from mask2former.weights.build import build_model

STEPS, PASSES = 2, 2
"""That are tried: what allocators keep from the first adds to the next, on CPUs by some percent."""
USUAL_TARGETS = 20
"""Of an image: more than COCO's seven and about as many as ADE20K has."""


@dataclass(frozen=True)
class TrainingStep:
    """Forward and backward passes and steps of the optimizer, as a run does them."""

    run: Run
    num_classes: int
    images: int
    """That go through the model together."""
    of_batch: int
    """Images of this process in a step; all lie on the device."""
    keeps_gradients: bool = False
    """Those of other passes, or in the buckets of several processes, are there from the start."""
    targets: int = USUAL_TARGETS

    def work(self, device: torch.device) -> None:
        """Do it."""
        model = build_to_train(self.run, self.num_classes, device)
        optimizer = optimizer_in_use(model, self.run)
        averages = averages_of(model, self.run)
        if not self.keeps_gradients:
            optimizer.zero_grad()
        criterion = make_criterion(self.run)
        batch = synthetic_batch(
            self.run, self.num_classes, self.of_batch, targets=self.targets, device=device
        )
        learning = [p for p in model.parameters() if p.requires_grad]
        parts = split_batch(batch, self.images)[:PASSES]
        for _ in range(STEPS):
            for part in parts:
                self._pass(model, criterion, part, device)
            torch.nn.utils.clip_grad_norm_(learning, self.run.optimizer.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=not self.keeps_gradients)
            if averages is not None:
                averages.update()

    def _pass(
        self, model: Mask2Former, criterion: Criterion, part: Batch, device: torch.device
    ) -> None:
        sums = (self.targets, self.run.model.num_queries)
        normalizers = Normalizers(*(torch.tensor(float(s), device=device) for s in sums))
        with own_drop_paths(model, part):
            with autocast_as(self.run.training.precision, device):
                predicted = predict(model, part)
                loss = criterion.total(score(criterion, predicted, part, normalizers))
            loss.backward()


@dataclass(frozen=True)
class EvaluationPass:
    """Prediction and post-processing of images, beside what a run keeps for training."""

    run: Run
    num_classes: int
    sizes: tuple[Size, ...]
    """(height, width) of images as they are in the data."""

    def work(self, device: torch.device) -> None:
        """Do it."""
        model = build_to_train(self.run, self.num_classes, device)
        optimizer = optimizer_in_use(model, self.run)
        optimizer.zero_grad()
        averages = averages_of(model, self.run)
        segmenter = Segmenter(
            model,
            made_up_classes(self.num_classes),
            task=self.run.task,
            **self.run.data.test_size.model_dump(),
            # no score is too low, so that every query is converted
            panoptic_score_threshold=0.0,
            panoptic_overlap_threshold=0.0,
            max_instances=self.run.inference.max_instances,
            device=device,
        )
        for height, width in self.sizes:
            output = segmenter.forward(np.zeros((height, width, 3), np.uint8))
            for task in segmenter.tasks:
                segmenter.convert(output, task)
        del optimizer, averages


Work: TypeAlias = TrainingStep | EvaluationPass


def largest_training_size(augmentation: LargeScaleJitter | ShortestEdgeCrop) -> Size:
    """(height, width) in pixels of the largest sample that an augmentation makes."""
    height, width = augmentation.crop
    if isinstance(augmentation, LargeScaleJitter) or augmentation.pad_to_crop:
        return (height, width)
    short, longest = max(augmentation.short_sides), augmentation.max_long_side
    short = min(short, longest)
    flat, tall = (
        (min(height, short), min(width, longest)), (min(height, longest), min(width, short)),
    )  # fmt: skip
    return max(flat, tall, key=lambda size: size[0] * size[1])


def synthetic_batch(
    run: Run,
    num_classes: int,
    images: int,
    *,
    targets: int,
    device: torch.device,
) -> Batch:
    """Images of one grey with rectangles to find, of the largest size that training can see.

    Args:
        run: Its augmentation is read.
        num_classes: Without "no object".
        images: In the batch.
        targets: Of each image.
        device: Where they are to lie.
    """
    height, width = largest_training_size(run.data.augmentation)
    masks = np.zeros((targets, height, width), bool)
    for index in range(targets):
        top, left = index * height // (2 * targets), index * width // (2 * targets)
        masks[index, top : top + height // 2 + 1, left : left + width // 2 + 1] = True
    labels = torch.arange(targets) % num_classes
    packed = pack_masks(masks)
    return Batch(
        images=[
            torch.full((3, height, width), 128, dtype=torch.uint8, device=device)
            for _ in range(images)
        ],
        # copies: every image of a real batch has its own
        targets=[
            Target(labels.to(device, copy=True), packed.to(device, copy=True))
            for _ in range(images)
        ],
        image_ids=list(range(images)),
        seeds=list(range(images)),
    )


def build_to_train(run: Run, num_classes: int, device: torch.device) -> Mask2Former:
    """The model of a run with random weights, with its options but for compilation."""
    training = run.training.model_copy(update={"compile": False})
    model = build_model(run.model, num_classes)
    options = run.model_copy(update={"training": training})
    apply_model_options(model, options, device.type, world_size=1)
    return model.to(device).train()


def optimizer_in_use(model: Mask2Former, run: Run) -> torch.optim.Optimizer:
    """As after a step: with its state, and with gradients of 0."""
    optimizer = make_optimizer(model, run.optimizer)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer


def averages_of(model: Mask2Former, run: Run) -> AveragedWeights | None:
    """The averaged weights, where a run keeps some."""
    decay = run.training.ema_decay
    return None if decay is None else AveragedWeights(model, decay)


def made_up_classes(count: int) -> Classes:
    """Things and stuff in turn."""
    return Classes(
        names=tuple(f"class {i}" for i in range(count)),
        category_ids=tuple(range(count)),
        is_thing=tuple(i % 2 == 0 for i in range(count)),
    )
