import pytest
import torch

from mask2former.model.backbone import make_backbone, pixel_statistics
from mask2former.model.frozen_norm import FrozenBatchNorm2d
from mask2former.model.swin import (
    cut_windows,
    join_windows,
    relative_position_index,
    shifted_neighbours,
)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", {4: 64, 8: 128, 16: 256, 32: 512}),
        ("convnext_atto", {4: 40, 8: 80, 16: 160, 32: 320}),
        # strides 2 to 32
        ("tf_efficientnet_lite0", {4: 24, 8: 40, 16: 112, 32: 320}),
        # channels last
        ("swinv2_cr_tiny_ns_224", {4: 96, 8: 192, 16: 384, 32: 768}),
        # one stride, patches of 16 and of 14
        ("vit_tiny_patch16_224", dict.fromkeys((4, 8, 16, 32), 256)),
        ("vit_small_patch14_dinov2", dict.fromkeys((4, 8, 16, 32), 256)),
    ],
)
def test_every_backbone_gives_four_strides(name: str, channels: dict[int, int]) -> None:
    torch.manual_seed(0)
    backbone = make_backbone(name).eval()
    assert backbone.channels == channels
    h, w = 224, 224 if "224" in name and "swinv2" in name else 160
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, h, w))
    assert {s: tuple(f.shape) for s, f in features.items()} == {
        s: (1, c, h // s, w // s) for s, c in channels.items()
    }


def test_frozen_norm_has_no_parameters_and_does_not_follow_the_batch() -> None:
    backbone = make_backbone("resnet18", norm="frozen").train()
    assert not [name for name, _ in backbone.named_parameters() if ".bn" in name]
    before = backbone.body.bn1.running_mean.clone()
    backbone(torch.randn(2, 3, 64, 32) + 5)
    assert torch.equal(backbone.body.bn1.running_mean, before)


@pytest.mark.parametrize("norm", ["sync", "batch"])
def test_other_norms_learn(norm) -> None:
    backbone = make_backbone("resnet18", norm=norm)
    assert [name for name, _ in backbone.named_parameters() if ".bn" in name]


def test_pixel_statistics_are_those_of_the_pretrained_weights() -> None:
    assert pixel_statistics("resnet50")[0] == (0.485, 0.456, 0.406)
    assert pixel_statistics("tf_efficientnet_lite0") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5o", "neither one of swin_tiny.* nor a timm model; did you mean resnet50"),
        ("swin_tiny_patch4_window7_224", "other features than the published.*use one of swin_tiny"),
    ],
)
def test_unknown_backbones_are_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_backbone(name)


def test_windows_are_cut_row_by_row_and_joined_again() -> None:
    tokens = torch.arange(2 * 4 * 6).view(2, 4, 6, 1).float()
    windows = cut_windows(tokens, 2)
    assert windows.shape == (2, 6, 4, 1)
    # The second window of the first image starts at column 2: 2, 3 and, a row of 6 later, 8, 9.
    assert windows[0, 1, :, 0].tolist() == [2, 3, 8, 9]
    assert torch.equal(join_windows(windows, 2, 4, 6), tokens)


def test_bias_index_counts_rows_of_the_table() -> None:
    index = relative_position_index(2)
    # Tokens (0,0) and (1,1): dy = dx = -1, so row 0; the same the other way: row 2 * 3 + 2.
    assert index[0, 3] == 0
    assert index[3, 0] == 8
    assert index.diagonal().tolist() == [4] * 4


def test_a_shifted_map_separates_what_the_roll_joined() -> None:
    separated = shifted_neighbours(4, 4, window=2, device=torch.device("cpu"))
    assert separated.shape == (4, 4, 4)
    assert not separated[0].any()
    # The last window holds four corners of the image, no two of them neighbours.
    assert torch.equal(separated[3], ~torch.eye(4, dtype=torch.bool))


def test_frozen_norm_equals_batch_norm_and_keeps_half_precision() -> None:
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(5).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        torch.nn.init.uniform_(tensor, 0.5, 2)
    frozen = FrozenBatchNorm2d(norm)
    features = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(frozen(features), norm(features))
    assert frozen(features.bfloat16()).dtype == torch.bfloat16
    assert frozen.state_dict().keys() == norm.state_dict().keys() - {"num_batches_tracked"}


def test_a_frozen_residual_branch_is_not_dead() -> None:
    torch.manual_seed(0)
    assert not make_backbone("resnet18", norm="batch").body.layer1[0].bn2.weight.any()
    assert make_backbone("resnet18", norm="frozen").body.layer1[0].bn2.weight.all()
