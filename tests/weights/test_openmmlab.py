"""OpenMMLab's checkpoints, written here by templates of their own."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.model.swin import PatchMerging
from mask2former.weights.build import build_model
from mask2former.weights.checkpoint import Checkpoint
from mask2former.weights.open import read as open_checkpoint
from mask2former.weights.openmmlab import NAMES, cells_of_unfolded, read, recognises

# Names and shapes of the models that mmdetection 2.28.2 and 3.3.0 build from their configurations
# of COCO panoptic; 2.28.2 and 3.3.0 differ in the names of 180 tensors.
REAL = Path(__file__).with_name("openmmlab_keys.tsv")
HEAD = "panoptic_head."
WINDOW = 7
# Names of a layer's parts in versions 2 and 3.
ENCODER_ATTENTION = {2: "attentions.0", 3: "self_attn"}
CROSS_ATTENTION = {2: "attentions.0", 3: "cross_attn"}
SELF_ATTENTION = {2: "attentions.1", 3: "self_attn"}
FEEDFORWARD = {2: "ffns.0", 3: "ffn"}


class Writer:
    """Copies tensors of ours under their names."""

    def __init__(self, ours: dict[str, Tensor]) -> None:
        self.ours = ours
        self.state: dict[str, Tensor] = {}

    def put(self, theirs: str, ours: str) -> None:
        """Copy one tensor, or all of one module."""
        found = [name for name in self.ours if name == ours or name.startswith(ours + ".")]
        assert found, ours
        for name in found:
            self.state[theirs + name.removeprefix(ours)] = self.ours[name]

    def count(self, ours: str) -> int:
        places = {n.removeprefix(ours).split(".")[0] for n in self.ours if n.startswith(ours)}
        return len(places)


def as_openmmlab(ours: dict[str, Tensor], version: int, head: str = HEAD) -> dict[str, Tensor]:
    backbone, parts = Writer(ours), Writer(ours)
    if "backbone.body.conv1.weight" in ours:
        write_resnet(backbone)
    else:
        write_swin(backbone)
    write_pixel_decoder(parts, version)
    write_transformer_decoder(parts, version)
    return backbone.state | {head + name: tensor for name, tensor in parts.state.items()}


def write_resnet(writer: Writer) -> None:
    writer.put("backbone", "backbone.body")
    for name in [name for name in writer.state if name.endswith("running_mean")]:
        counter = name.replace("running_mean", "num_batches_tracked")
        writer.state[counter] = torch.tensor(3)


def write_swin(writer: Writer) -> None:
    writer.put("backbone.patch_embed.projection", "backbone.patch_embed.proj")
    writer.put("backbone.patch_embed.norm", "backbone.patch_embed.norm")
    for stage in range(4):
        for block in range(writer.count(f"backbone.layers.{stage}.blocks.")):
            theirs = f"backbone.stages.{stage}.blocks.{block}"
            ours = f"backbone.layers.{stage}.blocks.{block}"
            for norm in ("norm1", "norm2"):
                writer.put(f"{theirs}.{norm}", f"{ours}.{norm}")
            for part in ("qkv", "proj", "relative_position_bias_table"):
                writer.put(f"{theirs}.attn.w_msa.{part}", f"{ours}.attn.{part}")
            index = torch.zeros(WINDOW**2, WINDOW**2, dtype=torch.int64)
            writer.state[f"{theirs}.attn.w_msa.relative_position_index"] = index
            writer.put(f"{theirs}.ffn.layers.0.0", f"{ours}.mlp.fc1")
            writer.put(f"{theirs}.ffn.layers.1", f"{ours}.mlp.fc2")
        writer.put(f"backbone.norm{stage}", f"backbone.norms.{stage}")
        if stage < 3:
            for leaf in ("norm.weight", "norm.bias", "reduction.weight"):
                parameter = writer.ours[f"backbone.layers.{stage}.downsample.{leaf}"]
                unfolded = parameter[..., our_places_in_an_unfolded_patch(parameter.shape[-1] // 4)]
                writer.state[f"backbone.stages.{stage}.downsample.{leaf}"] = unfolded


def our_places_in_an_unfolded_patch(channels: int) -> Tensor:
    """Where we keep each entry of a 2 x 2 patch that `nn.Unfold` has flattened."""
    patch = torch.empty(1, channels, 2, 2)
    # ours: all channels of (y, x) = (0, 0), then of (1, 0), (0, 1) and (1, 1)
    for cell, (y, x) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        patch[0, :, y, x] = torch.arange(channels) + cell * channels
    return F.unfold(patch, kernel_size=2, stride=2).flatten().long()


def write_pixel_decoder(writer: Writer, version: int) -> None:
    decoder = "pixel_decoder"
    for level in range(3):
        theirs, ours = f"{decoder}.input_convs.{level}", f"{decoder}.input_projections.{level}"
        writer.put(f"{theirs}.conv", f"{ours}.0")
        writer.put(f"{theirs}.gn", f"{ours}.1")
    writer.put(f"{decoder}.level_encoding.weight", f"{decoder}.level_embeddings")
    for layer in range(writer.count(f"{decoder}.layers.")):
        theirs, ours = f"{decoder}.encoder.layers.{layer}", f"{decoder}.layers.{layer}"
        attention = f"{theirs}.{ENCODER_ATTENTION[version]}"
        writer.put(f"{attention}.sampling_offsets", f"{ours}.attention.offsets")
        writer.put(f"{attention}.attention_weights", f"{ours}.attention.weights")
        writer.put(f"{attention}.value_proj", f"{ours}.attention.value")
        writer.put(f"{attention}.output_proj", f"{ours}.attention.output")
        writer.put(f"{theirs}.norms.0", f"{ours}.attention_norm")
        write_feed_forward(writer, f"{theirs}.{FEEDFORWARD[version]}", ours)
        writer.put(f"{theirs}.norms.1", f"{ours}.feedforward.norm")
    for theirs, ours in (("lateral_convs.0", "lateral"), ("output_convs.0", "fuse")):
        writer.put(f"{decoder}.{theirs}.conv", f"{decoder}.{ours}.0")
        writer.put(f"{decoder}.{theirs}.gn", f"{decoder}.{ours}.1")
    writer.put(f"{decoder}.mask_feature", f"{decoder}.mask_projection")


def write_transformer_decoder(writer: Writer, version: int) -> None:
    decoder = "transformer_decoder"
    writer.put("query_feat", f"{decoder}.query_features")
    writer.put("query_embed", f"{decoder}.query_positions")
    writer.put("level_embed", f"{decoder}.level_embeddings")
    writer.put("cls_embed", f"{decoder}.classifier")
    writer.put("mask_embed", f"{decoder}.mask_embedder")
    writer.put(f"{decoder}.post_norm", f"{decoder}.norm")
    for layer in range(writer.count(f"{decoder}.layers.")):
        place = f"{decoder}.layers.{layer}"
        write_attention(writer, f"{place}.{CROSS_ATTENTION[version]}", f"{place}.cross_attention")
        writer.put(f"{place}.norms.0", f"{place}.cross_attention_norm")
        write_attention(writer, f"{place}.{SELF_ATTENTION[version]}", f"{place}.self_attention")
        writer.put(f"{place}.norms.1", f"{place}.self_attention_norm")
        write_feed_forward(writer, f"{place}.{FEEDFORWARD[version]}", place)
        writer.put(f"{place}.norms.2", f"{place}.feedforward.norm")


def write_attention(writer: Writer, theirs: str, ours: str) -> None:
    for leaf in ("weight", "bias"):
        rows = [writer.ours[f"{ours}.{part}.{leaf}"] for part in ("query", "key", "value")]
        writer.state[f"{theirs}.attn.in_proj_{leaf}"] = torch.cat(rows)
    writer.put(f"{theirs}.attn.out_proj", f"{ours}.output")


def write_feed_forward(writer: Writer, theirs: str, ours: str) -> None:
    writer.put(f"{theirs}.layers.0.0", f"{ours}.feedforward.linear1")
    writer.put(f"{theirs}.layers.1", f"{ours}.feedforward.linear2")


def real_shapes(backbone: str, version: int) -> dict[str, tuple[int, ...]]:
    with REAL.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        row["name"]: () if row[backbone] == "scalar" else tuple(map(int, row[backbone].split("x")))
        for row in rows
        if row[backbone] != "-" and str(version) in row["versions"].split("+")
    }


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("backbone", "count"), [("resnet50", 610), ("swin_tiny", 481)])
def test_every_tensor_of_the_real_models_is_written_and_read(backbone, count, version) -> None:
    real = real_shapes(backbone, version)
    assert len(real) == count
    with torch.device("meta"):
        ours = Mask2Former(make_backbone(backbone), num_classes=133).state_dict()
    assert shapes(as_openmmlab(ours, version)) == real
    empty = {name: torch.empty(shape, device="meta") for name, shape in real.items()}
    translation = read(empty, {})
    assert translation.left_over == []
    assert shapes(translation.weights) == shapes(ours)


@pytest.mark.parametrize(
    ("version", "head"), [(2, HEAD), (3, HEAD), (3, "decode_head."), (3, "track_head.")]
)
def test_reading_gives_back_every_bit(checkpoint: Checkpoint, version: int, head: str) -> None:
    state = as_openmmlab(checkpoint.weights, version, head)
    assert recognises(state.keys())
    translation = read(state, {})
    assert translation.left_over == []
    assert translation.weights.keys() == checkpoint.weights.keys()
    for name, tensor in translation.weights.items():
        assert torch.equal(tensor, checkpoint.weights[name]), name
        assert tensor.is_contiguous(), name


def test_the_read_model_predicts_the_same(checkpoint: Checkpoint) -> None:
    translation = read(as_openmmlab(checkpoint.weights, version=2), {})
    num_classes = len(checkpoint.classes)
    torch.manual_seed(1)
    images = torch.rand(2, 3, 64, 96)
    predictions = []
    for weights in (checkpoint.weights, translation.weights):
        model = build_model(checkpoint.run.model, num_classes).eval()
        model.load_state_dict(weights)
        with torch.no_grad():
            predictions.append(model(images))
    expected, found = predictions
    assert torch.equal(found.class_logits, expected.class_logits)
    assert torch.equal(found.mask_logits(), expected.mask_logits())


def test_a_patch_merging_that_unfolds_becomes_ours() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 6, 4, 5)  # (b, h, w, c)
    weight, bias, reduction = torch.randn(20), torch.randn(20), torch.randn(10, 20)
    unfolded = F.unfold(tokens.permute(0, 3, 1, 2), kernel_size=2, stride=2).transpose(1, 2)
    expected = F.linear(F.layer_norm(unfolded, (20,), weight, bias), reduction)
    merging = PatchMerging(5)
    merging.load_state_dict(
        {
            "norm.weight": cells_of_unfolded(weight),
            "norm.bias": cells_of_unfolded(bias),
            "reduction.weight": cells_of_unfolded(reduction),
        }
    )
    # the sums of 20 terms run in another order
    torch.testing.assert_close(merging(tokens).flatten(1, 2), expected, rtol=1e-5, atol=1e-5)


def test_no_template_is_written_twice() -> None:
    assert len({ours for ours, _ in NAMES}) == len({theirs for _, theirs in NAMES}) == len(NAMES)


def head_only(num_classes: int, head: str = HEAD) -> dict[str, Tensor]:
    return {
        head + "query_feat.weight": torch.zeros(2, 8),
        head + "pixel_decoder.level_encoding.weight": torch.zeros(3, 8),
        head + "cls_embed.bias": torch.zeros(num_classes + 1),
    }


def configured(things: int, stuff: int) -> str:
    """Lines of a configuration; the number of things was changed in the model only."""
    model = f"panoptic_head=dict(num_stuff_classes={stuff},\n  num_things_classes={things})"
    return f"num_things_classes = 80\nnum_stuff_classes = {stuff}\nmodel = dict({model})"


THREE = ("cat", "dog", "sky")
PANOPTIC = {"classes": THREE, "thing_classes": ["cat", "dog"], "stuff_classes": ["sky"]}
# mmdetection keeps COCO's lists beside classes of one's own.
OWN_CLASSES = {"classes": THREE, "thing_classes": ("person",) * 80, "stuff_classes": ("sky",) * 53}


@pytest.mark.parametrize(
    ("meta", "is_thing", "task"),
    [
        ({"dataset_meta": {"classes": THREE}}, (True, True, True), "instance"),
        ({"dataset_meta": {"CLASSES": list(THREE)}}, (True, True, True), "instance"),
        ({"CLASSES": [" cat", "dog", "sky "]}, (True, True, True), "instance"),
        ({"dataset_meta": PANOPTIC}, (True, True, False), "panoptic"),
        # mmdetection 2 tells things from stuff in its configuration only.
        ({"CLASSES": THREE, "config": configured(1, 2)}, (True, False, False), "panoptic"),
        ({"CLASSES": THREE, "config": configured(3, 0)}, (True, True, True), "instance"),
        ({"dataset_meta": OWN_CLASSES, "cfg": configured(2, 1)}, (True, True, False), "panoptic"),
        ({"dataset_meta": OWN_CLASSES}, None, "panoptic"),
    ],
)
def test_classes_and_task_are_read(meta: dict, is_thing: tuple | None, task: str) -> None:
    translation = read(head_only(3), {"meta": meta})
    assert translation.class_names == THREE
    assert translation.is_thing == is_thing
    assert translation.task == task


def test_the_semantic_head_is_semantic_with_and_without_classes() -> None:
    state = head_only(3, "decode_head.")
    meta = {"dataset_meta": {"classes": THREE, "palette": [[1, 2, 3]], "reduce_zero_label": True}}
    assert read(state, {"meta": meta})[2:] == (THREE, None, "semantic")
    assert read(state, {})[2:] == (None, None, "semantic")


@pytest.mark.parametrize(
    "meta",
    [
        None,
        7,
        [],
        {3: 4, "dataset_meta": "x", "cfg": b"x"},
        {"CLASSES": ("cat", "dog", 3)},
        {"CLASSES": "cat"},
        {"CLASSES": ()},
        {"CLASSES": ("cat", "dog")},
        {"dataset_meta": {"classes": {"cat": 1, "dog": 2, "sky": 3}}},
        {"config": "num_things_classes=" + "9" * 5000 + ",\nnum_stuff_classes=1"},
    ],
)
def test_what_the_file_says_oddly_is_left_aside(meta: Any) -> None:
    assert read(head_only(3), {"meta": meta})[2:] == (None, None, None)


@pytest.mark.parametrize(
    "names",
    [
        # MaskFormer's head, and a Mask R-CNN, of mmdetection 3.3.0
        [
            "backbone.conv1.weight",
            "panoptic_head.pixel_decoder.lateral_convs.0.conv.weight",
            "panoptic_head.pixel_decoder.encoder_in_proj.weight",
            "panoptic_head.pixel_decoder.mask_feature.weight",
            "panoptic_head.transformer_decoder.layers.0.cross_attn.attn.in_proj_weight",
            "panoptic_head.transformer_decoder.post_norm.weight",
            "panoptic_head.query_embed.weight",
            "panoptic_head.cls_embed.weight",
            "panoptic_head.mask_embed.4.weight",
        ],
        [
            "backbone.conv1.weight",
            "neck.lateral_convs.0.conv.weight",
            "rpn_head.rpn_cls.weight",
            "roi_head.bbox_head.fc_cls.weight",
            "roi_head.mask_head.conv_logits.weight",
        ],
        ["backbone.conv1.weight", "decode_head.conv_seg.weight", "auxiliary_head.conv_seg.bias"],
        [*head_only(3), *head_only(3, "track_head.")],
        [],
    ],
)
def test_other_models_are_not_recognised(names: list[str]) -> None:
    assert not recognises(names)
    with pytest.raises(ValueError, match=f"{len(names)} tensors without the head of a single Mask"):
        read(dict.fromkeys(names, torch.zeros(1)), {})


def test_unknown_tensors_are_left_over_under_their_names_and_buffers_are_dropped() -> None:
    unknown = [
        "panoptic_head.decoder_input_projs.0.weight",
        "panoptic_head.transformer_decoder.layers.0.attentions.1.gamma",
        "backbone.stem.0.weight",
        "neck.convs.0.weight",
    ]
    ignorable = [
        "backbone.bn1.num_batches_tracked",
        "backbone.stages.0.blocks.0.attn.w_msa.relative_position_index",
        "panoptic_head.loss_cls.cum_samples",
        "ema_backbone_conv1_weight",
    ]
    state = head_only(3) | dict.fromkeys([*unknown, *ignorable], torch.zeros(1))
    assert read(state, {}).left_over == unknown
    assert len(read(state, {}).weights) == 3


def test_impossible_shapes_are_named() -> None:
    packed = "transformer_decoder.layers.0.cross_attn.attn.in_proj_weight"
    message = rf"{packed} has shape \(4, 2\); its dimension 0 must be a multiple of 3: the checkpo"
    with pytest.raises(ValueError, match=message):
        read(head_only(3) | {HEAD + packed: torch.zeros(4, 2)}, {})
    merged = "backbone.stages.0.downsample.norm.bias"
    for shape in ((6,), ()):
        with pytest.raises(ValueError, match=rf"{merged} has shape .* must be a multiple of 4"):
            read(head_only(3) | {merged: torch.zeros(shape)}, {})


def test_a_file_opens_with_its_classes(resnet50: Checkpoint, tmp_path: Path) -> None:
    state = as_openmmlab(resnet50.weights, version=3)
    content = {"meta": {"epoch": 2, "dataset_meta": PANOPTIC}, "state_dict": state}
    # published files are in the format of before torch 1.6
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    found = open_checkpoint(tmp_path / "w.pth")
    assert found.classes.names == THREE
    assert found.classes.is_thing == (True, True, False)
    assert found.run.model == resnet50.run.model
    assert all(torch.equal(t, resnet50.weights[name]) for name, t in found.weights.items())
