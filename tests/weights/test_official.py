"""The authors' checkpoints, written here by names of our own making."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.weights import official
from mask2former.weights.checkpoint import Checkpoint
from mask2former.weights.open import read

SPECIFICATION = Path(__file__).parents[3] / "shared/spec"


def assert_equal_weights(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def floats(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the counts of batch norms' steps."""
    return {name: t for name, t in weights.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("table", "backbone"),
    [("coco_ins_r50", "resnet50"), ("coco_ins_swin_t", "swin_tiny")],
)
def test_every_entry_of_the_published_models_has_its_name_shape_and_type(table, backbone) -> None:
    path = SPECIFICATION / f"official_keys_{table}.tsv"
    if not path.is_file():
        pytest.skip("the tables of the specification are not beside this clone")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    expected = {row["key"]: (row["shape"], row["dtype"]) for row in rows}
    model = Mask2Former(make_backbone(backbone), 80)
    state = official.write(model.state_dict(), 0.1)
    found = {n: (str(list(t.shape)), str(t.dtype).split(".")[1]) for n, t in state.items()}
    assert found == expected
    # and in the other direction: zeros of these shapes fill the model, nothing is left over
    named = {name: torch.zeros(eval_shape(shape)) for name, (shape, _) in expected.items()}
    translation = official.read(named, {})
    assert translation.left_over == []
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in translation.weights.items()} == shapes


def eval_shape(text: str) -> list[int]:
    return [int(number) for number in text.strip("[]").split(",") if number]


def test_some_names_by_hand(resnet18: Checkpoint) -> None:
    # specification 6.1
    ours = resnet18.weights
    theirs = official.write(ours, 0.1)
    assert (
        theirs["backbone.res4.0.conv2.norm.running_var"]
        is ours["backbone.body.layer3.0.bn2.running_var"]
    )
    head = "sem_seg_head."
    assert torch.equal(
        theirs[head + "pixel_decoder.transformer.encoder.layers.1.norm2.bias"],
        ours["pixel_decoder.layers.1.feedforward.norm.bias"],
    )
    packed = theirs[head + "predictor.transformer_self_attention_layers.2.self_attn.in_proj_weight"]
    keys = ours["transformer_decoder.layers.2.self_attention.key.weight"]
    assert torch.equal(packed[64:128], keys)
    assert theirs["criterion.empty_weight"].tolist() == pytest.approx([1, 1, 1, 0.1])


def test_reading_what_was_written_gives_the_same_bits(checkpoint: Checkpoint) -> None:
    translation = official.read(official.write(checkpoint.weights, 0.1), {})
    assert translation.left_over == []
    assert_equal_weights(translation.weights, checkpoint.weights)


def test_early_names_give_the_same_model(resnet18: Checkpoint) -> None:
    early = {}
    for name, tensor in official.write(resnet18.weights, 0.1).items():
        old = name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.")
        early[old.replace("query_feat", "static_query")] = tensor
    assert any("static_query" in name for name in early)
    assert official.recognises(early)
    translation = official.read(early, {})
    assert translation.left_over == []
    assert_equal_weights(translation.weights, resnet18.weights)


@pytest.mark.parametrize("kind", ["pkl", "pth", "pth with metadata", "plain dict"])
def test_files_of_every_kind_load_to_the_same_model(
    kind: str, resnet18: Checkpoint, tmp_path: Path
) -> None:
    state = official.write(resnet18.weights, 0.1)
    path = tmp_path / "model"
    if kind == "pkl":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}))
    elif kind == "plain dict":
        torch.save(state, path)
    else:
        if kind == "pth with metadata":
            state["_metadata"] = {"sem_seg_head": {"version": 2}}  # a plain entry, as d2 keeps it
        optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}}
        torch.save({"model": state, "iteration": 9, "trainer": {"optimizer": optimizer}}, path)
    found = read(path)
    assert_equal_weights(found.weights, resnet18.weights)
    assert found.run.model == resnet18.run.model
    assert found.classes.names == ("0", "1", "2")


def test_synchronised_batch_norm_is_told_by_its_counters(tmp_path: Path) -> None:
    model = Mask2Former(make_backbone("resnet18", norm="sync"), 3)
    torch.save(official.write(model.state_dict(), 0.1), tmp_path / "w.pth")
    found = read(tmp_path / "w.pth")
    assert found.run.model.backbone.norm == "sync"
    assert_equal_weights(floats(found.weights), floats(dict(model.state_dict())))


def test_a_backbone_that_they_do_not_have_is_refused() -> None:
    weights = {"backbone.body.conv_stem.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"no place in the authors' model.*conv_stem"):
        official.write(weights, 0.1)


def test_half_precision_is_read_as_single(resnet18: Checkpoint, tmp_path: Path) -> None:
    from mask2former.weights.open import load

    state = official.write(resnet18.weights, 0.1)
    halves = {name: tensor.numpy().astype(np.float16) for name, tensor in state.items()}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": halves, "__author__": "someone"}))
    model = load(tmp_path / "w.pkl").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
