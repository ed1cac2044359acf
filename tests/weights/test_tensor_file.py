import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mask2former.weights.tensor_file import read_tensor_file

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.ones(4)}


def assert_holds_them(path: Path) -> dict:
    file = read_tensor_file(path)
    assert file.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(file.tensors[name], tensor) for name, tensor in TENSORS.items())
    return file.beside


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.pkl", {"key": "value"})
    assert assert_holds_them(tmp_path / "w.pkl") == {"key": "value"}
    torch.save(TENSORS, tmp_path / "w.safetensors")
    assert assert_holds_them(tmp_path / "w.safetensors") == {}


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", None])
def test_the_state_dict_is_found_in_what_surrounds_it(key, tmp_path: Path) -> None:
    content = {"iteration": 7, **(TENSORS if key is None else {key: TENSORS})}
    torch.save(content, tmp_path / "w.pth")
    assert assert_holds_them(tmp_path / "w.pth") == {"iteration": 7}


def test_numpy_arrays_become_tensors(tmp_path: Path) -> None:
    arrays = {name: tensor.numpy() for name, tensor in TENSORS.items()}
    arrays["a"] = np.asfortranarray(arrays["a"])
    content = {"model": arrays, "__author__": "third_party"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    assert assert_holds_them(tmp_path / "w.pkl") == {"__author__": "third_party"}


def test_the_prefix_of_wrappers_for_several_gpus_is_taken_off(tmp_path: Path) -> None:
    torch.save({f"module.{name}": t for name, t in TENSORS.items()}, tmp_path / "w.pth")
    assert_holds_them(tmp_path / "w.pth")


def test_a_folder_of_hugging_face_in_one_file_or_in_pieces(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"id2label": {"0": "cat"}}')
    assert assert_holds_them(tmp_path) == {"config": {"id2label": {"0": "cat"}}}
    (tmp_path / "model.safetensors").unlink()
    for number, name in enumerate(TENSORS):
        save_file({name: TENSORS[name]}, tmp_path / f"part-{number}.safetensors")
    index = {"weight_map": {name: f"part-{i}.safetensors" for i, name in enumerate(TENSORS)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_holds_them(tmp_path)
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"names part-1\.safetensors, which is not beside"):
        read_tensor_file(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; give a .safetensors, .pkl or .pth file"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"\x89PNG\r\n", "is damaged, or neither safetensors nor a pickle"),
        (b"\x40\0\0\0\0\0\0\0{garbage", "is damaged or no safetensors file"),
        (pickle.dumps([1, 2]), "holds a list, not a state dict"),
    ],
)
def test_what_is_no_file_of_tensors_is_told(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_tensor_file(tmp_path / "w.pth")


def test_folders_without_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is empty; give a run's folder"):
        read_tensor_file(tmp_path)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no weights: .* but photo\.jpg"):
        read_tensor_file(tmp_path)
