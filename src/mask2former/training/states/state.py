"""Saved states of a run: always one that is whole, and the newest such found again."""

import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mask2former.files import naming, reason_of, unfinished_path
from mask2former.types import Classes

logger = logging.getLogger(__name__)
FORMAT = 1
"""Counts up when an older state can no longer be gone on from."""
ORIGIN = "mask2former"
"""Key of what a state says of itself."""
LAST, BEFORE, PREVIOUS = "last.ckpt", ".last.ckpt.before", "previous.ckpt"
"""From the newest to the oldest; the second is there while the first is being replaced."""


class SavedState(NamedTuple):
    """One that was found to be whole."""

    path: Path
    step: int
    """Steps done when it was saved."""


class StateFiles:
    """The two newest states of a run, in a folder.

    A state is an archive as `torch.save` writes it, with a checksum of every tensor inside.
    Writing computes them anyway; reading them again takes about a second for a GB.
    """

    def __init__(self, folder: Path) -> None:
        """Say where.

        Args:
            folder: `checkpoints` in the run's folder; it need not be there yet.
        """
        self.folder = folder
        self.step: int | None = None
        """Of the newest good state that this process has written or found."""

    @property
    def last(self) -> Path:
        """Where the newest state lies."""
        return self.folder / LAST

    @property
    def is_empty(self) -> bool:
        """Whether no state was ever saved, good or broken."""
        return not self._found()

    def save(self, write: Callable[[Path], None], step: int) -> bool:
        """Write a state; the one before it is kept, and whatever happens one of them is whole.

        Where the disk is full or fails, a warning says so and the run may go on.

        Args:
            write: Writes the archive to the path that it is given.
            step: Steps done.

        Returns:
            Whether it was written.
        """
        unfinished = unfinished_path(self.last)
        try:
            with naming(self.last):
                self.folder.mkdir(parents=True, exist_ok=True)
                write(unfinished)
                _flush(unfinished)
                self._take_over(unfinished)
        except OSError as error:
            self._tell_failure(error, step)
            return False
        finally:
            with suppress(OSError):  # of a disk that fails
                unfinished.unlink(missing_ok=True)
        self.step = step
        return True

    def newest_good(self) -> SavedState:
        """The state to go on from; a broken one is passed over with a warning.

        Raises:
            FileNotFoundError: Nothing was saved.
            ValueError: No state is whole, or the newest is of another version of this package.
        """
        found = self._found()
        if not found:
            raise FileNotFoundError(
                f"nothing to resume in {self.folder.parent}: no state was saved in {self.folder}; "
                "give the folder of a run"
            )
        broken: list[str] = []
        for path in found:
            try:
                step = read_step(path)
            except BrokenStateError as error:
                broken.append(f"{path} is broken ({error})")
                continue
            for reason in broken:
                logger.warning("%s; the run goes on from step %d, saved in %s", reason, step, path)
            self.step = step
            return SavedState(path, step)
        weights = self.folder.parent / "weights/last.safetensors"
        raise ValueError(
            f"nothing to resume in {self.folder.parent}: {'; '.join(broken)}; start a new run, "
            f"from --weights {weights} if that is there"
        )

    def _found(self) -> list[Path]:
        """From the newest on."""
        paths = [self.folder / name for name in (LAST, BEFORE, PREVIOUS)]
        return [path for path in paths if path.is_file()]

    def _take_over(self, unfinished: Path) -> None:
        """Three renamings, of which any may be the last.

        The oldest state goes only when the new one is in place: the one between may be broken.
        """
        before = self.folder / BEFORE
        if self.last.exists():
            self.last.replace(before)
        unfinished.replace(self.last)
        if before.exists():
            before.replace(self.folder / PREVIOUS)
        _flush(self.folder)

    def _tell_failure(self, error: OSError, step: int) -> None:
        resumed = "nothing was saved before" if self.step is None else (
            f"the last good state is that of step {self.step}"
        )  # fmt: skip
        logger.warning(
            "the state of step %d cannot be saved to %s: %s; %s; the run goes on and tries again "
            "at the next save",
            step, self.last, reason_of(error), resumed,
        )  # fmt: skip


class BrokenStateError(Exception):
    """A file is not what was written; the message says how that shows."""


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write an archive, one tensor after another.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        with path.open("wb") as file:  # given a path, PyTorch does not tell what is wrong
            torch.save(dict(state), file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # the archive cannot be ended after it either
            raise error.__context__ from None
        raise


def read_step(path: Path) -> int:
    """The step of a state, every byte of which is compared with its checksum.

    Raises:
        BrokenStateError: The file is damaged.
        ValueError: Another version of this package wrote it, so that its parts may not fit.
    """
    state = _read_whole(path)
    origin = state.get(ORIGIN, {})
    if origin.get("format") != FORMAT:
        raise ValueError(
            f"{path} was saved by another version of this package ({origin.get('version')}, format "
            f"{origin.get('format')}); this is {metadata.version('mask2former')}, which goes on "
            f"from format {FORMAT}: install that version, or start a new run from the weights"
        )
    return int(state["global_step"])


def check_fits(path: Path, module: nn.Module, classes: Classes) -> None:
    """Whether a state is of a model and of classes.

    Args:
        path: A state that is whole.
        module: As it was saved, without the weights.
        classes: Of the model that is to go on.

    Raises:
        ValueError: It is of others.
    """
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    names = state[ORIGIN]["classes"]
    if names != list(classes.names):
        raise ValueError(
            f"{path} is of {len(names)} classes ({_listed(names)}), the data have {len(classes)} "
            f"({_listed(classes.names)}); resume with the data of the run, or start a new run from "
            "its weights"
        )
    saved = {name: tuple(tensor.shape) for name, tensor in state["state_dict"].items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    others = sorted(n for n in saved.keys() | wanted.keys() if saved.get(n) != wanted.get(n))
    if others:
        name = others[0]
        raise ValueError(
            f"{path} is of another model: {len(others)} of its tensors differ from those of the "
            f"configuration, such as {name}: {saved.get(name, 'none')} in the state, "
            f"{wanted.get(name, 'none')} here; resume with the configuration of the run"
        )


def _read_whole(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load compares no checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise BrokenStateError(f"the checksum of {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except BrokenStateError:
        raise
    except Exception as error:  # damaged bytes fail in as many ways as there are readers of them
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BrokenStateError(reason[:200]) from error
    if not isinstance(state, dict) or "global_step" not in state:
        raise BrokenStateError("it is no state of a run")
    return state


def _flush(path: Path) -> None:
    """Until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name != "posix":  # there are no descriptors of folders elsewhere
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown}, ..."
