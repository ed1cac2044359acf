"""From a run's configuration to batches."""

import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from mask2former.config import NO_DATA, Data, LargeScaleJitter, Run
from mask2former.data.augmentation import geometry_drawer
from mask2former.data.batching import collate
from mask2former.data.dataset import TaskDataset
from mask2former.data.derive import for_task
from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.splits import means
from mask2former.data.locate import find_format
from mask2former.data.merging import merge_classes, merge_datasets
from mask2former.data.open import list_splits, open_dataset, training_fractions
from mask2former.data.sampling import (
    TrainingBatches,
    class_repeats,
    epoch_length,
    share_repeats,
)
from mask2former.data.training_data import (
    TrainingData,
    classes_per_image,
    landscape_flags,
    without_empty_images,
)
from mask2former.data.transforms import keeps_emptied
from mask2former.distributed import rank, world_size
from mask2former.fractions import Fractions
from mask2former.tasks import Task
from mask2former.types import Classes

_LOG = logging.getLogger(__name__)


class Splits(NamedTuple):
    """What a run reads."""

    train: TrainingData
    validation: TaskDataset | None
    classes: Classes
    repeats: list[float] | None
    """How often an epoch shows each training image, on average; none: once."""
    data: Data
    """The configuration, which now says how data without splits are divided: evaluation must find
    the images again that were held out."""

    @property
    def epoch_length(self) -> int:
        """Images that an epoch shows."""
        return len(self.train) if self.repeats is None else epoch_length(self.repeats)


def open_splits(data: Data, task: Task) -> Splits:
    """Open what a run trains on and what it is evaluated on.

    Raises:
        FileNotFoundError: The folder or a file is missing.
        ValueError: It holds no data for the task, or the splits have different classes.
    """
    if not data.paths:
        raise ValueError(NO_DATA)
    data = _settle_fractions(data, task)
    parts = [without_empty_images(_open(data, path, data.train_split, task)) for path in data.paths]
    augmentation = data.augmentation
    train = TrainingData(
        merge_datasets(parts),
        task,
        draw_geometry=geometry_drawer(augmentation),
        color_jitter=augmentation.color_jitter,
        keep_emptied=keeps_emptied(task, augmentation.kind),
    )
    validation = _open_validation(data, task)
    if validation is None:
        _LOG.warning(
            "no validation split in %s; the run is not evaluated. --split 0.9/0.1 holds some "
            "training images out",
            " or ".join(map(str, data.paths)),
        )
    else:
        _check_known_classes(train.dataset, validation)
    repeats = _repeats(data, train.dataset, [len(part) for part in parts])
    return Splits(train, validation, train.dataset.classes, repeats, data)


def count_steps(run: Run, num_images: int) -> int:
    """Steps of a run; an epoch's last batch is filled up from the next epoch.

    Args:
        run: The configuration.
        num_images: That an epoch shows.
    """
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
        repeats=splits.repeats,
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


def _settle_fractions(data: Data, task: Task) -> Data:
    if data.split_fractions is not None:
        return data
    found = [
        training_fractions(path, data.train_split, task=task, format=data.format)
        for path in data.paths
    ]
    fractions = next((one for one in found if one is not None), None)
    return data.model_copy(update={"split_fractions": fractions})


def _open(data: Data, folder: Path, split: str, task: Task) -> TaskDataset:
    return for_task(
        open_dataset(
            folder,
            split,
            task=task,
            format=data.format,
            ignore_index=data.ignore_index,
            fractions=_fractions_for(data, folder, task),
        ),
        task,
    )


def _fractions_for(data: Data, folder: Path, task: Task) -> Fractions | None:
    """Of several folders, those with splits of their own keep them."""
    if data.split_fractions is None or len(data.paths) == 1:
        return data.split_fractions
    if find_format(folder, task=task, format=data.format).is_dividable:
        return data.split_fractions
    _LOG.info("%s keeps the splits that it has", folder)
    return None


def _check_known_classes(train: TaskDataset, validation: TaskDataset) -> None:
    known, both = train.classes.names, merge_classes([train, validation]).names
    if len(both) > len(known):
        raise ValueError(
            f"split {validation.split} of {validation.folder} has the classes "
            f"{', '.join(map(repr, both[len(known) :]))}, which split {train.split} of "
            f"{train.folder} does not have; give both the same list"
        )


def _open_validation(data: Data, task: Task) -> TaskDataset | None:
    """The validation splits of all folders that have one."""
    parts = []
    for folder in data.paths:
        split = data.val_split or _validation_split(data, folder, task)
        if split is not None:
            parts.append(_open(data, folder, split, task))
    return merge_datasets(parts) if parts else None


def _validation_split(data: Data, folder: Path, task: Task) -> str | None:
    if data.train_split == WHOLE:
        return None
    fractions = _fractions_for(data, folder, task)
    splits = list_splits(folder, task, format=data.format, fractions=fractions)
    return next((split for split in splits if means(split, "val")), None)


def _repeats(data: Data, train: TaskDataset, sizes: list[int]) -> list[float] | None:
    repeats = None
    if data.shares is not None:
        repeats = share_repeats(sizes, data.shares)
    if data.repeat_threshold is not None:
        by_class = class_repeats(classes_per_image(train), data.repeat_threshold)
        repeats = [a * b for a, b in zip(repeats or [1.0] * len(train), by_class, strict=True)]
    return repeats
