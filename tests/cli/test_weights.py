"""`mask2former weights`, on real files."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mask2former.cli.main import BAD_INPUT, OK, main
from mask2former.config_io import compose_run
from mask2former.inference.segmenter import Segmenter
from mask2former.types import Classes
from mask2former.weights import official
from mask2former.weights.build import build_model
from mask2former.weights.native import save
from mask2former.weights.open import read

CLASSES = Classes(("cat", "tree"), (3, 9), (True, False))


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with a ResNet-18 would leave."""
    changes = {"preset": "tiny", "model": {"backbone": {"name": "resnet18", "pretrained": False}}}
    run = compose_run(changes, lambda: ("panoptic",))
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save(path, build_model(run.model, 2).state_dict(), run, CLASSES)
    return path


def test_weights_leave_come_back_and_predict_the_same(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [
        (run_file, tmp_path / "hub", "huggingface"),
        (tmp_path / "hub", tmp_path / "official.pkl", "official"),
        (tmp_path / "official.pkl", tmp_path / "back.safetensors", "mask2former"),
    ]
    for source, target, form in steps:
        assert main(["weights", "convert", str(source), str(target), "--to", form]) == OK
        shown = capsys.readouterr().out
        assert shown.endswith(f"next: mask2former weights inspect {target}\n")
    start, end = read(run_file), read(tmp_path / "back.safetensors")
    assert (end.run, end.classes) == (start.run, start.classes)
    assert all(torch.equal(end.weights[name], tensor) for name, tensor in start.weights.items())
    pixels = torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8).numpy()
    first, last = (
        Segmenter.load(path, device="cpu").predict(pixels).segments
        for path in (run_file, tmp_path / "hub")
    )
    assert first == last


def test_inspect_says_what_is_in_a_file(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "inspect", str(run_file), "--json"]) == OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["dialect"] == "mask2former"
    assert answer["backbone"] == "resnet18"
    assert answer["queries"] == 20
    assert answer["classes"]["names"] == ["cat", "tree"]
    assert answer["loads"] is True
    assert answer["missing"] == answer["left_over"] == answer["reshaped"] == []
    assert main(["weights", "inspect", str(run_file)]) == OK
    assert "classes     2: cat, tree" in capsys.readouterr().out


def test_inspect_lists_what_keeps_a_file_from_loading(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = official.write(read(run_file).weights, 0.1)
    del state["sem_seg_head.predictor.decoder_norm.bias"]
    state["sem_seg_head.predictor.more"] = torch.zeros(1)
    torch.save({"model": state}, tmp_path / "w.pth")
    assert main(["weights", "inspect", str(tmp_path / "w.pth")]) == OK
    shown = capsys.readouterr().out
    assert "1 tensors missing: transformer_decoder.norm.bias" in shown
    assert "1 tensors left over: sem_seg_head.predictor.more" in shown
    assert "does not load" in shown
    output = str(tmp_path / "out.safetensors")
    assert main(["weights", "convert", str(tmp_path / "w.pth"), output]) == BAD_INPUT
    assert not Path(output).exists()


def test_inspect_knows_a_backbone_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "r.safetensors")
    assert main(["weights", "inspect", str(tmp_path / "r.safetensors")]) == OK
    assert "a ResNet as torchvision and timm name it alone, 1 tensors" in capsys.readouterr().out


class Malicious:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("words", [["weights", "inspect"], ["predict", "photo.jpg", "--weights"]])
def test_a_pickle_that_runs_something_is_bad_input(
    words: list[str], tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    from PIL import Image

    Image.new("RGB", (4, 4)).save("photo.jpg")
    path = tmp_path / "model_final_94dc52.pkl"
    path.write_bytes(pickle.dumps({"model": Malicious(tmp_path / "broken_into")}))
    more = ["--output", "out"] if words[0] == "predict" else []
    assert main([*words, str(path), *more]) == BAD_INPUT
    error = capsys.readouterr().err
    assert "asks to call posix.mkdir, which is not data; nothing of it was run" in error
    assert not (tmp_path / "broken_into").exists()


def test_wrong_formats_are_named(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["weights", "convert", str(run_file), "out", "--to", "hugging-face"]
    assert main(words) == BAD_INPUT
    assert "no format hugging-face; did you mean huggingface?" in capsys.readouterr().err
