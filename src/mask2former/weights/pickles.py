"""Pickled checkpoints, opened without running anything that is in them.

A pickle names functions to call. Here it may name those that make tensors and plain containers;
NumPy's own are replaced by readers of their arguments. Any other name ends the reading before
anything is called.
"""

import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

# What `torch.save` wrote before torch 1.6 opens with this number, pickled.
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_NUMBERS = re.compile(r"[<>=|]?(b1|bool|[iu][1248]|[f][248])")
_TORCH_REFUSES = re.compile(r"GLOBAL\s+([\w.]+)")
# All that a damaged pickle can make an unpickler raise.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, TypeError, OSError,
    AttributeError, ImportError, MemoryError, OverflowError, struct.error, zipfile.BadZipFile,
    AssertionError,
)  # fmt: skip


class RefusedError(ValueError):
    """A pickle names something that is not data."""


class PickledType:
    """Of numbers: what a pickle calls `numpy.dtype` for."""

    def __init__(self, name: str, *_switches: Any) -> None:
        if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
            raise RefusedError(f"numpy.dtype({name!r})")
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        order = state[1] if state[1] in (">", "<") else "="
        self.name = order + self.name.lstrip("<>=|")

    def read(self, raw: bytes | bytearray | str) -> np.ndarray:
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        return np.frombuffer(data, np.dtype(self.name))


class PickledArray:
    """What a pickle calls `numpy.ndarray` for; `array` is read-only."""

    array: np.ndarray = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, is_fortran, raw = state
        self.fill(kind.read(raw), shape, "F" if is_fortran else "C")

    def fill(self, flat: np.ndarray, shape: tuple[int, ...], order: Literal["C", "F"]) -> None:
        native = flat.astype(flat.dtype.newbyteorder("="), copy=False)
        self.array = native.reshape(shape, order=order)


class PickledFunction:
    """A function that a pickle may call; unlike a plain one, it cannot be changed by it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a state for a function")


class Inert:
    """Stands for an object of a class that is not known here: it takes all and does nothing."""

    def __new__(cls, *_arguments: Any) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""


def start_array(*_arguments: Any) -> PickledArray:
    return PickledArray()


def array_of_buffer(
    raw: bytes | bytearray, kind: PickledType, shape: tuple[int, ...], order: Literal["C", "F"]
) -> PickledArray:
    array = PickledArray()
    array.fill(kind.read(raw), shape, order)
    return array


def read_scalar(kind: PickledType, raw: bytes | bytearray | str) -> Any:
    return kind.read(raw)[0].item()


def latin1_bytes(text: str, encoding: str) -> bytes:
    """The bytes that pickles of early protocols keep as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledType,
    "numpy.core.multiarray._reconstruct": PickledFunction(start_array),
    "numpy._core.multiarray._reconstruct": PickledFunction(start_array),
    "numpy.core.numeric._frombuffer": PickledFunction(array_of_buffer),
    "numpy._core.numeric._frombuffer": PickledFunction(array_of_buffer),
    "numpy.core.multiarray.scalar": PickledFunction(read_scalar),
    "numpy._core.multiarray.scalar": PickledFunction(read_scalar),
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": PickledFunction(latin1_bytes),
    # OpenMMLab keeps the curves of its training beside the weights, with the names of functions
    # that average them; none of these is looked up.
    "mmengine.logging.history_buffer.HistoryBuffer": Inert,
    "mmengine.logging.message_hub.MessageHub": Inert,
    "mmengine.config.config.ConfigDict": dict,
    "builtins.getattr": Inert,
}
"""Full name in a pickle to what is called for it, beside what torch itself allows."""


class RestrictedUnpickler(pickle.Unpickler):
    """Makes what `ALLOWED` names and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # as early protocols call it
        full_name = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full_name not in ALLOWED:
            raise RefusedError(full_name)
        return ALLOWED[full_name]


def read_pickle(path: Path) -> Any:
    """Open a pickle of NumPy arrays, or what `torch.save` wrote, whatever the file is called.

    Tensors of torch's zip files stay on the disk until they are used; NumPy's arrays are
    `PickledArray`s.

    Raises:
        ValueError: It is damaged, is no checkpoint, or names something that is not data.
    """
    with path.open("rb") as file:
        start = file.read(len(LEGACY_TORCH))
    try:
        if start.startswith(b"PK"):
            check_is_checkpoint(path)
            return _read_torch(path, mmap=True)
        if start == LEGACY_TORCH:
            return _read_torch(path, mmap=False)
        with path.open("rb") as file:
            return RestrictedUnpickler(file, encoding="latin1").load()
    except NotACheckpointError:
        raise
    except RefusedError as error:
        raise ValueError(
            f"{path} asks to call {error}, which is not data; nothing of it was run. Checkpoints "
            "hold tensors, NumPy arrays and plain containers: get the file from its authors, or "
            "have them save the state dict alone, best as .safetensors"
        ) from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        raise ValueError(
            f"{path} is damaged or incomplete ({reason or type(error).__name__}); copy or download "
            "it again"
        ) from error


class NotACheckpointError(ValueError):
    """A zip file of another kind."""


def check_is_checkpoint(path: Path) -> None:
    """Refuse other zip files than those that `torch.save` writes.

    Raises:
        NotACheckpointError: It is something else.
        zipfile.BadZipFile: It is no whole zip file.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in inner:
        raise NotACheckpointError(
            f"{path} is a TorchScript program, not a checkpoint; give the state dict that it was "
            "made of"
        )
    if "data.pkl" not in inner:
        raise NotACheckpointError(
            f"{path} is a zip file but no PyTorch checkpoint: it holds "
            f"{', '.join(names[:3]) or 'nothing'}; if a checkpoint is inside, unzip it first"
        )


def _read_torch(path: Path, mmap: bool) -> Any:
    allowed: list[Any] = [(function, name) for name, function in ALLOWED.items()]
    try:
        with torch.serialization.safe_globals(allowed):
            if mmap and path.suffix != ".safetensors":  # by which torch would take it for one
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = _TORCH_REFUSES.search(str(error))
        if found:
            raise RefusedError(found[1]) from error
        raise
