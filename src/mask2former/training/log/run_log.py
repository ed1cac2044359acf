"""What a run tells of its steps."""

import logging
from typing import Any

import lightning
import torch

from mask2former.distributed import is_main, mean_over_ranks, world_size
from mask2former.training.log.loggers import RunLoggers
from mask2former.training.log.progress import ProgressLine, used_memory
from mask2former.training.log.step_clock import StepClock
from mask2former.training.module import TrainingModule

logger = logging.getLogger(__name__)


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
