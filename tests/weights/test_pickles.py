"""Nothing in a pickle runs, whatever it asks for."""

import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mask2former.weights.pickles import (
    ALLOWED,
    Inert,
    PickledArray,
    read_pickle,
)

Saver = Callable[[Any, Path], None]


def plain(protocol: int) -> Saver:
    return lambda content, path: path.write_bytes(pickle.dumps(content, protocol)) and None


def legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


SAVERS = {"zip": torch.save, "legacy": legacy, **{str(n): plain(n) for n in range(6)}}


class Malicious:
    """Makes a folder when it is unpickled by a reader that trusts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("saver", SAVERS.values(), ids=SAVERS)
def test_arrays_and_plain_containers_are_read(saver: Saver, tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    big_endian = np.arange(4, dtype=">i8")
    content = OrderedDict(a=array, t=array.T, e=big_endian, n=np.float64(2.5), l=[1, "x", None])
    saver(content, tmp_path / "w")
    read = read_pickle(tmp_path / "w")
    assert read["l"] == [1, "x", None]
    assert read["n"] == 2.5
    for name, expected in (("a", array), ("t", array.T), ("e", big_endian)):
        assert isinstance(read[name], PickledArray)
        np.testing.assert_array_equal(read[name].array, expected)
        assert read[name].array.dtype.isnative


@pytest.mark.parametrize("saver", [torch.save, legacy])
def test_tensors_are_read(saver: Saver, tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "i": torch.arange(3), "h": torch.randn(2).half()}
    saver({"state_dict": tensors, "epoch": 3}, tmp_path / "w")
    read = read_pickle(tmp_path / "w")
    assert read["epoch"] == 3
    assert all(torch.equal(read["state_dict"][name], t) for name, t in tensors.items())


@pytest.mark.parametrize("saver", SAVERS.values(), ids=SAVERS)
def test_a_function_is_refused_by_name_and_not_called(saver: Saver, tmp_path: Path) -> None:
    saver({"a": Malicious(tmp_path / "broken_into")}, tmp_path / "w")
    with pytest.raises(ValueError, match=r"asks to call (posix|nt)\.mkdir, which is not data"):
        read_pickle(tmp_path / "w")
    assert not (tmp_path / "broken_into").exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        # an attribute of something allowed is not allowed by that
        (b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.", "collections.OrderedD"),
        (pickle.dumps(np.array([None, "x"])), r"numpy.dtype\('O8'\)"),
        (pickle.dumps(torch.nn.ReLU()), "torch.nn.modules.activation.ReLU"),
    ],
)
def test_other_ways_in_are_refused_too(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=f"asks to call {name}"):
        read_pickle(tmp_path / "w.pkl")


def test_forged_array_types_reach_no_memory(tmp_path: Path) -> None:
    # a dtype whose state claims other flags than its numbers have
    (tmp_path / "w.pkl").write_bytes(
        b"\x80\x02cnumpy\ndtype\n(U\x02f8I00\nI01\ntR(I3\nU\x01<NNNI-1\nI-1\nI63\ntb."
    )
    assert read_pickle(tmp_path / "w.pkl").name == "<f8"


@pytest.mark.parametrize("saver", SAVERS.values(), ids=SAVERS)
def test_every_truncation_is_one_sentence(saver: Saver, tmp_path: Path) -> None:
    saver({"a": np.arange(100.0), "b": [1, 2]}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for length in {2, 3, 20, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
        (tmp_path / "part").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"part is damaged or incomplete .* again$"):
            read_pickle(tmp_path / "part")


def test_zip_files_of_other_kinds_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    with pytest.raises(ValueError, match=r"a zip file but no PyTorch checkpoint: it holds a\.jpg"):
        read_pickle(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"x")
        archive.writestr("model/constants.pkl", b"x")
    with pytest.raises(ValueError, match="a TorchScript program, not a checkpoint"):
        read_pickle(tmp_path / "model.pt")


@pytest.mark.parametrize("saver", [torch.save, legacy, plain(2), plain(4)])
def test_what_openmmlab_keeps_beside_the_weights_is_passed_over(
    saver: Saver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # modules of the names that mmengine's files call
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.history = np.arange(3.0)
            self.methods = {"mean": Looked(HistoryBuffer)}

        def mean(self) -> float:
            raise AssertionError("nothing of a pickle runs")

    class Looked:
        def __init__(self, owner: type) -> None:
            self.owner = owner

        def __reduce__(self) -> tuple:
            return getattr, (self.owner, "mean")

    HistoryBuffer.__module__ = module.__name__
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = {"meta": {"epoch": 3}, "message_hub": {"loss": HistoryBuffer()}}
    saver(content, tmp_path / "w.pth")
    read = read_pickle(tmp_path / "w.pth")
    assert read["meta"] == {"epoch": 3}
    assert isinstance(read["message_hub"]["loss"], Inert)


@pytest.mark.parametrize(
    "state", [b"N}X\x0c\0\0\0__defaults__(X\x01\0\0\0atst", b"}X\x01\0\0\0aNs"]
)
def test_a_pickle_cannot_change_what_reads_it(state: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(b"\x80\x02c_codecs\nencode\n(" + state + b"b.")
    before = ALLOWED["_codecs.encode"]("a", "latin1")
    with pytest.raises(ValueError, match="is damaged or incomplete"):
        read_pickle(tmp_path / "w.pkl")
    assert ALLOWED["_codecs.encode"]("a", "latin1") == before == b"a"
