"""Train: from a configuration to a run's folder."""

import logging
import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from mask2former.check.fast import fast_check
from mask2former.config import Precision, Run
from mask2former.config_io import write_run
from mask2former.data.problems import Strict
from mask2former.inference.device import find_device
from mask2former.training.callbacks import RunLog, ScoreAndSave
from mask2former.training.loader import (
    Splits,
    count_steps,
    make_loader,
    open_splits,
    without_traceback,
)
from mask2former.training.log_file import LogFile
from mask2former.training.module import TrainingModule
from mask2former.training.pictures import draw_training_samples
from mask2former.training.plots import plot_run
from mask2former.weights.build import build_model
from mask2former.weights.start import load_start

logger = logging.getLogger(__name__)
EVALUATIONS_PER_RUN = 10
ChosenPrecision: TypeAlias = Literal["32-true", "bf16-mixed", "16-mixed"]
ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}
"""Types of devices, and Lightning's names for them."""


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    output: Path
    steps: int
    seconds: float
    metrics: dict[str, float]
    """Of the last evaluation, in percent; empty without a validation split."""
    best_weights: Path


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
        FloatingPointError: The predictions became infinite.
        KeyboardInterrupt: Somebody pressed Ctrl-C; the state of the last evaluation is saved.
    """
    started = time.perf_counter()
    _check_alone()
    where = find_device(device)
    precision = choose_precision(run.training.precision, where)
    state = _state_to_resume(output) if resume else None
    if not resume:
        _check_free(output)
    with LogFile() as log_file:
        splits = open_splits(run.data, run.task)
        if not resume:
            _check_data(splits, run)
        num_steps = count_steps(run, splits.epoch_length)
        torch.manual_seed(run.training.seed)
        model = build_model(run.model, len(splits.classes))
        if not resume:
            load_start(model, splits.classes, run.model.backbone, run.weights)
        for folder in ("weights", "checkpoints", "pictures/training"):
            (output / folder).mkdir(parents=True, exist_ok=True)
        write_run(run, output / "config.yaml")
        log_file.write_to(output / "log.txt")
        _log_start(run, splits, num_steps)
        if not resume:
            draw_training_samples(splits, run, output / "pictures/training")
        log = RunLog(output, every=run.training.log_every, progress=progress)
        scoring = ScoreAndSave(
            output,
            log,
            classes=splits.classes,
            validation=splits.validation,
            every=run.training.eval_every or math.ceil(num_steps / EVALUATIONS_PER_RUN),
        )
        trainer = _make_trainer(run, output, num_steps, where, precision, callbacks=[log, scoring])
        done = 0 if state is None else _steps_done(state)
        loader = make_loader(splits, run, start=done, pin_memory=where.type == "cuda")
        _fit(trainer, TrainingModule(model, run, num_steps), loader, state)
        plot_run(output)
    best = output / "weights/best.safetensors"
    return TrainResult(
        output=output,
        steps=trainer.global_step,
        seconds=time.perf_counter() - started,
        metrics=scoring.metrics,
        best_weights=best if best.is_file() else output / "weights/last.safetensors",
    )


def choose_precision(wanted: Precision, device: torch.device) -> ChosenPrecision:
    """The precision to train in: "auto" is bf16 on a GPU that computes with it, else float32.

    Raises:
        ValueError: The device cannot train, or not in this precision.
    """
    if device.type not in ACCELERATORS:
        raise ValueError(
            f"device {device.type!r} cannot train so far; choose one of {', '.join(ACCELERATORS)}"
        )
    if wanted == "16-mixed" and device.type == "cpu":
        raise ValueError("precision 16-mixed needs a GPU; take 32-true or bf16-mixed on the CPU")
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "32-true"
    with torch.cuda.device(device):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"


def _fit(
    trainer: lightning.Trainer, module: TrainingModule, loader: DataLoader, state: Path | None
) -> None:
    try:
        with _quiet():
            trainer.fit(module, loader, ckpt_path=state)
    except (ValueError, OSError) as error:
        raise without_traceback(error) from error
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None


def _make_trainer(
    run: Run,
    output: Path,
    num_steps: int,
    device: torch.device,
    precision: ChosenPrecision,
    *,
    callbacks: list[lightning.Callback],
) -> lightning.Trainer:
    with _quiet():
        return lightning.Trainer(
            accelerator=ACCELERATORS[device.type],
            devices=1 if device.index is None else [device.index],
            precision=precision,
            max_steps=num_steps,
            max_epochs=-1,
            callbacks=callbacks,
            logger=TensorBoardLogger(output, name="", version="tensorboard"),
            log_every_n_steps=run.training.log_every,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


def _check_alone() -> None:
    """A second process would read the same batches as the first and write the same files."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise ValueError(
            f"{processes} processes were started (WORLD_SIZE); training runs in one process and on "
            "one device so far: start it without torchrun"
        )


def _check_free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"{output} exists already; name another folder with --output, or go on with the run "
            "in it with --resume"
        )


def _state_to_resume(output: Path) -> Path:
    path = output / "checkpoints/last.ckpt"
    if not path.is_file():
        raise FileNotFoundError(
            f"nothing to resume in {output}: {path} is missing; a run saves its state at every "
            "evaluation"
        )
    return path


def _steps_done(state: Path) -> int:
    return torch.load(state, map_location="cpu", weights_only=True, mmap=True)["global_step"]


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
    from_nothing = run.weights is None and not run.model.backbone.pretrained
    if run.model.backbone.norm == "frozen" and from_nothing:
        logger.warning("batch norm is frozen at statistics that nothing was trained with")


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning praises itself and warns of choices that are made on purpose here."""
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    lightning_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        lightning_logger.setLevel(level)
