"""Lightning's trainer, as every run uses it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import Strategy
from torch.utils.data import DataLoader

from mask2former.config_training import Precision
from mask2former.distributed import world_size
from mask2former.training.accelerator import AnyDevice, computes_in_bfloat16, make_precision
from mask2former.training.loader import without_traceback
from mask2former.training.module import TrainingModule
from mask2former.training.states.saving import StateWriter

ChosenPrecision: TypeAlias = Literal["32-true", "bf16-mixed", "16-mixed"]


def choose_precision(wanted: Precision, device: torch.device) -> ChosenPrecision:
    """The precision to train in: "auto" is bf16 on a device that computes with it, else float32.

    Raises:
        ValueError: The device cannot train in this precision.
    """
    if wanted == "16-mixed" and device.type == "cpu":
        raise ValueError("precision 16-mixed needs a GPU; take 32-true or bf16-mixed on the CPU")
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if computes_in_bfloat16(device) else "32-true"


def make_trainer(
    device: torch.device,
    precision: ChosenPrecision,
    writer: StateWriter,
    strategy: Strategy,
    *,
    callbacks: list[lightning.Callback],
) -> lightning.Trainer:
    """Lightning, without what it does of its own accord.

    Args:
        device: Of this process.
        precision: To train in.
        writer: Of states.
        strategy: As `make_strategy` gives it.
        callbacks: In their order.
    """
    plugins: list[Any] = [writer, make_precision(precision, device)]
    if world_size() == 1:
        plugins.append(LightningEnvironment())  # not whatever Lightning finds, as a scheduler's
    with quiet():
        return lightning.Trainer(
            accelerator=AnyDevice(),
            devices=[device],  # pyrefly: ignore[bad-argument-type]
            strategy=strategy,
            max_steps=-1,  # scoring ends the run: Lightning would not even begin one that is done
            max_epochs=-1,
            plugins=plugins,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


def fit(
    trainer: lightning.Trainer,
    module: TrainingModule,
    loader: DataLoader,
    state: Path | None,
) -> None:
    """Do all steps; errors of loader processes and Ctrl-C come as they were raised.

    Args:
        trainer: As `make_trainer` made it.
        module: What is trained.
        loader: Of this rank's batches.
        state: To go on from; none: from the beginning.
    """
    try:
        with quiet():
            trainer.fit(module, loader, ckpt_path=state, weights_only=True)
    except (ValueError, OSError) as error:
        raise without_traceback(error) from error
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning praises itself and warns of choices that are made on purpose here."""
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    lightning_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            # the schedule goes on where the first steps overflow in 16-mixed and are left out
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            # between compiled parts
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
            yield
    finally:
        lightning_logger.setLevel(level)
