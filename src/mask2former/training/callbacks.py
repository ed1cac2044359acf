"""What happens beside the steps: values are logged, the model is scored, states are saved."""

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from mask2former.evaluation.evaluate import evaluate
from mask2former.evaluation.truth import ScoredImages
from mask2former.files import replacing
from mask2former.inference.prediction import Prediction
from mask2former.inference.segmenter import Segmenter
from mask2former.tasks import Task
from mask2former.training.module import TrainingModule
from mask2former.training.pictures import NUM_PICTURES
from mask2former.training.progress import ProgressLine
from mask2former.types import Classes
from mask2former.weights.native import save

logger = logging.getLogger(__name__)
MAIN_METRIC: dict[Task, str] = {"semantic": "mIoU", "instance": "AP", "panoptic": "PQ"}


class RunLog(lightning.Callback):
    """Means of the losses since the last entry: `metrics.jsonl`, TensorBoard, the terminal."""

    def __init__(self, output: Path, *, every: int, progress: bool) -> None:
        """Say where and how often.

        Args:
            output: The run's folder.
            every: Steps.
            progress: Show a line on standard error.
        """
        self.output, self.every, self.progress = output, every, progress
        self.line: ProgressLine | None = None
        self.sums: dict[str, torch.Tensor] = {}
        self.steps = 0
        self.since = 0.0
        self.learning_rate = 0.0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the clock."""
        assert isinstance(pl_module, TrainingModule)
        if self.progress and trainer.is_global_zero:
            self.line = ProgressLine(
                pl_module.num_steps, trainer.global_step, device=pl_module.device
            )
        self.since = time.perf_counter()

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the rate of this step; at its end the schedule has moved on."""
        del pl_module, batch, batch_idx
        self.learning_rate = max(g["lr"] for g in trainer.optimizers[0].param_groups)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add up on the device; ask it for values only when there is something to write."""
        del batch, batch_idx
        assert isinstance(pl_module, TrainingModule)
        for name, value in outputs.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.steps += 1
        step = trainer.global_step
        if (step % self.every and step != pl_module.num_steps) or not trainer.is_global_zero:
            return
        values = {name: (total / self.steps).item() for name, total in self.sums.items()}
        values["lr"] = self.learning_rate
        values["seconds_per_step"] = (time.perf_counter() - self.since) / self.steps
        self.write(trainer, values)
        if self.line is not None:
            self.line.show(step, values)
        self.sums, self.steps = {}, 0
        self.since = time.perf_counter()

    def write(self, trainer: lightning.Trainer, values: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`, and TensorBoard."""
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        for board in trainer.loggers:
            if isinstance(board, TensorBoardLogger):
                board.log_metrics(known, trainer.global_step)
        entry = {"step": trainer.global_step, **{n: known.get(n) for n in values}}
        with (self.output / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Leave the terminal as it was."""
        del trainer, pl_module
        self.close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Likewise."""
        del trainer, pl_module, exception
        self.close()

    def close(self) -> None:
        if self.line is not None:
            self.line.close()


class ScoreAndSave(lightning.Callback):
    """Scores the model now and then, keeps the best and the last weights and the state to resume.

    One rank scores while the others wait.
    """

    def __init__(
        self,
        output: Path,
        log: RunLog,
        *,
        classes: Classes,
        validation: ScoredImages | None,
        every: int,
    ) -> None:
        """Say what to score.

        Args:
            output: The run's folder.
            log: Takes the metrics.
            classes: Of the model.
            validation: What to score on; nothing is scored without it.
            every: Steps between two times; the last step always counts.
        """
        self.output, self.run_log, self.classes = output, log, classes
        self.validation, self.every = validation, every
        self.best = -math.inf
        self.metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"best": self.best, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.best, self.metrics = state_dict["best"], state_dict["metrics"]

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Every so often, score and save."""
        del outputs, batch, batch_idx
        assert isinstance(pl_module, TrainingModule)
        step = trainer.global_step
        if step % self.every and step != pl_module.num_steps:
            return
        # Before scoring, which may meet a file that it cannot read.
        save_state(trainer, self.output / "checkpoints/last.ckpt")
        if trainer.is_global_zero:
            start = time.perf_counter()
            self.score(trainer, pl_module)
            self.run_log.since += time.perf_counter() - start  # scoring is no part of a step
        trainer.strategy.barrier()
        save_state(trainer, self.output / "checkpoints/last.ckpt")

    def score(self, trainer: lightning.Trainer, module: TrainingModule) -> None:
        """Write the last weights, and the best ones when they are."""
        weights = self.output / "weights"
        state = module.model.state_dict()
        save(weights / "last.safetensors", state, module.run, self.classes)
        if self.validation is not None:
            self.metrics = self._evaluate(trainer, module)
            value = self.metrics[MAIN_METRIC[module.run.task]]
            if math.isnan(value):
                logger.warning("the validation split has no object to score")
            elif value > self.best:
                self.best = value
                save(weights / "best.safetensors", state, module.run, self.classes)

    def _evaluate(self, trainer: lightning.Trainer, module: TrainingModule) -> dict[str, float]:
        assert self.validation is not None
        run = module.run
        segmenter = Segmenter(
            module.model,
            self.classes,
            task=run.task,
            **run.data.test_size.model_dump(),
            **run.inference.model_dump(),
            device=module.device,
        )
        folder = self.output / "pictures" / "validation"
        folder.mkdir(parents=True, exist_ok=True)

        def draw(index: int, prediction: Prediction) -> None:
            if index < NUM_PICTURES:
                prediction.draw().save(folder / f"{index}_step{trainer.global_step:07d}.png")

        result = evaluate(segmenter, self.validation, on_prediction=draw)
        module.model.train()
        self.run_log.write(trainer, result.metrics)
        logger.info(
            "step %d: %s", trainer.global_step,
            "  ".join(f"{name} {value:.2f}" for name, value in result.metrics.items()),
        )  # fmt: skip
        text = json.dumps({"step": trainer.global_step, **result.as_json()}, indent=1)
        with replacing(self.output / "metrics.json") as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        return result.metrics


def save_state(trainer: lightning.Trainer, path: Path) -> None:
    """Save what resuming needs; an earlier state stays whole until the new one is complete."""
    with replacing(path) as unfinished:
        trainer.save_checkpoint(unfinished)
