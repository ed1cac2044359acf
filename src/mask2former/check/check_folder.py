"""Check a folder: read everything once, and find what is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mask2former.check.conventions import conventions
from mask2former.check.findings import Finding, Group, finding, group_findings
from mask2former.check.judge import judge
from mask2former.check.needs import Proposal
from mask2former.check.proposals import propose
from mask2former.check.survey import Progress, Split, survey
from mask2former.config import Run
from mask2former.config_io import compose_run, without_none
from mask2former.data.dataset import Dataset
from mask2former.data.open import DataFolder, natural_tasks
from mask2former.data.problems import Collected, Problem
from mask2former.data.shards.index import read_index
from mask2former.data.shards.verify import verify
from mask2former.fractions import Fractions
from mask2former.tasks import Task


@dataclass(frozen=True)
class Opened:
    """A data set of which only the lists of images were read."""

    folder: Path
    run: Run
    """What would be trained on it."""
    located: Path
    """Where the data set lies in the folder."""
    datasets: Mapping[str, Dataset]
    problems: Sequence[Problem]
    """What is wrong with the annotation files."""


@dataclass(frozen=True)
class Check:
    """What is known about a data set after all of it was read."""

    folder: Path
    run: Run
    """What would be trained on it."""
    splits: Mapping[str, Split]
    findings: tuple[Finding, ...]

    @property
    def first(self) -> Split:
        return next(iter(self.splits.values()))

    @property
    def groups(self) -> list[Group]:
        """Findings by kind, errors first."""
        return group_findings(self.findings)

    @cached_property
    def notes(self) -> list[str]:
        """How the files were understood; what all splits have in common is said once."""
        notes = [note for split in self.splits.values() for note in split.dataset.notes]
        notes += conventions(self.splits, self.run.task)
        return list(dict.fromkeys(notes))

    @cached_property
    def proposals(self) -> list[Proposal]:
        """What would fit the data better than the run as its preset has it."""
        return propose(self.splits, self.run)


def check_folder(
    folder: Path,
    *,
    preset: str | None = None,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option
    fractions: Fractions | None = None,
    workers: int | None = None,
    progress: Progress[Any] | None = None,
) -> Check:
    """Read every image and every annotation of a data set.

    Args:
        folder: Of the data set.
        preset: Whose sizes and number of queries count; none: the general one of the task.
        task: What would be trained; none: what the data or the preset are made for.
        format: Name of the format; none finds it.
        fractions: How to split a folder that is not split, in order: training, validation, test.
        workers: Processes; 0 works in this one, none takes one for every core.
        progress: Shows how far it is.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is no data set of a known format, cannot serve the task, or no split of it
            can be opened.
    """
    opened = open_folder(folder, preset=preset, task=task, format=format, fractions=fractions)
    return read_everything(opened, workers=workers, progress=progress)


def open_folder(
    folder: Path,
    *,
    preset: str | None = None,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option
    fractions: Fractions | None = None,
) -> Opened:
    """Every split that can be opened, and what is wrong with their annotation files.

    Arguments and errors as of `check_folder`. A data set without splits is one, unless fractions
    say how to divide it.
    """
    how = {"paths": (folder,), "format": format, "split_fractions": fractions}
    named = without_none({"preset": preset, "task": task, "data": how})
    run = compose_run(named, lambda: natural_tasks(folder, format))
    problems = Collected()
    source = DataFolder(
        folder,
        task=run.task,
        format=format,
        ignore_index=run.data.ignore_index,
        problems=problems,
    )
    datasets: dict[str, Dataset] = {}
    failures: list[ValueError | FileNotFoundError] = []
    for name in source.splits(fractions):
        try:
            dataset = source.open(name, fractions)
        except (ValueError, FileNotFoundError) as error:
            failures.append(error)
        else:
            datasets[dataset.split] = dataset
    if not datasets:
        raise failures[0]
    for error in failures:
        problems.error("unreadable annotation", str(error), file=folder)
    return Opened(folder, run, source.located.folder, datasets, tuple(problems.found))


def read_everything(
    opened: Opened, *, workers: int | None = None, progress: Progress[Any] | None = None
) -> Check:
    """Read every image and every annotation; arguments and errors as of `check_folder`."""
    findings = [Finding(p, "error" if p.is_error else "warning") for p in opened.problems]
    findings += _changed_shards(opened.located, progress)
    splits = survey(opened.datasets, opened.run.task, workers=workers, progress=progress)
    findings += judge(splits, opened.run, opened.problems)
    return Check(opened.folder, opened.run, splits, tuple(findings))


def _changed_shards(folder: Path, progress: Progress[str] | None) -> Iterator[Finding]:
    """Shards that are no longer what the index beside them says."""
    index = read_index(folder)
    if index is None:
        return
    names = [shard.name for split in index.splits.values() for shard in split.shards]
    for fault in verify(folder, progress):
        file = next(
            (folder / name for name in names if fault.startswith(f"{folder / name} ")), None
        )
        yield finding(
            "changed shard", fault, is_error=True, file=None if file is None else str(file)
        )
