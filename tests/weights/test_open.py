"""What becomes of a checkpoint's meaning: classes, task, sizes; and of files that are none."""

import dataclasses
import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mask2former.data.class_tables import class_table
from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.presets import find_preset
from mask2former.weights import official
from mask2former.weights.build import build_empty
from mask2former.weights.checkpoint import Checkpoint, Opened, complete
from mask2former.weights.convert import convert
from mask2former.weights.dialect import Translation
from mask2former.weights.native import save
from mask2former.weights.open import load, read

MASK_RCNN = {"roi_heads.box_head.fc1.weight": 2, "proposal_generator.rpn_head.conv.weight": 2}
MASK_RCNN_MM = {"roi_head.bbox_head.fc_cls.weight": 2, "rpn_head.rpn_conv.weight": 2}
MASKFORMER = {
    "sem_seg_head.predictor.transformer.decoder.layers.0.norm1.weight": 1,
    "sem_seg_head.predictor.query_embed.weight": 2,
}
MASKFORMER_HF = {
    "model.pixel_level_module.encoder.model.embeddings.norm.weight": 1,
    "model.transformer_module.queries_embedder.weight": 2,
}
MASKFORMER_MM = {
    "panoptic_head.pixel_decoder.encoder.layers.0.norms.0.weight": 1,
    "panoptic_head.query_embed.weight": 2,
}
HF_WITHOUT_HEAD = {"transformer_module.queries_features.weight": 2}


@pytest.fixture(scope="module")
def published() -> Checkpoint:
    """Weights as large as those of the COCO panoptic ResNet-50, without memory."""
    run = find_preset("coco-panoptic-resnet50").run()
    shapes = build_empty(run.model, 133).state_dict()
    weights = {name: torch.zeros(1, dtype=t.dtype).expand(t.shape) for name, t in shapes.items()}
    return Checkpoint(weights, run, class_table("coco_panoptic"))


def opened(
    checkpoint: Checkpoint, source: str, preset: str | None = None, **said: object
) -> Opened:
    translation = Translation(checkpoint.weights, [], **said)
    return Opened(source, Path(source), "some dialect", translation, None, preset)


def test_a_known_file_has_its_presets_meaning(published: Checkpoint) -> None:
    found = complete(opened(published, "w.pkl", preset="coco-panoptic-resnet50"))
    assert found.classes == class_table("coco_panoptic")
    assert found.run.task == "panoptic"
    assert found.run.preset == "coco-panoptic-resnet50"
    assert found.run.data.test_size.short_side == 800
    assert found.run.model.backbone.name == "resnet50"


def test_a_name_that_the_tensors_belie_counts_nothing(published: Checkpoint, caplog) -> None:
    found = complete(opened(published, "w.pkl", preset="coco-instance-resnet50"))
    assert found.classes.names[:2] == ("0", "1")
    assert "does not say what its 133 classes are" in caplog.text
    assert "as large are: coco-panoptic-resnet50" in caplog.text


def test_a_preset_can_be_named_and_must_have_as_many_classes(published: Checkpoint) -> None:
    found = complete(opened(published, "w.pth"), preset="coco_panoptic_resnet50")
    assert found.classes.names[-1] == "rug-merged"
    with pytest.raises(ValueError, match=r"w.pth has 133 classes, preset ade20k-.* 150"):
        complete(opened(published, "w.pth"), preset="ade20k-panoptic-resnet50")


def test_class_names_of_a_benchmark_tell_things_and_preset(published: Checkpoint) -> None:
    names = class_table("coco_panoptic").names
    found = complete(opened(published, "someone/r50-panoptic", class_names=names))
    assert found.classes.is_thing == (True,) * 80 + (False,) * 53
    assert found.run.preset == "coco-panoptic-resnet50"


def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Somebody's own names for a few classes: 7 of COCO's 133."""
    return ("worker", "e-bike", *names[2:-5], *(f"mine {n}" for n in range(5)))


@pytest.mark.parametrize(
    ("said", "preset"),
    [
        # found by the names, with the published model and without one
        ({}, "coco-panoptic-resnet50"),
        ({"task": "semantic"}, "semantic"),
    ],
)
def test_a_few_renamed_classes_of_a_benchmark_keep_their_names(
    said: dict, preset: str, published: Checkpoint
) -> None:
    table = class_table("coco_panoptic")
    names = renamed(table.names)
    found = complete(opened(published, "w", class_names=names, **said))
    assert found.run.preset == preset
    assert found.classes == dataclasses.replace(table, names=names)


@pytest.mark.parametrize("kept", [100, 0])
@pytest.mark.parametrize("source", ["asked for", "file name"])
def test_a_known_preset_takes_no_names_from_a_file_that_has_some(
    source: str, kept: int, published: Checkpoint
) -> None:
    table, preset = class_table("coco_panoptic"), "coco-panoptic-resnet50"
    names = (*table.names[:kept], *(f"mine {n}" for n in range(kept, 133)))
    if source == "asked for":
        found = complete(opened(published, "w", class_names=names), preset)
    else:
        found = complete(opened(published, "w", preset, class_names=names))
    assert found.run.preset == preset
    assert found.classes == dataclasses.replace(table, names=names)


def test_names_of_another_number_of_classes_count_nothing(published: Checkpoint, caplog) -> None:
    table = class_table("coco_panoptic")
    said = {"class_names": class_table("coco_instance").names}
    found = complete(opened(published, "w", "coco-panoptic-resnet50", **said))
    assert found.classes == table
    found = complete(opened(published, "w", **said))
    assert found.classes.names[:2] == ("0", "1")
    assert "does not say what its 133 classes are" in caplog.text


def test_other_class_names_are_kept(resnet18: Checkpoint, caplog) -> None:
    caplog.set_level(logging.WARNING)
    said = {"class_names": ("a", "b", "c"), "is_thing": (True, False, True), "task": "semantic"}
    found = complete(opened(resnet18, "w", **said))
    assert found.classes.names == ("a", "b", "c")
    assert found.classes.is_thing == (True, False, True)
    assert (found.run.task, found.run.preset) == ("semantic", "semantic")
    assert found.run.model == resnet18.run.model
    assert not caplog.records


def test_what_nothing_says_is_warned_about(resnet18: Checkpoint, caplog) -> None:
    found = complete(opened(resnet18, "w.pth"))
    assert found.run.task == "panoptic"
    assert found.classes.names == ("0", "1", "2")
    assert "called 0 to 2" in caplog.text
    assert "taken for panoptic" in caplog.text


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (MASK_RCNN, "is a Mask R-CNN"),
        (MASK_RCNN_MM, "is a Mask R-CNN"),
        (MASKFORMER, r"is a MaskFormer \(v1\) by its authors"),
        (MASKFORMER_HF, r"is a MaskFormer \(v1\) as Hugging Face saves it"),
        (MASKFORMER_MM, r"is a MaskFormer \(v1\) of OpenMMLab"),
        (HF_WITHOUT_HEAD, "without its classifier; save Mask2FormerForUniversalSegmentation"),
        ({"generator.0.weight": 2}, r"of an unknown kind \(1 tensors, such as generator.0.weight"),
        (
            {"conv1.weight": 4, "layer1.0.conv1.weight": 4, "fc.weight": 2},
            "a backbone alone .* train with it: mask2former train --weights",
        ),
    ],
)
def test_models_of_other_kinds_are_told(shapes: dict, message: str, tmp_path: Path) -> None:
    save_file(
        {n: torch.zeros([1] * ndim) for n, ndim in shapes.items()}, tmp_path / "w.safetensors"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "w.safetensors")


def test_missing_left_over_and_reshaped_tensors_are_listed(
    resnet18: Checkpoint, tmp_path: Path
) -> None:
    state = official.write(resnet18.weights, 0.1)
    torch.save({**state, "sem_seg_head.predictor.extra": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"1 tensors have no place in a Mask2Former: sem_seg_head.p"
    ):
        load(tmp_path / "w.pth")
    del state["backbone.res3.1.conv2.weight"]
    state["sem_seg_head.pixel_decoder.layer_1.weight"] = torch.zeros(64, 64, 1, 1)
    torch.save(state, tmp_path / "w.pth")
    message = (
        r"1 tensors are missing \['backbone.body.layer2.1.conv2.weight'\], 0 are left over \[\], 1 "
        r"have another shape \['pixel_decoder.fuse.0.weight \(64, 64, 1, 1\) for \(64, 64, 3, 3\)"
    )
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "w.pth")
    del state["sem_seg_head.predictor.query_feat.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"query_features.weight is missing, without which"):
        load(tmp_path / "w.pth")


def test_a_swin_that_nobody_published_is_refused(tmp_path: Path) -> None:
    model = Mask2Former(make_backbone("swin_tiny"), 3)
    state = official.write(model.state_dict(), 0.1)
    kept = {n: t for n, t in state.items() if not n.startswith("backbone.layers.2.blocks.5")}
    torch.save(kept, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"a Swin of .*\(96, \(2, 2, 5, 2\), .* is none of the"):
        read(tmp_path / "w.pth")


def test_a_training_state_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    state = {"model.x": torch.zeros(1)}
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="the state of an unfinished training; give the run's"):
        read(tmp_path / "last.ckpt")


def test_loading_takes_no_second_copy(resnet18: Checkpoint, tmp_path: Path) -> None:
    save(tmp_path / "w.safetensors", *resnet18)
    tensors = read(tmp_path / "w.safetensors").weights
    from mask2former.weights.build import build_filled

    model = build_filled(resnet18.run.model, 3, tensors, "w")
    name = "transformer_decoder.norm.weight"
    assert model.get_parameter(name).data_ptr() == tensors[name].data_ptr()
    assert model.get_parameter(name).requires_grad
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    torch.testing.assert_close(model.pixel_mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_what_others_made_of_ours_is_theirs(
    resnet18: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # transformers keeps what it does not know in config.json, also when it trains other classes
    folder = convert(resnet18, tmp_path / "out", "huggingface")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "apple", "1": "pear", "2": "plum"}
    (folder / "config.json").write_text(json.dumps(config))
    assert read(folder).classes.names == ("apple", "pear", "plum")
    assert "its classes are others now" in caplog.text
    # the file alone says as much as its folder
    assert read(folder / "model.safetensors").classes.names == ("apple", "pear", "plum")
    config["num_attention_heads"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="num_attention_heads = 2, its tensors have 4"):
        read(folder)


def test_a_preset_of_another_backbone_or_for_our_own_file_is_refused(
    published: Checkpoint, resnet18: Checkpoint, tmp_path: Path
) -> None:
    message = r"has backbone resnet50, preset coco-panoptic-swin-large swin_large; name"
    with pytest.raises(ValueError, match=message):
        complete(opened(published, "w.pth"), preset="coco-panoptic-swin-large")
    save(tmp_path / "w.safetensors", *resnet18)
    with pytest.raises(ValueError, match=r"says itself what it is .*leave the preset tiny out"):
        read(tmp_path / "w.safetensors", preset="tiny")


def test_a_class_table_of_one_task_tells_the_task(published: Checkpoint) -> None:
    names = class_table("coco_panoptic").names
    assert complete(opened(published, "w", class_names=names)).run.task == "panoptic"
    assert complete(opened(published, "w", class_names=names)).run.preset == (
        "coco-panoptic-resnet50"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_leaves_as_single(dtype, resnet18: Checkpoint, tmp_path: Path) -> None:
    halves = {name: tensor.to(dtype) for name, tensor in resnet18.weights.items()}
    save(tmp_path / "w.safetensors", halves, resnet18.run, resnet18.classes)
    found = read(tmp_path / "w.safetensors")
    assert {tensor.dtype for tensor in found.weights.values()} == {torch.float32}
    back = read(convert(found, tmp_path / "w.pkl", "official"))
    assert all(torch.equal(back.weights[n], t.float()) for n, t in halves.items())


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("criterion.x", torch.zeros(1), "1 tensors have no place"),
        ("backbone.stem.conv1.weight", torch.zeros(1, dtype=torch.int64), "of type torch.int64"),
        ("backbone.stem.conv1.weight", torch.zeros(1, dtype=torch.cfloat), "of type torch.complex"),
        (
            "sem_seg_head.predictor.transformer_self_attention_layers.0.self_attn.in_proj_bias",
            torch.tensor(1.0),
            r"has shape \(\); its rows are those of three tensors",
        ),
        (
            "sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.sampling_offsets"
            ".weight",
            torch.zeros(8, 64),
            "8 rows of sampling offsets and 4 of the classifier are too few",
        ),
    ],
)
def test_tensors_that_no_model_has_are_named(
    name: str, tensor: torch.Tensor, message: str, resnet18: Checkpoint, tmp_path: Path
) -> None:
    state = official.write(resnet18.weights, 0.1)
    torch.save({**state, name: tensor}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "w.pth")
