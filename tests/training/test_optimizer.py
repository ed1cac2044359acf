import copy

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from mask2former.config_training import Optimizer
from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.training.optimizer import allocate_state, make_optimizer, parameter_groups


def counts(name: str, norm: str = "frozen") -> dict[tuple[float, float], tuple[int, int]]:
    """(learning rate, weight decay) to (tensors, numbers)."""
    model = Mask2Former(make_backbone(name, norm=norm), 80)
    return {
        (group["lr"], group["weight_decay"]): (
            len(group["params"]),
            sum(p.numel() for p in group["params"]),
        )
        for group in parameter_groups(model, Optimizer())
    }


def test_resnet50_has_the_published_groups() -> None:
    groups = counts("resnet50")
    assert groups.keys() == {(1e-5, 0.05), (1e-4, 0.05), (1e-4, 0.0)}
    assert groups[1e-5, 0.05] == (53, 23_454_912)
    # The release packs query, key and value of each of 18 attentions into one weight and one
    # bias: 199 tensors there are 199 + 18 * 2 * 2 here.
    assert groups[1e-4, 0.05][0] == 199 + 72
    assert groups[1e-4, 0.0] == (93, 75_008)
    assert sum(numbers for _, numbers in groups.values()) == 43_970_257


@pytest.mark.parametrize(
    ("name", "norm", "tensors"),
    [
        # two for each of 53 norms
        ("resnet50", "sync", 106),
        # Norms: 1 after patches, 2 in each of 12 blocks, 3 mergers, 4 outputs, two tensors each;
        # and 12 bias tables.
        ("swin_tiny", "frozen", 76),
    ],
)
def test_norms_and_bias_tables_of_the_backbone_do_not_decay(name, norm, tensors) -> None:
    assert counts(name, norm)[1e-5, 0.0][0] == tensors


def test_level_embeddings_decay_where_they_are_no_embedding_module() -> None:
    model = Mask2Former(make_backbone("resnet18"), 3)
    groups = parameter_groups(model, Optimizer())
    decays = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert decays["pixel_decoder.level_embeddings"] == 0.05
    assert decays["transformer_decoder.level_embeddings.weight"] == 0
    assert decays["transformer_decoder.query_positions.weight"] == 0
    assert decays["transformer_decoder.classifier.bias"] == 0.05
    assert decays["pixel_decoder.lateral.1.bias"] == 0


def test_frozen_parameters_are_left_out() -> None:
    model = Mask2Former(make_backbone("resnet18"), 3)
    model.backbone.requires_grad_(False)
    optimizer = make_optimizer(model, Optimizer(learning_rate=3e-4))
    assert {group["lr"] for group in optimizer.param_groups} == {3e-4}
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["eps"] == 1e-8


def rates(name: str, optimizer: Optimizer) -> dict[str, float]:
    model = Mask2Former(make_backbone(name), 3)
    groups = parameter_groups(model, optimizer)
    return {parameter: group["lr"] for group in groups for parameter in group["names"]}


def test_rates_of_a_vit_fall_with_depth_as_in_beit() -> None:
    optimizer = Optimizer(
        learning_rate=1.0, backbone_learning_rate_factor=0.5, layer_decay=0.8, weight_decay=0.1
    )
    found = rates("vit_tiny_patch16_224", optimizer)
    blocks = "backbone.body.model.blocks"
    # 12 blocks; the stem is 13 steps away from what comes behind them
    assert found["backbone.body.model.pos_embed"] == pytest.approx(0.5 * 0.8**13)
    assert found["backbone.body.model.patch_embed.proj.weight"] == pytest.approx(0.5 * 0.8**13)
    assert found[f"{blocks}.0.norm1.weight"] == pytest.approx(0.5 * 0.8**12)
    assert found[f"{blocks}.11.mlp.fc2.bias"] == pytest.approx(0.5 * 0.8)
    assert found["backbone.pyramid.to_stride16.0.weight"] == 0.5
    assert found["pixel_decoder.level_embeddings"] == 1.0


def test_rates_of_a_vit_are_those_of_timm() -> None:
    name, decay = "vit_tiny_patch16_224", 0.7
    found = rates(name, Optimizer(learning_rate=1.0, layer_decay=decay))
    peer = timm.create_model(name)
    expected = {
        id(parameter): group["lr_scale"]
        for group in param_groups_layer_decay(peer, layer_decay=decay, weight_decay=0.05)
        for parameter in group["params"]
    }
    compared = 0
    for parameter, tensor in peer.named_parameters():
        ours = found.get(f"backbone.body.model.{parameter}")
        if ours is not None:
            assert ours == pytest.approx(0.1 * expected[id(tensor)]), parameter
            compared += 1
    assert compared == 12 * 12 + 4


@pytest.mark.parametrize(
    ("name", "parameter", "steps"),
    [
        ("swin_tiny", "patch_embed.proj.weight", 13),
        ("swin_tiny", "layers.1.downsample.norm.weight", 9),
        ("swin_tiny", "layers.3.blocks.1.attn.relative_position_bias_table", 1),
        ("swin_tiny", "norms.0.weight", 0),
        ("convnext_atto", "body.stages_1.downsample.1.weight", 10),
    ],
)
def test_rates_fall_through_stages_block_by_block(name, parameter, steps) -> None:
    found = rates(name, Optimizer(learning_rate=1.0, layer_decay=0.9))
    assert found[f"backbone.{parameter}"] == pytest.approx(0.1 * 0.9**steps)


def test_every_parameter_is_in_one_group() -> None:
    model = Mask2Former(make_backbone("vit_tiny_patch16_224"), 3)
    groups = parameter_groups(model, Optimizer(layer_decay=0.8))
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    # the stem, 12 blocks and the pyramid, decaying or not, and two groups of the rest
    assert len(groups) == 2 * 14 + 2


def test_rates_of_a_backbone_that_hides_its_blocks_cannot_fall() -> None:
    with pytest.raises(ValueError, match=r"its stages cannot be told apart.*layer_decay at 1"):
        rates("hrnet_w18_small", Optimizer(layer_decay=0.9))
    assert rates("hrnet_w18_small", Optimizer())


def test_a_state_that_is_made_early_changes_no_step() -> None:
    torch.manual_seed(0)
    start = nn.Linear(4, 3)
    models = [copy.deepcopy(start) for _ in range(2)]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1) for model in models]
    allocate_state(optimizers[1])
    assert all(state["exp_avg"].shape for state in optimizers[1].state.values())
    assert all(
        torch.equal(p, q) for p, q in zip(start.parameters(), models[1].parameters(), strict=True)
    )
    for seed in range(3):
        inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
            allocate_state(optimizer)
    plain, early = (model.state_dict() for model in models)
    assert all(torch.equal(plain[name], early[name]) for name in plain)
