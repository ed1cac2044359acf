"""Opens any Mask2Former: finds the file, tells its dialect, gives it our names and its meaning."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mask2former.config import Run
from mask2former.model.mask2former import Mask2Former
from mask2former.types import Classes
from mask2former.weights import (
    backbone_names,
    foreign,
    huggingface,
    native,
    official,
    openmmlab,
)
from mask2former.weights.build import build_filled
from mask2former.weights.checkpoint import Checkpoint, Opened, complete
from mask2former.weights.dialect import Translation
from mask2former.weights.locate import locate
from mask2former.weights.native import read_origin
from mask2former.weights.tensor_file import TensorFile, read_tensor_file

Reader: TypeAlias = Callable[[Mapping[str, Tensor], Mapping[str, Any]], Translation]


@dataclass(frozen=True)
class Dialect:
    """One way to name the tensors of a Mask2Former."""

    name: str
    recognises: Callable[[Collection[str]], bool]
    read: Reader


DIALECTS = (
    Dialect("mask2former", native.recognises, lambda state, _: Translation(dict(state), [])),
    Dialect("official", official.recognises, official.read),
    Dialect("huggingface", huggingface.recognises, huggingface.read),
    Dialect("openmmlab", openmmlab.recognises, openmmlab.read),
)
_ACCEPTED = "give a Mask2Former of this package, its authors, Hugging Face or OpenMMLab"


class Loaded(NamedTuple):
    """A model ready for use, and what it was trained for."""

    model: Mask2Former
    classes: Classes
    run: Run


def load(
    weights: str | Path, device: str | torch.device = "cpu", preset: str | None = None
) -> Loaded:
    """Make the model of any checkpoint, in evaluation mode.

    On the CPU the model uses the file's own pages where the format allows it: it must not be
    changed in place meanwhile (replacing it is harmless).

    Args:
        weights: See `read`.
        device: Where to put the model.
        preset: See `read`.

    Raises:
        FileNotFoundError: There is nothing of that name.
        ValueError: It is no Mask2Former, or a tensor is missing, left over or of another shape.
    """
    tensors, run, classes = read(weights, preset)
    model = build_filled(run.model, len(classes), tensors, str(weights))
    return Loaded(model.to(device).eval(), classes, run)


def read(weights: str | Path, preset: str | None = None) -> Checkpoint:
    """Read any checkpoint.

    Args:
        weights: A run's folder, a file of ours, the authors' `.pkl` or `.pth`, Hugging Face's
            folder or `.safetensors`, OpenMMLab's `.pth`; or the name of a published preset, a hub
            id or an address, which are downloaded once.
        preset: The published configuration that a foreign file is of. It says what the file does
            not: classes, task, image size and thresholds. Sizes are read off the tensors.

    Raises:
        FileNotFoundError: There is nothing of that name.
        ValueError: It is no Mask2Former, or damaged, or does not fit the preset.
    """
    opened = open_weights(weights)
    if isinstance(opened, TensorFile):
        raise ValueError(f"{weights} is {_explain(opened.tensors, str(weights))}")
    return complete(opened, preset)


def open_weights(weights: str | Path) -> Opened | TensorFile:
    """Find a checkpoint and give its tensors our names; see `read`.

    Returns:
        A Mask2Former; or the file as it is, where its names are of none and of no other model that
        is known: a backbone alone can have any names.

    Raises:
        FileNotFoundError: There is nothing of that name.
        ValueError: It is damaged, or a model of another kind.
    """
    source = str(weights)
    path, preset = locate(weights)
    file = read_tensor_file(_find_file(path))
    dialect = _dialect(file, source)
    if dialect is None:
        other = foreign.describe(file.tensors)
        if other is not None:
            raise ValueError(
                f"{source} is {other}; {_ACCEPTED}, or, to train, a backbone's weights"
            )
        return file
    try:
        origin = read_origin(file.beside)
        translation = dialect.read(file.tensors, file.beside)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return Opened(source, file.path, dialect.name, translation, origin, preset)


def _dialect(file: TensorFile, source: str) -> Dialect | None:
    if "pytorch-lightning_version" in file.beside:
        raise ValueError(
            f"{source} is the state of an unfinished training; give the run's folder, or a file in "
            "its weights folder"
        )
    if not file.tensors:
        raise ValueError(f"{source} holds no tensors")
    return next((dialect for dialect in DIALECTS if dialect.recognises(file.tensors)), None)


def _explain(names: Collection[str], source: str) -> str:
    """What a file without a Mask2Former is, and what to do."""
    backbone = backbone_names.recognises(names)
    if backbone is not None:
        return f"a backbone alone ({backbone}); train with it: mask2former train --weights {source}"
    shown = ", ".join(sorted(names)[:3])
    return f"of an unknown kind ({len(names)} tensors, such as {shown}); {_ACCEPTED}"


def _find_file(path: Path) -> Path:
    """The weights that a path means: of a run its best ones, or the last when there are none.

    Raises:
        FileNotFoundError: The run has no weights yet.
    """
    for name in ("best", "last"):
        file = path / "weights" / f"{name}.safetensors"
        if file.is_file():
            return file
    if (path / "config.yaml").is_file():
        raise FileNotFoundError(
            f"{path} holds neither weights/best.safetensors nor weights/last.safetensors; give the "
            "folder of a run that has been evaluated or has finished"
        )
    return path
