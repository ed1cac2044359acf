import json
from pathlib import Path

import pytest
import torch

from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.types import Classes
from mask2former.weights.build import build_model
from mask2former.weights.native import save
from mask2former.weights.open import load, read

CLASSES = Classes(("cat", "tree", "cat"), (3, 9, 7), (True, False, True))


def tiny_run() -> Run:
    changes = {"preset": "tiny", "model": {"decoder_layers": 1, "encoder_layers": 1}}
    return compose_run(changes, lambda: ("panoptic",))


def save_model(path: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_model(tiny_run().model, len(CLASSES))
    save(path, model.state_dict(), tiny_run(), CLASSES)
    return model


def test_a_file_keeps_weights_classes_and_configuration(tmp_path: Path) -> None:
    model = save_model(tmp_path / "w.safetensors")
    loaded = load(tmp_path / "w.safetensors")
    assert loaded.classes == CLASSES
    assert loaded.run == tiny_run()
    assert not loaded.model.training
    expected = model.state_dict()
    assert loaded.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[name]) for name, t in loaded.model.state_dict().items())


def test_others_may_read_what_they_may_list(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    save_model(tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_run_folder_means_its_best_weights_or_else_the_last(tmp_path: Path) -> None:
    save_model(tmp_path / "weights/last.safetensors")
    assert read(tmp_path).classes == CLASSES
    other = Classes(("a", "b", "c"), (0, 1, 2), (True, True, True))
    model = build_model(tiny_run().model, 3)
    save(tmp_path / "weights/best.safetensors", model.state_dict(), tiny_run(), other)
    assert read(tmp_path).classes == other


def test_a_failed_save_leaves_the_earlier_file(tmp_path: Path, monkeypatch) -> None:
    save_model(tmp_path / "w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()

    def full_disk(tensors: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("mask2former.weights.native.save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_model(tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(FileNotFoundError, match="holds neither weights/best"):
        read(tmp_path)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    with pytest.raises(ValueError, match=r"damaged.safetensors is damaged"):
        read(damaged)
    save_model(tmp_path / "whole.safetensors")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"truncated.safetensors is damaged"):
        read(truncated)


def test_weights_that_do_not_fit_are_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = dict(save_model(path).state_dict())
    tensors["extra"] = torch.zeros(1)
    del tensors["transformer_decoder.norm.bias"]
    tensors["pixel_decoder.level_embeddings"] = torch.zeros(2, 5)
    save(path, tensors, tiny_run(), CLASSES)
    message = (
        r"1 tensors are missing \['transformer_decoder.norm.bias'\], 1 are left over \['extra'\], "
        r"1 have another shape \['pixel_decoder.level_embeddings \(2, 5\) for \(3, 64\)'\]"
    )
    with pytest.raises(ValueError, match=message):
        load(path)


def test_metadata_are_plain_json(tmp_path: Path) -> None:
    from safetensors import safe_open

    save_model(tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "mask2former"
    assert json.loads(metadata["classes"])["names"] == ["cat", "tree", "cat"]
    assert json.loads(metadata["run"])["preset"] == "tiny"


def test_files_of_later_formats_are_refused(tmp_path: Path) -> None:
    from mask2former.weights.native import read_origin, write_origin

    metadata = write_origin(tiny_run(), CLASSES)
    assert read_origin(metadata) == (tiny_run(), CLASSES)
    with pytest.raises(ValueError, match="version 2 of our file format; this release reads 1"):
        read_origin({**metadata, "version": "2"})
    with pytest.raises(ValueError, match="the metadata of this package are incomplete"):
        read_origin({"format": "mask2former", "version": "1"})
    assert read_origin({"format": "pt"}) is None
