"""Our own file: weights, configuration and classes in one `.safetensors`."""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mask2former.config import Run
from mask2former.config_io import parse_run
from mask2former.files import replacing
from mask2former.types import Classes

FORMAT = "mask2former"
VERSION = "1"
_MARK = "transformer_decoder.query_features.weight"


class Origin(NamedTuple):
    """What only we write into a file: all that the tensors do not tell."""

    run: Run
    classes: Classes


def save(path: Path, weights: Mapping[str, Tensor], run: Run, classes: Classes) -> None:
    """Write a file; an earlier one stays whole until the new one is complete.

    Args:
        path: Ends in `.safetensors`.
        weights: The model's state dict.
        run: Its configuration.
        classes: In the order of its class logits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, weights, write_origin(run, classes))


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that others may read, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as unfinished:
        with _system_errors():
            save_file(contiguous, unfinished, dict(metadata))
        unfinished.chmod(path.parent.stat().st_mode & 0o666)  # safetensors lets the owner only


@contextmanager
def _system_errors() -> Iterator[None]:
    """What the system said, such as of a full disk, which safetensors tells in words alone."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def write_origin(run: Run, classes: Classes) -> dict[str, str]:
    """As it stands in a safetensors file's metadata, and within the files of other dialects."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "run": run.model_dump_json(),
        "classes": json.dumps(asdict(classes)),
    }


def read_origin(beside: Mapping[str, Any]) -> Origin | None:
    """What `write_origin` wrote, or none if the file is not from us.

    Args:
        beside: Of a `TensorFile`; what we write into other dialects stands under our name, in the
            file or in its `config.json`.

    Raises:
        ValueError: It is from us, but not as this version writes it.
    """
    for holder in (beside, beside.get(FORMAT), _within(beside.get("config"))):
        if isinstance(holder, Mapping) and holder.get("format") == FORMAT:
            return _parse(holder)
    return None


def _within(config: Any) -> Any:
    return config.get(FORMAT) if isinstance(config, Mapping) else None


def _parse(metadata: Mapping[str, Any]) -> Origin:
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"version {metadata.get('version')} of our file format; this release reads "
            f"{VERSION}: install a newer one"
        )
    try:
        lists = json.loads(metadata["classes"])
        classes = Classes(
            names=tuple(map(str, lists["names"])),
            category_ids=tuple(map(int, lists["category_ids"])),
            is_thing=tuple(thing is True for thing in lists["is_thing"]),
        )
        return Origin(parse_run(json.loads(metadata["run"])), classes)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the metadata of this package are incomplete: {error!r}") from error


def recognises(names: Collection[str]) -> bool:
    """Whether these are our own names."""
    return _MARK in names
