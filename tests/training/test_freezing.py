import pytest
import torch

from mask2former.config_training import Optimizer
from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.training.freezing import freeze_stages
from mask2former.training.optimizer import parameter_groups


@pytest.mark.parametrize(
    ("name", "num_stages", "learning"),
    [
        ("resnet18", 0, "body.conv1 body.bn1 body.layer1 body.layer2 body.layer3 body.layer4"),
        ("resnet18", 1, "body.layer1 body.layer2 body.layer3 body.layer4"),
        ("resnet18", 3, "body.layer3 body.layer4"),
        ("resnet18", 5, ""),
        ("swin_tiny", 2, "layers.1 layers.2 layers.3 norms.0 norms.1 norms.2 norms.3"),
        ("swin_tiny", 5, "norms.0 norms.1 norms.2 norms.3"),
        ("convnext_atto", 4, "body.stages_3"),
        (
            "vit_tiny_patch16_224",
            5,
            "pyramid.to_stride4 pyramid.to_stride8 pyramid.to_stride16 pyramid.to_stride32",
        ),
    ],
)
def test_stages_are_frozen_from_the_input_on(name, num_stages, learning) -> None:
    backbone = make_backbone(name, norm="batch")
    freeze_stages(backbone, num_stages)
    names = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert {".".join(name.split(".")[:2]) for name in names} == set(learning.split())


def test_frozen_norms_keep_their_statistics_and_the_others_do_not() -> None:
    torch.manual_seed(0)
    backbone = make_backbone("resnet18", norm="batch")
    freeze_stages(backbone, 2)
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backbone.eval().train()(torch.randn(2, 3, 64, 32) + 3)
    changed = {n for n, b in backbone.named_buffers() if not torch.equal(b, before[n])}
    assert {name.split(".")[1] for name in changed} == {"layer2", "layer3", "layer4"}


def test_frozen_blocks_are_not_dropped() -> None:
    torch.manual_seed(0)
    backbone = make_backbone("swin_tiny", drop_path=0.9)
    freeze_stages(backbone, 5)
    images = torch.randn(1, 3, 64, 32)
    trained = backbone.train()(images)
    evaluated = backbone.eval()(images)
    assert all(torch.equal(trained[stride], evaluated[stride]) for stride in trained)
    assert backbone.training is False
    assert backbone.train().norms[0].training


def test_what_is_frozen_has_no_gradient_and_no_group() -> None:
    torch.manual_seed(0)
    model = Mask2Former(make_backbone("resnet18", norm="batch"), 3, hidden_dim=64).train()
    names = [*model.state_dict()]
    freeze_stages(model.backbone, 4)
    prediction = model(torch.rand(2, 3, 64, 32))
    (prediction.class_logits.square().mean() + prediction.mask_logits().square().mean()).backward()
    grouped = {n for group in parameter_groups(model, Optimizer()) for n in group["names"]}
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert grouped == with_gradient
    assert {n.split(".")[2] for n in grouped if n.startswith("backbone.")} == {"layer4"}
    assert [*model.state_dict()] == names
