"""From a run's configuration to batches."""

import logging
import math
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from mask2former.config import NO_DATA, Data, LargeScaleJitter, Run
from mask2former.data.augmentation import geometry_drawer
from mask2former.data.batching import collate
from mask2former.data.dataset import TaskDataset
from mask2former.data.derive import for_task
from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.splits import means
from mask2former.data.merging import join_notes, merge_datasets, tell_unshared
from mask2former.data.open import DataFolder
from mask2former.data.sampling import (
    TrainingBatches,
    class_repeats,
    epoch_length,
    scale_to_shares,
)
from mask2former.data.training_data import (
    TrainingData,
    classes_per_image,
    landscape_flags,
    without_empty_images,
)
from mask2former.data.transforms import keeps_emptied
from mask2former.distributed import rank, world_size
from mask2former.evaluation.scored_data import open_scored
from mask2former.evaluation.scores import unknown_classes
from mask2former.evaluation.truth import ScoredImages, merge_scored
from mask2former.fractions import Fractions
from mask2former.tasks import Task
from mask2former.training.states.signals import shield_worker
from mask2former.types import Classes

logger = logging.getLogger(__name__)


class FolderSplits(NamedTuple):
    """What one folder gives to a run."""

    train: TaskDataset
    validation: ScoredImages | None

    @property
    def notes(self) -> tuple[str, ...]:
        """How its files were understood."""
        return (*self.train.notes, *(self.validation.main.notes if self.validation else ()))


class Splits(NamedTuple):
    """What a run reads."""

    train: TrainingData
    validation: ScoredImages | None
    classes: Classes
    repeats: list[float] | None
    """How often an epoch shows each training image, on average; none: once."""
    folders: tuple[FolderSplits, ...]
    """Of which training and validation data are made."""

    @property
    def epoch_length(self) -> int:
        """Images that an epoch shows."""
        return len(self.train) if self.repeats is None else epoch_length(self.repeats)

    @property
    def notes(self) -> tuple[str, ...]:
        """How the files of all folders were understood."""
        folders = [folder.train.folder for folder in self.folders]
        return join_notes(folders, [folder.notes for folder in self.folders])


def open_splits(data: Data, task: Task) -> Splits:
    """Open what a run trains on and what it is evaluated on, and warn of what may not be meant.

    Raises:
        FileNotFoundError: The folder or a file is missing.
        ValueError: It holds no data for the task, a split is empty, or the splits have different
            classes.
    """
    if not data.paths:
        raise ValueError(NO_DATA)
    if data.train_split == WHOLE and data.split_fractions is not None:
        raise ValueError(
            "data.train_split = all trains on every image, of which --split (data.split_fractions) "
            "would hold some out; leave one of the two out"
        )
    folders = _open_folders(data, task)
    merged = merge_datasets([folder.train for folder in folders])
    augmentation = data.augmentation
    train = TrainingData(
        merged,
        task,
        draw_geometry=geometry_drawer(augmentation),
        color_jitter=augmentation.color_jitter,
        keep_emptied=keeps_emptied(task, augmentation.kind),
        copy_paste=data.copy_paste,
    )
    held_out = [folder.validation for folder in folders if folder.validation is not None]
    for validation in held_out:
        _check_known_classes(merged, validation.main)
    unshared = tell_unshared([folder.train for folder in folders])
    if unshared is not None:
        logger.warning("%s", unshared)
    repeats = _repeats(data, merged, [len(folder.train) for folder in folders])
    validation = merge_scored(held_out) if held_out else None
    return Splits(train, validation, merged.classes, repeats, folders)


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
    crop_fixes_size = isinstance(run.data.augmentation, LargeScaleJitter) or (
        run.data.augmentation.pad_to_crop
    )
    batches = TrainingBatches(
        len(splits.train),
        batch_size=run.training.batch_size,
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
        worker_init_fn=shield_worker,
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


def _open_folders(data: Data, task: Task) -> tuple[FolderSplits, ...]:
    found = [
        DataFolder(path, task=task, format=data.format, ignore_index=data.ignore_index)
        for path in data.paths
    ]
    fractions = [f.fractions_to_train(data.train_split, data.split_fractions) for f in found]
    if data.split_fractions is not None:
        if not any(fractions):
            found[0].splits(data.split_fractions)  # says why it cannot be divided
        for folder, own in zip(found, fractions, strict=True):
            if own is None:
                logger.info("%s keeps the splits that it has", folder.folder)
    splits = tuple(
        _open_folder(folder, own, data, task) for folder, own in zip(found, fractions, strict=True)
    )
    if all(validation is None for _, validation in splits):
        _warn_of_no_validation(data, is_dividable=any(f.located.is_dividable for f in found))
    return splits


def _open_folder(
    folder: DataFolder, fractions: Fractions | None, data: Data, task: Task
) -> FolderSplits:
    whole = for_task(folder.open(data.train_split, fractions), task)
    train = without_empty_images(whole)
    split = data.val_split
    if split is None and data.train_split != WHOLE:
        split = next((name for name in folder.splits(fractions) if means(name, "val")), None)
    if split is None:
        return FolderSplits(train, None)
    if not len(folder.open(split, fractions)):
        raise ValueError(
            f"split {split!r} of {folder.folder} has no images to validate on; add some, or name "
            f"another split by data.val_split"
        )
    validation = open_scored(folder, split, fractions, task)
    if fractions is not None:
        is_automatic = data.split_fractions is None
        _warn_of_division(folder, whole, validation, is_automatic=is_automatic)
    if task != "semantic" and all(r.num_objects == 0 for r in validation.main.records):
        logger.warning(
            "split %r of %s shows no object, so nothing can be scored on it", split, folder.folder
        )
    return FolderSplits(train, validation)


def _warn_of_division(
    folder: DataFolder, train: TaskDataset, validation: ScoredImages, *, is_automatic: bool
) -> None:
    if train.split == WHOLE:
        what = "one image" if len(train) == 1 else f"{len(train)} images of one group"
        logger.warning(
            "%s is %s, of which nothing can be held out: the model is scored on what it is trained "
            "on",
            folder.folder, what,
        )  # fmt: skip
    elif is_automatic:
        [only] = folder.located.found.splits
        splits = "no splits" if only == WHOLE else f"only the split {only!r}, which is trained on"
        logger.warning(
            "%s has %s; held out to validate: %d of %d images (see --split)",
            folder.folder, splits, len(validation), len(train) + len(validation),
        )  # fmt: skip


def _warn_of_no_validation(data: Data, *, is_dividable: bool) -> None:
    if data.train_split == WHOLE:
        mend = "leave data.train_split out to hold some out"
    elif is_dividable and means(data.train_split, "train"):
        mend = "--split 0.9/0.1 holds some training images out"
    else:
        mend = "name another by data.val_split"
    folders = " or ".join(map(str, data.paths))
    logger.warning("no validation split in %s, so the run is not evaluated; %s", folders, mend)


def _check_known_classes(train: TaskDataset, validation: TaskDataset) -> None:
    unknown = unknown_classes(train.classes, validation.classes)
    if unknown:
        raise ValueError(
            f"split {validation.split} of {validation.folder} has the classes "
            f"{', '.join(map(repr, unknown))}, which the training split does not have; give both "
            f"the same list"
        )


def _repeats(data: Data, train: TaskDataset, sizes: list[int]) -> list[float] | None:
    repeats = None
    if data.repeat_threshold is not None:
        repeats = class_repeats(classes_per_image(train), data.repeat_threshold)
    if data.shares is not None:
        repeats = scale_to_shares(repeats or [1.0] * len(train), sizes, data.shares)
    return repeats
