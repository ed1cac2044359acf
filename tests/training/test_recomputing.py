import copy

import pytest
import torch
from torch import Tensor

from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.training.freezing import freeze_stages
from mask2former.training.recomputing import recompute_activations, recomputed_blocks


def tiny_model(name: str, norm: str) -> Mask2Former:
    torch.manual_seed(0)
    return Mask2Former(
        make_backbone(name, norm=norm, drop_path=0.3),
        num_classes=4,
        num_queries=6,
        hidden_dim=64,
        num_heads=4,
        encoder_layers=2,
        encoder_feedforward_dim=16,
        decoder_layers=3,
        decoder_feedforward_dim=16,
    ).train()


def step(model: Mask2Former, images: Tensor) -> tuple[dict[str, Tensor | None], Tensor]:
    """Gradients by name, and a draw from the generator that comes after them."""
    torch.manual_seed(1)
    prediction = model(images)
    loss = prediction.class_logits.square().mean() + prediction.mask_logits().square().mean()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}, torch.rand(4)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("resnet18", "frozen"),
        ("resnet18", "batch"),
        ("swin_tiny", "frozen"),
        ("convnext_atto", "frozen"),
        ("tf_efficientnet_lite0", "batch"),
        ("regnety_002", "batch"),
        ("vit_tiny_patch16_224", "frozen"),
        # its blocks take positions by keyword
        ("vit_small_patch16_dinov3", "frozen"),
    ],
)
def test_gradients_and_statistics_are_those_without_it(name, norm) -> None:
    model = tiny_model(name, norm)
    other = copy.deepcopy(model)
    recompute_activations(other)
    images = torch.rand(2, 3, 64, 96)
    gradients, draw = step(model, images)
    recomputed, other_draw = step(other, images)
    assert gradients.keys() == recomputed.keys()
    for parameter, gradient in gradients.items():
        assert gradient is not None, parameter
        assert torch.equal(gradient, recomputed[parameter]), parameter
    assert torch.equal(draw, other_draw)
    for (name, buffer), again in zip(model.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(buffer, again), name


def test_less_is_kept_for_the_backward_pass() -> None:
    def kept_bytes(model: Mask2Former) -> int:
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            prediction = model(torch.rand(1, 3, 128, 128))
        del prediction
        return sum(storages.values())

    model = tiny_model("resnet18", "frozen")
    before = kept_bytes(model)
    recompute_activations(model)
    assert kept_bytes(model) < before / 2


def test_a_copy_computes_with_its_own_weights() -> None:
    model = tiny_model("resnet18", "frozen")
    recompute_activations(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    images = torch.rand(1, 3, 32, 32)
    assert not other(images).mask_features.any()
    assert model(images).mask_features.any()


def test_frozen_blocks_are_left_alone() -> None:
    model = tiny_model("resnet18", "frozen")
    count = len(recomputed_blocks(model))
    freeze_stages(model.backbone, 3)
    assert len(recomputed_blocks(model)) == count - 4


def test_evaluation_is_that_without_it() -> None:
    model = tiny_model("swin_tiny", "frozen").eval()
    images = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        expected = model(images)
        recompute_activations(model)
        found = model(images)
    assert all(map(torch.equal, expected, found))
