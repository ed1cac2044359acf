"""What happens beside the steps: values are logged, the model is scored, states are saved."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import lightning
import torch

from mask2former.distributed import is_main, mean_over_ranks, world_size
from mask2former.evaluation.evaluate import evaluate
from mask2former.evaluation.truth import ScoredImages
from mask2former.files import replacing
from mask2former.inference.prediction import Prediction
from mask2former.inference.segmenter import Segmenter
from mask2former.model.mask2former import Mask2Former
from mask2former.tasks import Task
from mask2former.training.log.loggers import RunLoggers
from mask2former.training.log.pictures import NUM_PICTURES, draw_validation
from mask2former.training.log.progress import ProgressLine, used_memory
from mask2former.training.log.step_clock import StepClock
from mask2former.training.module import TrainingModule
from mask2former.training.sharding import whole_model
from mask2former.training.states.dispensable import Dispensable
from mask2former.training.states.saving import SaveAndStop
from mask2former.training.states.weights_files import WeightsFiles
from mask2former.types import Classes

logger = logging.getLogger(__name__)
MAIN_METRIC: dict[Task, str] = {"semantic": "mIoU", "instance": "AP", "panoptic": "PQ"}


class RunLog(lightning.Callback):
    """Means of the losses since the last entry, to the loggers and the terminal."""

    def __init__(
        self, loggers: RunLoggers | None, *, every: int, score_every: int | None, progress: bool
    ) -> None:
        """Say where and how often.

        Args:
            loggers: Of the main process; none in the others.
            every: Steps.
            score_every: Steps between two scorings; none: no scoring.
            progress: Show a line on standard error.
        """
        self.loggers, self.every = loggers, every
        self.score_every, self.progress = score_every, progress
        self.line: ProgressLine | None = None
        self.clock = StepClock(torch.device("cpu"))
        self.sums: dict[str, torch.Tensor] = {}
        self.steps = 0
        self.learning_rate = 0.0
        self.num_entries = 0
        self.told_shrunk = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know; all ranks call it."""
        sums = [float(total) for total in self.sums.values()]
        means = mean_over_ranks(sums, torch.device("cpu")).tolist() if sums else []
        return {
            "sums": dict(zip(self.sums, means, strict=True)),
            "steps": self.steps,
            "num_entries": 0 if self.loggers is None else self.loggers.file.num_entries,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.sums = {name: torch.tensor(total) for name, total in state_dict["sums"].items()}
        self.steps, self.num_entries = state_dict["steps"], state_dict["num_entries"]

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the clock."""
        assert isinstance(pl_module, TrainingModule)
        if self.progress and is_main():
            self.line = ProgressLine(
                pl_module.num_steps,
                trainer.global_step,
                device=pl_module.device,
                score_every=self.score_every,
            )
        if self.loggers is not None:
            self.loggers.file.rewind(trainer.global_step, self.num_entries)
        self.sums = {name: total.to(pl_module.device) for name, total in self.sums.items()}
        self.clock = StepClock(pl_module.device)

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the rate of this step; at its end the schedule has moved on."""
        del pl_module, batch, batch_idx
        self.clock.step_begins()
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
        self.clock.step_ends()
        for name, value in outputs.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.steps += bool(outputs)  # a step that was left out has no losses
        step = trainer.global_step
        if not self.steps or (step % self.every and step != pl_module.num_steps):
            return
        sums = torch.stack([*self.sums.values()]).tolist()
        own = [*(total / self.steps for total in sums), float(pl_module.has_shrunk)]
        *means, shrunk = mean_over_ranks(own, pl_module.device).tolist()
        self._tell_shrunk(shrunk, pl_module)
        values = dict(zip(self.sums, means, strict=True))
        values["lr"] = self.learning_rate
        values |= self.clock.read().values(pl_module.run.training.batch_size)
        values["memory_gib"] = used_memory(pl_module.device) / 2**30
        if self.loggers is not None:
            self.loggers.log(step, values)
        if self.line is not None:
            self.line.show(step, values)
        self.sums, self.steps = {}, 0
        self.clock.leave_out()

    def _tell_shrunk(self, share: float, module: TrainingModule) -> None:
        """Other ranks, which nobody listens to, may have run out of memory."""
        if share > 0 and not self.told_shrunk:
            self.told_shrunk = True
            if is_main() and not module.has_shrunk:
                logger.warning(
                    "%d of %d processes ran out of memory and do their steps in more passes since "
                    "(training.on_oom); the others wait for them",
                    round(share * world_size()), world_size(),
                )  # fmt: skip

    def interrupted_for(self, seconds: float) -> None:
        """Scoring took so long, which is no part of a step."""
        self.clock.leave_out()
        if self.line is not None:
            self.line.scored(seconds)

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
        if self.loggers is not None:
            self.loggers.close()


class ScoreAndSave(lightning.Callback):
    """Scores the model now and then, keeps the best and the last weights and the state to resume.

    All ranks score, each its share of the images, and the main one writes.
    """

    def __init__(
        self,
        output: Path,
        log: RunLog,
        saving: SaveAndStop,
        *,
        classes: Classes,
        validation: ScoredImages | None,
        every: int,
        patience: int | None = None,
    ) -> None:
        """Say what to score.

        Args:
            output: The run's folder.
            log: Takes the metrics.
            saving: Saves the state.
            classes: Of the model.
            validation: What to score on; nothing is scored without it.
            every: Steps between two times; the last step always counts.
            patience: Scorings in a row without a better main metric that end the run.
        """
        self.output, self.run_log, self.classes = output, log, classes
        self.saving = saving
        self.weights = WeightsFiles(output / "weights", classes)
        self.dispensable = Dispensable()
        self.scored = 0
        self.validation, self.every = validation, every
        self.patience, self.since_best = patience, 0
        self.ended_early = ""
        """Why, where `patience` has ended the run."""
        self.is_scoring = False
        """Stays true where a scoring fails."""
        self.best = -math.inf
        self.metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {
            "best": self.best,
            "since_best": self.since_best,
            "metrics": self.metrics,
            "scored": self.scored,
            "weights": self.weights.steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.best, self.metrics = state_dict["best"], state_dict["metrics"]
        self.scored, self.since_best = state_dict["scored"], state_dict.get("since_best", 0)
        self.weights.steps = state_dict.get("weights", {})  # states were without before

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Catch up on what a run was killed in, or stopped before, or had no room to write."""
        assert isinstance(pl_module, TrainingModule)
        step = trainer.global_step
        if step == self.scored and self.weights.lacks(step):
            with pl_module.scored_weights():
                weights = self._whole_model(pl_module).state_dict()
                self.weights.write("last", weights, pl_module.run, step=step)
        self._score_if_due(trainer, pl_module)

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
        if self.saving.stopped_by is None:
            self._score_if_due(trainer, pl_module)

    def _score_if_due(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        step = trainer.global_step
        is_last = step == module.num_steps
        if step != self.scored and (is_last or step % self.every == 0):
            self._score_and_save(trainer, module)
        trainer.should_stop = trainer.should_stop or is_last or self._has_waited_enough

    @property
    def _has_waited_enough(self) -> bool:
        return self.patience is not None and self.since_best >= self.patience

    def _score_and_save(self, trainer: lightning.Trainer, module: TrainingModule) -> None:
        # Before scoring, which may meet a file that it cannot read.
        self.saving.save_once(trainer)
        start = time.perf_counter()
        self.is_scoring = True
        with self.saving.requests.at_once(), module.scored_weights():
            self.score(trainer, module)
        self.is_scoring = False
        self.scored = trainer.global_step
        self.saving.save(trainer)
        self.run_log.interrupted_for(time.perf_counter() - start)

    def score(self, trainer: lightning.Trainer, module: TrainingModule) -> None:
        """Write the last weights, and the best ones when they are."""
        model = self._whole_model(module)
        step, state = trainer.global_step, model.state_dict()
        self.weights.write("last", state, module.run, step=step)
        if self.validation is not None:
            self.metrics = self._evaluate(trainer, module, model)
            name = MAIN_METRIC[module.run.task]
            value = self.metrics[name]
            if math.isnan(value):
                logger.warning("the validation split has no object to score")
            elif value > self.best:
                self.since_best = 0
                # what is not written is not the best: a later one may be less good
                if self.weights.write("best", state, module.run, step=step):
                    self.best = value
            else:
                self.since_best += 1
            if self._has_waited_enough and step < module.num_steps:
                self.ended_early = (
                    f"no better {name} than {self.best:.2f} in {self.since_best} evaluations "
                    "(training.patience)"
                )
                logger.info(
                    "step %d of %d: the run ends here: %s", step, module.num_steps, self.ended_early
                )

    def _whole_model(self, module: TrainingModule) -> Mask2Former:
        return whole_model(module.model, module.run.model, len(self.classes))

    def _evaluate(
        self, trainer: lightning.Trainer, module: TrainingModule, model: Mask2Former
    ) -> dict[str, float]:
        assert self.validation is not None
        run, validation = module.run, self.validation
        segmenter = Segmenter(
            model,
            self.classes,
            task=run.task,
            **run.data.test_size.model_dump(),
            **run.inference.model_dump(),
            device=module.device,
        )
        folder = self.output / "pictures" / "validation"

        def draw(index: int, prediction: Prediction) -> None:
            if self.run_log.line is not None:
                self.run_log.line.scoring(index + 1, len(validation))
            if index < NUM_PICTURES:
                path = folder / f"{index}.png"
                with self.dispensable.writing("pictures of predictions"):
                    draw_validation(
                        path, prediction, images=validation, index=index, step=trainer.global_step
                    )

        result = evaluate(segmenter, validation, on_prediction=draw)
        model.train()
        if self.run_log.loggers is None:
            return result.metrics
        self.run_log.loggers.log(trainer.global_step, result.metrics)
        for path in sorted(folder.glob("*.png")):
            self.run_log.loggers.log_picture(f"validation/{path.stem}", trainer.global_step, path)
        logger.info(
            "step %d: %s", trainer.global_step,
            "  ".join(f"{name} {value:.2f}" for name, value in result.metrics.items()),
        )  # fmt: skip
        text = json.dumps({"step": trainer.global_step, **result.as_json()}, indent=1)
        with (
            self.dispensable.writing("metrics in metrics.json"),
            replacing(self.output / "metrics.json") as unfinished,
        ):
            unfinished.write_text(text, encoding="utf-8")
        return result.metrics
