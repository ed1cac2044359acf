"""Train: from a configuration to a run's folder."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import lightning
import torch

from mask2former.batch_rule import tell_epochs
from mask2former.check.fast import fast_check
from mask2former.config import Run
from mask2former.config_io import write_run
from mask2former.data.problems import Strict
from mask2former.distributed import broadcast, is_main, joined, main_first, world_size
from mask2former.files import removed_if_empty, usable_folder
from mask2former.inference.device import find_device
from mask2former.training.accelerator import (
    NO_PINNED_MEMORY,
)
from mask2former.training.data_parallel import make_strategy
from mask2former.training.determinism import make_deterministic
from mask2former.training.guards.early_warnings import EarlyWarnings
from mask2former.training.guards.evidence import EvidenceFolder
from mask2former.training.loader import (
    Splits,
    count_steps,
    make_loader,
    open_splits,
)
from mask2former.training.log.log_file import LogFile
from mask2former.training.log.loggers import RunLoggers, check_loggers
from mask2former.training.log.pictures import draw_training_samples
from mask2former.training.log.run_log import RunLog
from mask2former.training.memory.out_of_memory import explain_out_of_memory, is_out_of_memory
from mask2former.training.memory.plan import plan_together
from mask2former.training.model_options import apply_model_options
from mask2former.training.module import TrainingModule
from mask2former.training.plots.plots import plot_run
from mask2former.training.scoring import ScoreAndSave
from mask2former.training.states.dispensable import Dispensable
from mask2former.training.states.saving import SaveAndStop, StateWriter
from mask2former.training.states.signals import REQUEUE_SIGNAL, Stopped, StopRequests
from mask2former.training.states.slurm import requeue_job
from mask2former.training.states.state import SavedState, StateFiles, check_fits
from mask2former.training.trainer import ChosenPrecision, choose_precision, fit, make_trainer
from mask2former.weights.build import build_model
from mask2former.weights.start import load_start

logger = logging.getLogger(__name__)
EVALUATIONS_PER_RUN = 10


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    output: Path
    steps: int
    seconds: float
    metrics: dict[str, float]
    """Of the last evaluation, in percent; empty without a validation split."""
    best_weights: Path
    ended_early: str = ""
    """Why, where not all steps were done."""


def train(
    run: Run,
    output: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a model.

    Args:
        run: The configuration.
        output: The run's folder; it must be new, or hold the run to resume.
        device: "auto", or as PyTorch names it.
        resume: Go on from the last saved state; the same batches follow as without the break.
        progress: Show a line on standard error.

    Raises:
        FileNotFoundError: The data, the weights or the run to resume is missing.
        ValueError: The data or the configuration is wrong, or `output` is taken.
        MemoryError: Memory ran out; the message says what takes less.
        FloatingPointError: The loss or its gradients became infinite, and `training.on_nonfinite`
            does not let the run go on; the weights are those before.
        OSError: The run's folder cannot be written to at the start, or in the end the last weights.
        Stopped: Somebody pressed Ctrl-C, or the system asked; the state is saved.
    """
    started = time.perf_counter()
    check_loggers(run.training.loggers)
    where = find_device(device)
    precision = choose_precision(run.training.precision, where)
    with joined(where.type):
        if broadcast(not resume and _is_taken(output)):
            raise ValueError(
                f"{output} exists already; name another folder with --output, or go on with the "
                "run in it with --resume"
            )
        files = StateFiles(output / "checkpoints")
        state = broadcast(_state_to_resume(files) if resume and is_main() else None)
        result = _train(run, files, where, precision, state, progress=progress)
    return replace(result, seconds=time.perf_counter() - started)


def _train(
    run: Run,
    files: StateFiles,
    where: torch.device,
    precision: ChosenPrecision,
    state: SavedState | None,
    *,
    progress: bool,
) -> TrainResult:
    """One of the processes of a run; the main one writes the files."""
    resume = state is not None
    output = files.folder.parent
    with LogFile() as log_file:
        strategy = make_strategy(run, where)
        splits = open_splits(run.data, run.task)
        if not resume:
            _check_data(splits, run)
        if run.training.patience is not None and splits.validation is None:
            raise ValueError(
                f"training.patience = {run.training.patience} waits for better metrics, but the "
                "data have no validation split; leave it out, or hold images out with --split"
            )
        run = _planned(run, splits, where, precision)
        num_steps = count_steps(run, splits.epoch_length)
        if run.training.deterministic:
            make_deterministic()
        torch.manual_seed(run.training.seed)
        model = build_model(run.model, len(splits.classes))
        if not resume:
            with main_first():
                load_start(model, splits.classes, run.model.backbone, run.weights)
        apply_model_options(model, run, where.type, world_size())
        done = 0 if state is None else state.step
        loader = make_loader(splits, run, start=done, pin_memory=where.type not in NO_PINNED_MEMORY)
        if is_main():
            _make_folder(run, output)
            log_file.write_to(output / "log.txt")
            _log_start(run, splits, num_steps)
            if not resume:
                draw_training_samples(splits, run, output / "pictures/training")
        eval_every = run.training.eval_every or math.ceil(num_steps / EVALUATIONS_PER_RUN)
        loggers = RunLoggers(output, run.training.loggers) if is_main() else None
        if loggers is not None:
            loggers.log_config(run)
        log = RunLog(
            loggers,
            every=run.training.log_every,
            score_every=None if splits.validation is None else eval_every,
            progress=progress,
        )
        saving = SaveAndStop(files, StopRequests(), every=run.training.save_every)
        scoring = ScoreAndSave(
            output,
            log,
            saving,
            classes=splits.classes,
            validation=splits.validation,
            every=eval_every,
            patience=run.training.patience,
        )
        writer = StateWriter(files, splits.classes)
        early = EarlyWarnings(
            run, splits.classes, epoch_length=splits.epoch_length, num_steps=num_steps
        )
        callbacks: list[lightning.Callback] = [log, early, saving, scoring]
        trainer = make_trainer(where, precision, writer, strategy, callbacks=callbacks)
        evidence = EvidenceFolder(output / "evidence", run, splits.classes)
        module = TrainingModule(model, run, num_steps, evidence=evidence, on_batch=early.look)
        if state is not None:
            check_fits(state.path, module, splits.classes)
        explained = _explained(trainer, module, scoring, output)
        with saving.requests, _stoppable_at_once(run, saving), explained:
            fit(trainer, module, loader, None if state is None else state.path)
        if saving.stopped_by is not None:
            raise _stopped(run, saving.stopped_by)
        if is_main():
            with Dispensable().writing("plots of the run"):
                plot_run(output)
        scoring.weights.require(trainer.global_step)
    best = output / "weights/best.safetensors"
    return TrainResult(
        output=output,
        steps=trainer.global_step,
        seconds=0.0,
        metrics=scoring.metrics,
        ended_early=scoring.ended_early,
        best_weights=best if best.is_file() else output / "weights/last.safetensors",
    )


def _planned(run: Run, splits: Splits, where: torch.device, precision: ChosenPrecision) -> Run:
    """A resumed run goes on as it was planned when it began, unless it is asked to plan again."""
    if run.training.fit_memory is None:
        return run
    training = run.training.model_copy(update={"precision": precision})
    exact = run.model_copy(update={"training": training})
    planned = plan_together(exact, len(splits.classes), device=where, validation=splits.validation)
    wanted = planned.training.model_copy(update={"precision": run.training.precision})
    return planned.model_copy(update={"training": wanted})


@contextmanager
def _explained(
    trainer: lightning.Trainer, module: TrainingModule, scoring: ScoreAndSave, output: Path
) -> Iterator[None]:
    """Say what takes less where memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        outside = "evaluation" if scoring.is_scoring else "elsewhere"
        told = explain_out_of_memory(
            error,
            module.run,
            output=output,
            images=module.run.training.batch_size // world_size(),
            step=trainer.global_step + 1,
            where="step" if module.is_in_step else outside,
        )
        raise MemoryError(told) from error


@contextmanager
def _stoppable_at_once(run: Run, saving: SaveAndStop) -> Iterator[None]:
    """In a scoring, where the other ranks may not have been told yet."""
    try:
        yield
    except KeyboardInterrupt:
        if saving.requests.number is None or saving.requests.number != REQUEUE_SIGNAL:
            raise
        requeued = run.training.requeue and (not is_main() or requeue_job())
        raise Stopped(saving.requests.number, requeued=requeued) from None


def _is_taken(output: Path) -> bool:
    return output.exists() and (not output.is_dir() or any(output.iterdir()))


def _make_folder(run: Run, output: Path) -> None:
    usable_folder(output)
    with removed_if_empty(output):  # so that the same command may be given again
        write_run(run, output / "config.yaml")
    for folder in ("weights", "checkpoints", "pictures/training"):
        (output / folder).mkdir(parents=True, exist_ok=True)


def _state_to_resume(files: StateFiles) -> SavedState | None:
    """None where a run was killed before it saved a state."""
    if files.is_empty and (files.folder.parent / "config.yaml").is_file():
        logger.warning(
            "%s has no saved state yet: the run starts from its beginning", files.folder.parent
        )
        return None
    return files.newest_good()


def _stopped(run: Run, number: int) -> Stopped:
    is_wanted = run.training.requeue and number == REQUEUE_SIGNAL
    return Stopped(number, requeued=broadcast(is_wanted and is_main() and requeue_job()))


def _check_data(splits: Splits, run: Run) -> None:
    """Look at some images of each split before an hour is spent on them."""
    strict = Strict()
    for train, validation in splits.folders:
        held_out = None if validation is None else validation.main
        for problem in fast_check(train, num_queries=run.model.num_queries, validation=held_out):
            strict.take(problem)


def _log_start(run: Run, splits: Splits, num_steps: int) -> None:
    folders = ", ".join(map(str, run.data.paths))
    logger.info("%s on %s: %d classes", run.task, folders, len(splits.classes))
    for note in splits.notes:
        logger.info("data: %s", note)
    unnamed = "ImageNet" if run.model.backbone.pretrained else "random"
    logger.info("weights: %s", run.weights or unnamed)
    logger.info(
        "%d training images, %d an epoch, %d steps of %d",
        len(splits.train), splits.epoch_length, num_steps, run.training.batch_size,
    )  # fmt: skip
    logger.info("%s", tell_epochs(run, num_steps, splits.epoch_length))
    images = run.training.batch_size // world_size()
    from_nothing = run.weights is None and not run.model.backbone.pretrained
    if run.model.backbone.norm == "frozen" and from_nothing:
        logger.warning("batch norm is frozen at statistics that nothing was trained with")
    seen = min(run.training.images_per_pass or images, images)
    if run.model.backbone.norm == "batch" and seen < run.training.batch_size:
        logger.warning(
            "batch norm learns (model.backbone.norm=batch) from %d images at a time, not from the "
            "%d of a step: the run differs from one that is divided otherwise; sync, over GPUs, or "
            "frozen does not",
            seen, run.training.batch_size,
        )  # fmt: skip
    if run.model.backbone.freeze and from_nothing:
        logger.warning("stages of the backbone are frozen at random weights")
