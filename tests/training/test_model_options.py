import copy
import logging

import pytest
import timm.layers
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mask2former.config import Run
from mask2former.config_io import compose_run
from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.training.model_options import (
    apply_model_options,
    compile_parts,
    synchronize_norms,
    use_channels_last,
)
from mask2former.training.recomputing import recompute_activations


def tiny_model(norm: str = "frozen", name: str = "resnet10t") -> Mask2Former:
    torch.manual_seed(0)
    return Mask2Former(
        make_backbone(name, norm=norm),
        num_classes=4,
        num_queries=6,
        hidden_dim=64,
        num_heads=4,
        encoder_layers=1,
        encoder_feedforward_dim=16,
        decoder_layers=2,
        decoder_feedforward_dim=16,
    ).train()


def run_with(*, norm: str = "batch", freeze: int = 0, **training: bool) -> Run:
    backbone = {"norm": norm, "freeze": freeze}
    changes = {"preset": "tiny", "model": {"backbone": backbone}, "training": training}
    return compose_run(changes, lambda: ("panoptic",))


def gradients(model: Mask2Former, images: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    prediction = model(images)
    (prediction.class_logits.square().mean() + prediction.mask_logits().square().mean()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_same_gradients(model: Mask2Former, other: Mask2Former, images: torch.Tensor) -> None:
    expected, found = gradients(model, images), gradients(other, images)
    # Rounding of the largest reaches the smallest: keys' biases have none but rounding.
    assert (expected - found).abs().max() < 1e-5 * expected.abs().max()


def test_norms_of_several_processes_on_accelerators_are_synchronized() -> None:
    model = tiny_model("sync", "tf_efficientnet_lite0")
    names, activation = [*model.state_dict()], type(model.backbone.body.bn1.act)
    synchronize_norms(model, "cuda", 2)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert [*model.state_dict()] == names
    # timm's norms bring their activations along
    assert type(model.backbone.body.bn1) is timm.layers.SyncBatchNormAct
    assert type(model.backbone.body.bn1.act) is activation


def test_synchronized_norms_evaluate_as_before() -> None:
    model = tiny_model("sync").eval()
    other = copy.deepcopy(model)
    synchronize_norms(other, "cuda", 2)
    images = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        assert all(map(torch.equal, model(images), other(images)))


@pytest.mark.parametrize(
    ("norm", "device_type", "world_size", "is_warned"),
    [("sync", "cuda", 1, False), ("sync", "cpu", 2, True), ("frozen", "cpu", 2, False)],
)
def test_other_norms_stay(norm, device_type, world_size, is_warned, caplog) -> None:
    model = tiny_model(norm)
    with caplog.at_level(logging.WARNING):
        synchronize_norms(model, device_type, world_size)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    assert ("each of the 2 processes takes the statistics of its own" in caplog.text) == is_warned


@pytest.mark.parametrize("name", ["resnet10t", "swin_tiny", "convnext_atto"])
def test_channels_last_changes_nothing_but_rounding(name: str) -> None:
    model = tiny_model(name=name)
    other = copy.deepcopy(model)
    use_channels_last(other)
    assert [*other.state_dict()] == [*model.state_dict()]
    assert_same_gradients(model, other, torch.rand(2, 3, 64, 96))


def test_options_are_applied_together() -> None:
    model = tiny_model("sync")
    names = [*model.state_dict()]
    other = copy.deepcopy(model)
    options = {"channels_last": True, "checkpoint_activations": True}
    apply_model_options(other, run_with(norm="sync", freeze=2, **options), "cuda", 2)
    assert [*other.state_dict()] == names
    assert not other.backbone.body.layer1[0].conv1.weight.requires_grad
    assert not other.backbone.body.layer1[0].bn1.training
    assert isinstance(other.backbone.body.layer2[0].bn1, nn.SyncBatchNorm)
    assert other.backbone.body.layer2[0].bn1.training
    weight = other.backbone.body.layer2[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 64, 32)
    prediction = other(images)  # one process: SyncBatchNorm is batch norm
    prediction.mask_logits().mean().backward()
    assert other.backbone.train().body.layer1[0].bn1.training is False


def test_data_parallel_training_has_no_parameter_without_gradient() -> None:
    model = tiny_model("batch")
    run = run_with(freeze=3, checkpoint_activations=True)
    apply_model_options(model, run, "cpu", 1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(model)
        for _ in range(2):  # the second pass raises where the first left a parameter out
            prediction = parallel(torch.rand(2, 3, 64, 32))
            loss = prediction.class_logits.square().mean() + prediction.mask_logits().mean()
            loss.backward()
    finally:
        dist.destroy_process_group()


def test_without_options_a_model_stays_as_it_is() -> None:
    model = tiny_model("batch")
    other = copy.deepcopy(model)
    apply_model_options(other, run_with(), "cuda", 8)
    images = torch.rand(2, 3, 64, 32)
    assert torch.equal(gradients(model, images), gradients(other, images))
    assert all(p.requires_grad for p in other.parameters())


def test_norms_that_learn_are_not_compiled_where_they_are_recomputed() -> None:
    run = run_with(compile=True, checkpoint_activations=True)
    with pytest.raises(ValueError, match=r"a batch norm that learns do not go together.*=frozen"):
        apply_model_options(tiny_model("batch"), run, "cpu", 1)


# The compiler looks at `.grad` of the features that one part hands to the next.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.compile
@pytest.mark.timeout(400)
@pytest.mark.parametrize("recomputes", [False, True])
def test_the_compiled_model_trains_as_the_eager_one(recomputes: bool) -> None:
    model = tiny_model()
    other = copy.deepcopy(model)
    if recomputes:
        recompute_activations(other)
    compile_parts(other, backend="aot_eager")
    assert [*other.state_dict()] == [*model.state_dict()]
    sizes = [(2, 3, 64, 96), (1, 3, 96, 64)]
    for size in sizes[: 1 if recomputes else 2]:
        assert_same_gradients(model, other, torch.rand(size))
