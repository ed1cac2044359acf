"""Gives a model to other implementations."""

import json
import pickle
from pathlib import Path
from typing import Literal, TypeAlias

from mask2former.files import replacing
from mask2former.weights import huggingface, native, official
from mask2former.weights.build import check_fits
from mask2former.weights.checkpoint import Checkpoint
from mask2former.weights.huggingface_config import image_processor_config, model_config
from mask2former.weights.native import FORMAT, save_tensors, write_origin

Target: TypeAlias = Literal["mask2former", "huggingface", "official"]
SUFFIXES: dict[Target, str] = {"mask2former": ".safetensors", "official": ".pkl", "huggingface": ""}
_AUTHOR = "mask2former"


def convert(checkpoint: Checkpoint, output: Path, target: Target) -> Path:
    """Write a checkpoint in another dialect.

    Configuration and classes travel along where they harm nobody, so that nothing is lost on the
    way back.

    Args:
        checkpoint: As `open.read` gives it.
        output: A new file, or a new folder for Hugging Face's.
        target: The dialect.

    Returns:
        What was written.

    Raises:
        ValueError: The target cannot hold this model, or `output` does not suit it.
    """
    _check_output(output, target)
    weights, run, classes = checkpoint
    # A file may hold less or more than its configuration says; nobody else would tell.
    check_fits(run.model, len(classes), weights, "the checkpoint")
    if target == "mask2former":
        native.save(output, weights, run, classes)
    elif target == "official":
        _write_official(checkpoint, output)
    else:
        _write_huggingface(checkpoint, output)
    return output


def _check_output(output: Path, target: Target) -> None:
    if output.exists():
        raise ValueError(f"{output} exists already; name another place")
    if output.suffix != SUFFIXES[target]:
        wanted = f"a file that ends in {SUFFIXES[target]}" if SUFFIXES[target] else "a folder"
        raise ValueError(f"{output}: for {target} name {wanted}")
    output.parent.mkdir(parents=True, exist_ok=True)


def _write_huggingface(checkpoint: Checkpoint, folder: Path) -> None:
    weights, run, classes = checkpoint
    config = {**model_config(run, classes), FORMAT: write_origin(run, classes)}
    processor = image_processor_config(run, classes)
    state = huggingface.write(weights, run.loss.no_object_weight)
    folder.mkdir()
    save_tensors(folder / "model.safetensors", state, {"format": "pt"})
    for name, content in (("config.json", config), ("preprocessor_config.json", processor)):
        with replacing(folder / name) as unfinished:
            unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_official(checkpoint: Checkpoint, path: Path) -> None:
    weights, run, classes = checkpoint
    state = official.write(weights, run.loss.no_object_weight)
    content = {
        # detectron2 takes a pickle with an author for one of its own model zoo.
        "model": {name: tensor.detach().cpu().numpy() for name, tensor in state.items()},
        "__author__": _AUTHOR,
        FORMAT: write_origin(run, classes),
    }
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        pickle.dump(content, file, protocol=4)
