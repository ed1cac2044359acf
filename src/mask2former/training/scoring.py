"""The model is scored now and then, and what is worth keeping is kept."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import lightning

from mask2former.evaluation.evaluate import evaluate
from mask2former.evaluation.truth import ScoredImages
from mask2former.files import replacing
from mask2former.inference.prediction import Prediction
from mask2former.inference.segmenter import Segmenter
from mask2former.model.mask2former import Mask2Former
from mask2former.tasks import Task
from mask2former.training.log.pictures import NUM_PICTURES, draw_validation
from mask2former.training.log.run_log import RunLog
from mask2former.training.module import TrainingModule
from mask2former.training.sharding import whole_model
from mask2former.training.states.dispensable import Dispensable
from mask2former.training.states.saving import SaveAndStop
from mask2former.training.states.weights_files import WeightsFiles
from mask2former.types import Classes

logger = logging.getLogger(__name__)
MAIN_METRIC: dict[Task, str] = {"semantic": "mIoU", "instance": "AP", "panoptic": "PQ"}


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
