"""Our own file: weights, configuration and classes in one `.safetensors`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mask2former.config import Run
from mask2former.files import replacing
from mask2former.model.mask2former import Mask2Former
from mask2former.types import Classes
from mask2former.weights.build import build_model

FORMAT = "mask2former"
VERSION = "1"
COUNTER = "num_batches_tracked"
FOREIGN = (".pkl", ".pth", ".pt", ".bin")


class Checkpoint(NamedTuple):
    """What a file holds."""

    weights: dict[str, Tensor]
    run: Run
    classes: Classes


class Loaded(NamedTuple):
    """A model ready for use, and what it was trained for."""

    model: Mask2Former
    classes: Classes
    run: Run


def save(path: Path, weights: Mapping[str, Tensor], run: Run, classes: Classes) -> None:
    """Write a file; an earlier one stays whole until the new one is complete.

    Args:
        path: Ends in `.safetensors`.
        weights: The model's state dict.
        run: Its configuration.
        classes: In the order of its class logits.
    """
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "run": run.model_dump_json(),
        "classes": json.dumps(asdict(classes)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with replacing(path) as unfinished:
        save_file(contiguous, unfinished, metadata)
        unfinished.chmod(path.parent.stat().st_mode & 0o666)  # safetensors lets the owner only


def read(weights: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a file of ours.

    Args:
        weights: A `.safetensors` file, or a run's folder, whose best weights are meant (the last
            ones when there are no best yet).
        device: Where to put the tensors.

    Raises:
        FileNotFoundError: There is nothing at that path.
        ValueError: It is not a file of ours.
    """
    path = find_file(Path(weights))
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if not is_native(metadata):
                raise ValueError(
                    f"{path} holds {len(file.keys())} tensors but no Mask2Former of this package: "
                    "its metadata name no configuration; give a run's folder or one of its weights"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    classes = json.loads(metadata["classes"])
    return Checkpoint(
        tensors,
        Run.model_validate_json(metadata["run"]),
        Classes(**{name: tuple(values) for name, values in classes.items()}),
    )


def load(weights: str | Path, device: str | torch.device = "cpu") -> Loaded:
    """Make the model of a file, in evaluation mode; see `read`.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    tensors, run, classes = read(weights, device)
    model = build_model(run.model, len(classes)).to(device)
    fill(model, tensors, str(weights))
    return Loaded(model.eval(), classes, run)


def fill(model: Mask2Former, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a model, all of them.

    Args:
        model: On the weights' device.
        tensors: A state dict.
        source: Where they come from, for the message.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    wanted = model.state_dict()
    # Batch norms that are not frozen count their steps; nothing depends on that.
    missing = sorted(n for n in wanted.keys() - tensors.keys() if not n.endswith(COUNTER))
    extra = sorted(n for n in tensors.keys() - wanted.keys() if not n.endswith(COUNTER))
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if missing or extra or reshaped:
        raise ValueError(
            f"{source} does not fit the model: {len(missing)} tensors are missing {missing[:3]}, "
            f"{len(extra)} are left over {extra[:3]}, {len(reshaped)} have another shape "
            f"{reshaped[:3]}; use the preset and backbone that the weights were trained with"
        )
    model.load_state_dict(tensors, strict=False)


def find_file(path: Path) -> Path:
    """The weights that a path means; see `read`."""
    if path.is_dir():
        for candidate in (path / "weights/best.safetensors", path / "weights/last.safetensors"):
            if candidate.is_file():
                return candidate
        raise FileNotFoundError(
            f"{path} holds neither weights/best.safetensors nor weights/last.safetensors; give the "
            "folder of a run that has been evaluated or has finished"
        )
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}; give a run's folder or a .safetensors file")
    if path.suffix in FOREIGN:
        raise ValueError(
            f"{path}: {path.suffix} checkpoints of other implementations cannot be opened yet; "
            "give a run's folder or a .safetensors file"
        )
    return path


def is_native(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file's metadata are ours."""
    return metadata.get("format") == FORMAT and "run" in metadata and "classes" in metadata
