import pytest
import torch

from mask2former.config import Optimizer
from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.training.optimizer import make_optimizer, parameter_groups


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
