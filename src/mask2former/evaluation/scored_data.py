"""The images on which a trained model is scored: above all those that its run held out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mask2former.config import NO_DATA
from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.splits import means
from mask2former.data.merging import tell_unshared
from mask2former.data.open import DataFolder
from mask2former.evaluation.objects_beside import find_objects
from mask2former.evaluation.truth import ScoredImages, merge_scored, scored_images
from mask2former.fractions import Fractions
from mask2former.inference.segmenter import TrainedOn
from mask2former.tasks import Task

VISIBLE_OBJECTS = "objects are compared with what is visible of them"


def open_scored_data(
    folders: Sequence[Path],
    split: str | None,
    trained_on: TrainedOn,
    task: Task,
    format: str | None = None,  # noqa: A002 as the option is called
) -> ScoredImages:
    """Open one split of each folder; those that the model was trained on, as its run did.

    Args:
        folders: Of the data; none: those that the model was trained on.
        split: Folders that lack it are left out, with a note. None: the validation split, or all
            images of a folder that is not split.
        trained_on: By what the run divided its own folders.
        task: What is scored.
        format: Name of the format of all folders; none: as the run, or found.

    Returns:
        The notes of `main` say what was left out, and of which images the scores prove nothing.

    Raises:
        FileNotFoundError: A folder or a file is missing.
        ValueError: No folder has the split, or one is damaged or cannot serve the task.
    """
    folders = folders or trained_on.folders
    if not folders:
        raise ValueError(NO_DATA)
    own = {folder.resolve() for folder in trained_on.folders}
    parts: list[ScoredImages] = []
    notes: list[str] = []
    lacking: dict[Path, list[str]] = {}
    for folder in folders:
        is_own = folder.resolve() in own
        opened = DataFolder(
            folder,
            task=task,
            format=format or (trained_on.format if is_own else None),
            ignore_index=trained_on.ignore_index,
        )
        fractions = None
        if is_own:
            fractions = opened.fractions_to_train(
                trained_on.train_split, trained_on.split_fractions
            )
        chosen = _choose(split, opened.splits(fractions), list(opened.located.found.splits))
        if chosen is None:
            lacking[folder] = opened.splits(fractions)
            continue
        part = open_scored(opened, chosen, fractions, task)
        parts.append(part)
        if split is None and chosen == WHOLE:
            notes.append(f"{folder} has no splits: all {len(part)} images are scored")
        was_seen = means(chosen, trained_on.train_split)
        if is_own and (was_seen or WHOLE in (trained_on.train_split, part.main.split)):
            notes.append(
                f"the model was trained on images of split {chosen!r} of {folder}: how well it "
                f"does on them says nothing about others"
            )
    wanted = split or "val"
    if not parts:
        has = "; ".join(f"{f} has {', '.join(map(repr, names))}" for f, names in lacking.items())
        raise ValueError(f"no split {wanted!r} to score: {has}; name one of these by --split")
    notes += [f"{folder} has no split {wanted!r} and is not scored" for folder in lacking]
    unshared = tell_unshared([part.main for part in parts])
    merged = merge_scored(parts)
    told = (*merged.main.notes, *notes, *(() if unshared is None else (unshared,)))
    main = replace(merged.main, notes=tuple(dict.fromkeys(told)))
    return replace(merged, datasets={**merged.datasets, task: main})


def open_scored(
    folder: DataFolder, split: str, fractions: Fractions | None, task: Task
) -> ScoredImages:
    """One split of a folder, with all that scoring a task needs.

    COCO's panoptic results are scored by the objects of `instances_*.json` where such files lie in
    the same folder, as published: in the panoptic annotations what is hidden is cut off. Where
    they do not serve all images, a note says why, and objects are what is visible of them.

    Args:
        folder: Of the data.
        split: Its name.
        fractions: As of `DataFolder.open`.
        task: What is scored.

    Raises:
        FileNotFoundError: Files are missing.
        ValueError: The split is damaged, empty, or cannot serve the task.
    """
    images = scored_images(folder.open(split, fractions), task)
    is_coco = folder.located.format.name == "coco-panoptic"
    if task != "panoptic" or not is_coco or "instance" not in images.datasets:
        return images
    try:
        found = find_objects(folder.located.folder, images)
    except (ValueError, OSError) as error:
        return _with_note(images, f"{VISIBLE_OBJECTS}, not with the instance annotations: {error}")
    if found is None:
        return images
    images = replace(images, datasets={**images.datasets, "instance": found.dataset})
    splits = " and ".join(map(repr, found.splits))
    return _with_note(
        images, f"objects are compared with those of the instance annotations of {splits}"
    )


def _with_note(images: ScoredImages, note: str) -> ScoredImages:
    main = replace(images.main, notes=(*images.main.notes, note))
    return replace(images, datasets={**images.datasets, images.task: main})


def _choose(split: str | None, available: Sequence[str], undivided: Sequence[str]) -> str | None:
    """The split that is meant, under the name that it has."""
    if split is None:
        meant = next((name for name in available if means(name, "val")), None)
        return WHOLE if meant is None and list(available) == [WHOLE] else meant
    if split == WHOLE and WHOLE in undivided:
        return WHOLE
    return split if split in available else next((n for n in available if means(n, split)), None)
