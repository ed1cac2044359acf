from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from mask2former.config import Backbone
from mask2former.config_io import compose_run
from mask2former.model.backbone import make_backbone
from mask2former.types import Classes
from mask2former.weights.build import build_model
from mask2former.weights.native import save
from mask2former.weights.pretrained import load_pretrained_backbone
from mask2former.weights.start import load_start

RUN = compose_run(
    {"preset": "tiny", "model": {"decoder_layers": 1, "encoder_layers": 1}}, lambda: ("panoptic",)
)


def classes(*names: str) -> Classes:
    return Classes(names, tuple(range(len(names))), (True,) * len(names))


def test_classes_of_the_same_name_keep_their_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old, new = classes("cat", "dog", "tree"), classes("bird", "dog")
    trained, fresh = build_model(RUN.model, 3), build_model(RUN.model, 2)
    save(tmp_path / "w.safetensors", trained.state_dict(), RUN, old)
    before = fresh.transformer_decoder.classifier.weight.detach().clone()
    load_start(fresh, new, RUN.model.backbone, str(tmp_path / "w.safetensors"))
    rows = fresh.transformer_decoder.classifier.weight
    assert torch.equal(rows[0], before[0])
    assert torch.equal(rows[1], trained.transformer_decoder.classifier.weight[1])
    # "no object" is the last row of both
    assert torch.equal(rows[2], trained.transformer_decoder.classifier.weight[3])
    assert torch.equal(fresh.pixel_decoder.fuse[0].weight, trained.pixel_decoder.fuse[0].weight)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_backbone_takes_timms_classification_weights(tmp_path: Path, norm) -> None:
    torch.manual_seed(0)
    classifier = timm.create_model("resnet18").eval()
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.weight)
    save_file(classifier.state_dict(), tmp_path / "resnet18.safetensors")
    backbone = make_backbone("resnet18", norm=norm).eval()
    load_pretrained_backbone(backbone, "resnet18", tmp_path / "resnet18.safetensors")
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images)[32], classifier.forward_features(images))


def test_our_swin_takes_timms_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    name = "swin_tiny_patch4_window7_224"
    # At 224 px no padding is needed; timm then only forgets the shift of the last stage.
    theirs = timm.create_model(name, always_partition=True).eval()
    save_file(theirs.state_dict(), tmp_path / "swin.safetensors")
    ours = make_backbone("swin_tiny").eval()
    load_pretrained_backbone(ours, "swin_tiny", tmp_path / "swin.safetensors")
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        # the classifier's last norm starts as ours does
        expected = theirs.forward_features(images).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours(images)[32], expected, rtol=1e-4, atol=1e-4)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.safetensors")
    message = "resnet18.safetensors does not hold the weights of backbone resnet34 .*--backbone"
    with pytest.raises(ValueError, match=message):
        load_pretrained_backbone(
            make_backbone("resnet34"), "resnet34", tmp_path / "resnet18.safetensors"
        )


def test_no_network_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **keywords: object) -> None:
        raise FileNotFoundError("cannot reach the hub\nlong story")

    monkeypatch.setattr("timm.create_model", unreachable)
    message = (
        "no ImageNet weights for backbone resnet18: cannot reach the hub Connect to the network "
        "once, give a file with --weights FILE, or train from random weights with --weights none"
    )
    with pytest.raises(ValueError, match=message):
        load_pretrained_backbone(torch.nn.Module(), "resnet18")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("resnet50", "resnet50.tv_in1k"),
        ("swin_large", "swin_large_patch4_window12_384.ms_in22k"),
        ("convnext_atto", "convnext_atto"),
    ],
)
def test_the_weights_are_those_that_the_authors_start_from(name, asked, monkeypatch) -> None:
    names: list[str] = []

    def record(name: str, **keywords: object) -> None:
        names.append(name)
        raise OSError("enough")

    monkeypatch.setattr("timm.create_model", record)
    with pytest.raises(ValueError, match="enough"):
        load_pretrained_backbone(torch.nn.Module(), name)
    assert names == [asked]
    monkeypatch.undo()
    assert timm.is_model(asked)
    assert timm.get_pretrained_cfg(asked).tag == (
        asked.split(".")[1] if "." in asked else "d2_in1k"
    )


def test_without_weights_the_configuration_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "mask2former.weights.start.load_pretrained_backbone",
        lambda _backbone, name: asked.append(name),
    )
    model = build_model(RUN.model, 2)
    load_start(model, classes("a", "b"), Backbone(name="resnet18", pretrained=False), None)
    assert asked == []
    load_start(model, classes("a", "b"), Backbone(name="resnet18", pretrained=True), None)
    assert asked == ["resnet18"]


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    small = RUN.model.model_copy(update={"num_queries": 5})
    save(tmp_path / "w.safetensors", build_model(small, 2).state_dict(), RUN, classes("a", "b"))
    message = r"query_features.weight \(5, 64\) for .*use the preset and backbone"
    with pytest.raises(ValueError, match=message):
        load_start(
            build_model(RUN.model, 2),
            classes("a", "b"),
            RUN.model.backbone,
            str(tmp_path / "w.safetensors"),
        )
