"""From a run's configuration to batches."""

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from mask2former.config import NO_DATA, Data, LargeScaleJitter, Run
from mask2former.data.batching import collate
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task
from mask2former.data.geometry import large_scale_jitter, shortest_edge_crop
from mask2former.data.open import list_splits, open_dataset
from mask2former.data.sampling import TrainingBatches
from mask2former.data.training_data import TrainingData, landscape_flags
from mask2former.data.transforms import keeps_emptied
from mask2former.distributed import rank, world_size
from mask2former.tasks import Task
from mask2former.types import Classes

_LOG = logging.getLogger(__name__)
VALIDATION_NAMES = ("val", "valid", "validation")


class Splits(NamedTuple):
    """What a run reads."""

    train: TrainingData
    validation: Dataset | None
    classes: Classes


def open_splits(data: Data, task: Task) -> Splits:
    """Open what a run trains on and what it is evaluated on.

    Raises:
        FileNotFoundError: The folder or a file is missing.
        ValueError: It holds no data for the task, or the splits have different classes.
    """
    if data.path is None:
        raise ValueError(NO_DATA)
    augmentation = data.augmentation
    train = TrainingData(
        _open(data, data.path, data.train_split, task),
        task,
        draw_geometry=_draw_geometry(data),
        color_jitter=augmentation.color_jitter,
        keep_emptied=keeps_emptied(task, augmentation.kind),
    )
    validation = _open_validation(data, data.path, task)
    if validation is None:
        _LOG.warning("no validation split in %s; the run is not evaluated", data.path)
    else:
        _check_same_classes(train.dataset, for_task(validation, task))
    return Splits(train, validation, train.dataset.classes)


def count_steps(run: Run, num_images: int) -> int:
    """Steps of a run; an epoch's last batch is filled up from the next epoch."""
    if run.training.steps is not None:
        return run.training.steps
    assert run.training.epochs is not None
    return math.ceil(run.training.epochs * num_images / run.training.batch_size)


def make_loader(
    splits: Splits, run: Run, start: int, *, pin_memory: bool = False
) -> DataLoader[Any]:
    """Endless `types.Batch`es of this rank, from step `start` on.

    Raises:
        ValueError: The batch cannot be shared out equally among the ranks.
    """
    per_rank, left_over = divmod(run.training.batch_size, world_size())
    if left_over or not per_rank:
        raise ValueError(
            f"a batch of {run.training.batch_size} images cannot be shared out equally among "
            f"{world_size()} ranks; give a multiple with --batch"
        )
    crop_fixes_size = isinstance(run.data.augmentation, LargeScaleJitter) or (
        run.data.augmentation.pad_to_crop
    )
    batches = TrainingBatches(
        len(splits.train),
        batch_size=per_rank,
        seed=run.training.seed,
        rank=rank(),
        world_size=world_size(),
        start=start,
        is_landscape=None if crop_fixes_size else landscape_flags(splits.train.dataset).tolist(),
    )
    return DataLoader(
        splits.train,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=run.data.workers,
        persistent_workers=run.data.workers > 0,
        pin_memory=pin_memory,
    )


def without_traceback(error: ValueError | OSError) -> ValueError | OSError:
    """An error of ours as it was raised: a loader process wraps its traceback around it."""
    lines = str(error).rstrip().splitlines()
    raised_in = [line for line in lines if line.lstrip().startswith('File "')]
    if not raised_in or "/mask2former/" not in raised_in[-1].replace("\\", "/"):
        return error
    _, _, original = lines[-1].partition(": ")
    return type(error)(original)


def _open(data: Data, folder: Path, split: str, task: Task) -> Dataset:
    return open_dataset(folder, split, task=task, ignore_index=data.ignore_index)


def _check_same_classes(train: Dataset, validation: Dataset) -> None:
    if train.classes != validation.classes:
        raise ValueError(
            f"splits {train.split} and {validation.split} of {train.folder} have different "
            f"classes: {train.classes.names} and {validation.classes.names}; "
            "give both the same list"
        )


def _open_validation(data: Data, folder: Path, task: Task) -> Dataset | None:
    if data.val_split is not None:
        return _open(data, folder, data.val_split, task)
    for split in list_splits(folder, task):
        if split in VALIDATION_NAMES:
            return _open(data, folder, split, task)
    return None


def _draw_geometry(data: Data) -> partial:
    augmentation = data.augmentation
    arguments = augmentation.model_dump(exclude={"kind", "color_jitter"})
    if isinstance(augmentation, LargeScaleJitter):
        return partial(large_scale_jitter, **arguments)
    return partial(shortest_edge_crop, **arguments)
