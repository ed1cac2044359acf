"""When a run saves its state, through what, and that it stops when asked to."""

import logging
import os
import signal
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from mask2former.training.states.signals import StopRequests, any_rank_asked
from mask2former.training.states.state import FORMAT, ORIGIN, StateFiles, write_state
from mask2former.types import Classes

logger = logging.getLogger(__name__)


class SaveAndStop(lightning.Callback):
    """Saves the state every so often, and before the run stops on request.

    It comes after the callbacks whose own states change with a step.
    """

    def __init__(self, files: StateFiles, requests: StopRequests, *, every: int | None) -> None:
        """Say where and how often.

        Args:
            files: Of the run; the trainer writes with their `StateWriter`.
            requests: To stop; they are listened to around the run.
            every: Steps; none: when asked to.
        """
        self.files, self.requests, self.every = files, requests, every
        self.stopped_by: int | None = None
        """The signal that any rank got."""
        self._tried = -1

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Lightning has just put its own handlers in place, which end ranks one by one."""
        del trainer, pl_module
        self.requests.listen()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look for a request of any rank; save when it is time."""
        del pl_module, outputs, batch, batch_idx
        self.stopped_by = any_rank_asked(self.requests.number)
        if self.stopped_by is not None:
            trainer.should_stop = True
            self.save_once(trainer)
            name = signal.Signals(self.stopped_by).name
            logger.info("step %d: stopped by %s", trainer.global_step, name)
        elif self.every is not None and trainer.global_step % self.every == 0:
            self.save_once(trainer)

    def save_once(self, trainer: lightning.Trainer) -> None:
        """Save, unless that was tried after this step; all ranks call it."""
        if self._tried != trainer.global_step:
            self.save(trainer)

    def save(self, trainer: lightning.Trainer) -> None:
        """Save; all ranks call it, and the main one writes."""
        self._tried = trainer.global_step
        trainer.save_checkpoint(self.files.last, weights_only=False)


class StateWriter(CheckpointIO):
    """How Lightning writes and reads states, as `Trainer(plugins=...)`.

    Its `Trainer.save_checkpoint`, which all ranks call, gathers the state and lets one rank write
    it here. A failing disk raises nothing, so that this rank meets the others afterwards.
    """

    def __init__(self, files: StateFiles, classes: Classes) -> None:
        """Say where, and what else a state is to tell.

        Args:
            files: Of the run.
            classes: Of the model.
        """
        self.files, self.classes = files, classes

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike,
        storage_options: Any | None = None,
    ) -> None:
        """Write a state.

        Args:
            checkpoint: As Lightning gathered it.
            path: That of `StateFiles.last`.
            storage_options: None.
        """
        assert Path(path) == self.files.last, "states have one place"
        assert storage_options is None, "files of this machine have no options"
        origin = {
            "format": FORMAT,
            "version": metadata.version("mask2former"),
            "classes": list(self.classes.names),
        }
        state = {**checkpoint, ORIGIN: origin}
        self.files.save(partial(write_state, state), checkpoint["global_step"])

    def load_checkpoint(
        self,
        path: str | os.PathLike,
        map_location: Any | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a state, on the CPU unless told otherwise; nothing but tensors and plain values."""
        del weights_only
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | os.PathLike) -> None:
        """Lightning removes none of its own accord."""
        Path(path).unlink(missing_ok=True)
