import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from mask2former.config import Backbone
from mask2former.config_io import compose_run
from mask2former.model.backbone import make_backbone
from mask2former.presets import find_preset
from mask2former.types import Classes
from mask2former.weights import official
from mask2former.weights.build import build_model
from mask2former.weights.native import save
from mask2former.weights.pretrained import load_pretrained_backbone
from mask2former.weights.start import load_start, model_to_start_from
from mask2former.weights.tensor_file import read_tensor_file

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
    classifier = classifier_resnet18()
    save_file(classifier.state_dict(), tmp_path / "resnet18.safetensors")
    backbone = make_backbone("resnet18", norm=norm).eval()
    load_pretrained_backbone(
        backbone, "resnet18", read_tensor_file(tmp_path / "resnet18.safetensors")
    )
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
    load_pretrained_backbone(ours, "swin_tiny", read_tensor_file(tmp_path / "swin.safetensors"))
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
            make_backbone("resnet34"),
            "resnet34",
            read_tensor_file(tmp_path / "resnet18.safetensors"),
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
        ("swin_base", "swin_base_patch4_window12_384.ms_in1k"),
        ("swin_base_in21k", "swin_base_patch4_window12_384.ms_in22k"),
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
    small = RUN.model.model_copy(update={"decoder_feedforward_dim": 32})
    save(tmp_path / "w.safetensors", build_model(small, 2).state_dict(), RUN, classes("a", "b"))
    message = r"feedforward.linear1.bias \(32,\) for .*use the preset and backbone"
    with pytest.raises(ValueError, match=message):
        load_start(
            build_model(RUN.model, 2),
            classes("a", "b"),
            RUN.model.backbone,
            str(tmp_path / "w.safetensors"),
        )


@pytest.mark.parametrize("count", [5, 40])
def test_queries_that_both_have_are_kept(count: int, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    other = RUN.model.model_copy(update={"num_queries": count})
    trained, fresh = build_model(other, 2), build_model(RUN.model, 2)
    run = RUN.model_copy(update={"model": other})
    save(tmp_path / "w.safetensors", trained.state_dict(), run, classes("a", "b"))
    own = fresh.transformer_decoder.query_features.weight.detach().clone()
    load_start(fresh, classes("a", "b"), RUN.model.backbone, str(tmp_path / "w.safetensors"))
    common = min(count, RUN.model.num_queries)
    for name in ("query_features", "query_positions"):
        kept = getattr(fresh.transformer_decoder, name).weight[:common]
        assert torch.equal(kept, getattr(trained.transformer_decoder, name).weight[:common])
    assert torch.equal(fresh.transformer_decoder.query_features.weight[common:], own[common:])
    assert f"queries: {common} of 20 keep their weights" in caplog.text


def test_fine_tuning_from_80_classes_keeps_the_one_that_is_shared(tmp_path: Path, caplog) -> None:
    # the authors' COCO instance model; of the three classes here COCO knows dogs (its 17th)
    caplog.set_level("INFO")
    torch.manual_seed(0)
    coco = find_preset("coco-instance-resnet50").run()
    trained = build_model(coco.model, 80)
    path = tmp_path / "model_final_3c8ec9.pkl"
    state = official.write(trained.state_dict(), 0.1)
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "the authors"}))
    sizes = model_to_start_from(str(path))
    assert sizes is not None
    assert sizes.num_queries == 100
    assert sizes.backbone.name == "resnet50"
    fresh = build_model(sizes, 3)
    before = fresh.transformer_decoder.classifier.weight.detach().clone()
    load_start(fresh, classes("nut", "dog", "bolt"), sizes.backbone, str(path))
    rows, theirs = fresh.transformer_decoder.classifier, trained.transformer_decoder.classifier
    assert torch.equal(rows.weight[1], theirs.weight[16])
    assert torch.equal(rows.bias[1], theirs.bias[16])
    assert torch.equal(rows.weight[3], theirs.weight[80])
    assert torch.equal(rows.weight[[0, 2]], before[[0, 2]])
    assert torch.equal(fresh.pixel_decoder.fuse[0].weight, trained.pixel_decoder.fuse[0].weight)
    assert "1 of 3 classes keep their weights (dog), the others start at random (nut, bolt)" in (
        caplog.text
    )


def test_a_start_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    resnet18 = Backbone(name="resnet18", pretrained=False)
    sizes = RUN.model.model_copy(update={"backbone": resnet18})
    model = build_model(sizes, 3)
    torch.save(model.state_dict(), tmp_path / "nameless.pth")
    # what we wrote of two classes, beside tensors that somebody trained for three
    run = RUN.model_copy(update={"model": RUN.model.model_copy(update={"num_queries": 5})})
    save(tmp_path / "stale.safetensors", model.state_dict(), run, classes("a", "b"))
    for name, warning in (
        ("nameless.pth", "does not say what its 3 classes are"),
        ("stale.safetensors", "its classes are others now"),
    ):
        caplog.clear()
        path = str(tmp_path / name)
        found = model_to_start_from(path)
        assert not caplog.records
        assert found is not None
        assert found.num_queries == sizes.num_queries
        load_start(build_model(found, 2), classes("a", "b"), found.backbone, path)
        assert caplog.text.count(warning) == 1


def test_models_of_other_kinds_are_no_start(tmp_path: Path) -> None:
    save_file({"roi_heads.x.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=r"is a Mask R-CNN .*; give a Mask2Former .*, or, to train, a b"
    ):
        model_to_start_from(str(tmp_path / "w.safetensors"))


def classifier_resnet18() -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("resnet18").eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.weight)
    return model


def detectron2_name(name: str) -> str:
    """As the authors' converter of torchvision's ResNets renames them (specification 1.6)."""
    if not name.startswith("layer"):
        name = f"stem.{name}"
    for stage in (4, 3, 2, 1):
        name = name.replace(f"layer{stage}.", f"res{stage + 1}.")
    for conv in (1, 2, 3):
        name = name.replace(f"bn{conv}.", f"conv{conv}.norm.")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


@pytest.mark.parametrize("dialect", ["torchvision", "detectron2"])
def test_resnets_of_torchvision_and_detectron2_fill_the_backbone(dialect, tmp_path: Path) -> None:
    classifier = classifier_resnet18()
    state = classifier.state_dict()
    path = tmp_path / "weights"
    if dialect == "torchvision":
        torch.save(state, path)
    else:
        named = {detectron2_name(n): t.numpy() for n, t in state.items() if "tracked" not in n}
        content = {"model": named, "__author__": "torchvision", "matching_heuristics": True}
        path.write_bytes(pickle.dumps(content))
    backbone = make_backbone("resnet18").eval()
    load_pretrained_backbone(backbone, "resnet18", read_tensor_file(path))
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images)[32], classifier.forward_features(images))
    assert model_to_start_from(str(path)) is None


def test_the_release_of_swin_fills_ours(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = make_backbone("swin_tiny").eval()
    state = {n: t for n, t in source.state_dict().items() if not n.startswith("norms.")}
    # what the release has besides
    state |= {
        "norm.weight": torch.ones(768),
        "head.weight": torch.zeros(1000, 768),
        "layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49),
    }
    torch.save({"model": state}, tmp_path / "swin_tiny_patch4_window7_224.pth")
    ours = make_backbone("swin_tiny").eval()
    file = read_tensor_file(tmp_path / "swin_tiny_patch4_window7_224.pth")
    load_pretrained_backbone(ours, "swin_tiny", file)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)[32], source(images)[32])
    with pytest.raises(ValueError, match=r"backbone swin_base but a Swin: .* have another shape"):
        load_pretrained_backbone(make_backbone("swin_base"), "swin_base", file)


def test_the_resnet_of_caffe2_is_refused(tmp_path: Path) -> None:
    save_file({"res2_0_branch2a_w": torch.zeros(1)}, tmp_path / "w.safetensors")
    file = read_tensor_file(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"a ResNet of Caffe2 .*take torchvision's"):
        load_pretrained_backbone(make_backbone("resnet50"), "resnet50", file)


def test_an_incomplete_or_half_precision_start_is_no_crash(tmp_path: Path) -> None:
    old = classes("cat", "dog", "tree")
    trained = build_model(RUN.model, 3)
    halves = {n: t.half() if t.is_floating_point() else t for n, t in trained.state_dict().items()}
    save(tmp_path / "half.safetensors", halves, RUN, old)
    fresh = build_model(RUN.model, 2)
    load_start(
        fresh, classes("bird", "dog"), RUN.model.backbone, str(tmp_path / "half.safetensors")
    )
    kept = trained.transformer_decoder.classifier.weight[1].half().float()
    assert torch.equal(fresh.transformer_decoder.classifier.weight[1], kept)
    del halves["transformer_decoder.classifier.weight"]
    save(tmp_path / "part.safetensors", halves, RUN, old)
    with pytest.raises(ValueError, match=r"1 tensors are missing \['transformer_decoder.classif"):
        load_start(fresh, classes("a", "b"), RUN.model.backbone, str(tmp_path / "part.safetensors"))
