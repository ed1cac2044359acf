"""Any file of tensors: what kind it is, its state dict, and what lies beside that."""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mask2former.weights.pickles import PickledArray, read_pickle

INDEX = ".safetensors.index.json"
HF_CONFIG = "config.json"
# Where implementations keep the state dict in what they save.
_STATE_DICTS = ("model", "state_dict", "model_state_dict")
_OTHER_KINDS = (
    (b"<", "a web page: the download brought an error message or a login instead of the file"),
    (b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull` where it came from"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"{", "text, not tensors"),
)


class TensorFile(NamedTuple):
    """What a file holds, as it names it."""

    path: Path
    tensors: dict[str, Tensor]
    """The state dict; `module.`, which wrappers for several GPUs put first, is taken off."""
    beside: dict[str, Any]
    """A safetensors file's metadata, a pickle's other entries, a folder's `config.json` as
    "config". Anybody may have written it: check before use."""


def read_tensor_file(path: Path) -> TensorFile:
    """Open a file or a folder of Hugging Face's.

    Tensors stay on the disk until they are used, where the format allows it.

    Args:
        path: Exists. The content decides what it is, not the suffix.

    Raises:
        FileNotFoundError: The folder holds no weights.
        ValueError: It is damaged, or no file of tensors.
    """
    file = _weights_in(path) if path.is_dir() else path
    tensors, beside = _read_file(file)
    # Hugging Face's configuration lies beside the weights, whichever of the two is named.
    config = file.with_name(HF_CONFIG)
    if file.name.startswith(("model.", "pytorch_model.")) and config.is_file():
        beside = {**beside, "config": _read_json(config)}
    return TensorFile(path, tensors, beside)


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if path.name.endswith(INDEX):
        return _read_shards(path), {}
    with path.open("rb") as file:
        start = file.read(64)
    if _is_safetensors(start):
        return _read_safetensors(path)
    for magic, kind in _OTHER_KINDS:
        if start.lstrip().startswith(magic):
            raise ValueError(f"{path} is {kind}")
    if not start.startswith((b"PK", b"\x80", b"(", b"}", b"]", b"c")):  # pickles of any protocol
        kind = "damaged, or neither safetensors nor a pickle" if start else "empty"
        raise ValueError(f"{path} is {kind}; give a .safetensors, .pkl or .pth file")
    return _split(read_pickle(path), path)


def _is_safetensors(start: bytes) -> bool:
    """Eight bytes of length, then JSON."""
    return len(start) > 8 and start[8:9] == b"{" and start[5:8] == b"\0\0\0"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _without_wrapper(tensors), dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{index} is no index of safetensors files: {error}") from error
    tensors = {}
    for shard in shards:
        file = index.parent / Path(str(shard)).name
        if not file.is_file():
            raise FileNotFoundError(f"{index} names {shard}, which is not beside it")
        tensors.update(_read_safetensors(file)[0])
    return tensors


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def _weights_in(folder: Path) -> Path:
    """The whole state dict rather than its pieces, safetensors rather than a pickle."""
    for name in ("model.safetensors", "model" + INDEX, "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found[:5])
        raise ValueError(f"{folder} holds several files of weights: {names}; name one of them")
    if (folder / "pytorch_model.bin.index.json").is_file():
        raise ValueError(
            f"{folder} holds pickles in pieces, which are not read; save it again with "
            "transformers' save_pretrained"
        )
    raise FileNotFoundError(
        f"{folder} holds no weights: neither a run's weights/best.safetensors nor Hugging Face's "
        f"model.safetensors, but {', '.join(p.name for p in sorted(folder.iterdir())[:5])}"
        if any(folder.iterdir())
        else f"{folder} is empty; give a run's folder or one of Hugging Face's"
    )


def _split(content: Any, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict of an unpickled object, and the rest."""
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, not a state dict; save "
            "`model.state_dict()`, best as .safetensors"
        )
    beside: dict[str, Any] = {str(key): value for key, value in content.items()}
    for key in _STATE_DICTS:
        inner = beside.get(key)
        if isinstance(inner, Mapping) and any(True for _ in _tensors_of(inner)):
            del beside[key]
            return _without_wrapper(dict(_tensors_of(inner))), beside
    tensors = dict(_tensors_of(beside))
    rest = {key: value for key, value in beside.items() if key not in tensors}
    return _without_wrapper(tensors), rest


def _tensors_of(mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in mapping.items():
        if isinstance(value, Tensor):
            yield str(name), value.detach()
        elif isinstance(value, PickledArray):
            with warnings.catch_warnings():
                # The array lies on read-only bytes of the pickle, which nobody else has.
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                yield str(name), torch.from_numpy(value.array)


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "module."
    if tensors and all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
