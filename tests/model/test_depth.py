from collections import Counter

import pytest

from mask2former.model.backbone import make_backbone
from mask2former.model.depth import find_depth


@pytest.mark.parametrize(
    ("name", "blocks_per_stage", "first", "last"),
    [
        ("resnet18", [2, 2, 2, 2], "body.layer1.0", "body.layer4.1"),
        ("swin_tiny", [2, 2, 6, 2], "layers.0.blocks.0", "layers.3.blocks.1"),
        ("convnext_atto", [2, 2, 6, 2], "body.stages_0.blocks.0", "body.stages_3.blocks.1"),
        # stages 1 and 2 of the table have strides 2 and 4
        ("tf_efficientnet_lite0", [2, 2, 6, 5], "body.blocks.1.0", "body.blocks.6.0"),
        ("vit_tiny_patch16_224", [3, 3, 3, 3], "body.model.blocks.0", "body.model.blocks.11"),
        # RegNet's stages do not show their blocks
        ("regnety_002", [1, 1, 1, 1], "body.s1", "body.s4"),
        # channels last
        ("mambaout_femto", [3, 3, 9, 3], "body.body.stages_0.blocks.0", None),
        # blocks of one list, with strides between them
        ("hiera_tiny_224", [1, 2, 7, 2], "body.model.blocks.0", "body.model.blocks.11"),
        # what changes the resolution is a list of single layers, and counts as a block
        ("densenet121", [1, 2, 2, 3], "body.features_denseblock1", "body.features_norm5"),
    ],
)
def test_blocks_are_found_in_order(name, blocks_per_stage, first, last) -> None:
    backbone = make_backbone(name)
    depth = find_depth(backbone)
    places = [depth.place_of(path) for path in depth.blocks]
    assert [place.block for place in places] == [*range(1, len(places) + 1)]
    assert Counter(place.stage for place in places) == Counter(
        dict(enumerate(blocks_per_stage, start=1))
    )
    assert depth.blocks[0] == first
    assert last in (None, depth.blocks[-1])
    modules = dict(backbone.named_modules())
    assert all(path in modules for path in depth.blocks)


@pytest.mark.parametrize(
    ("name", "parameter", "place"),
    [
        ("resnet18", "body.conv1.weight", (0, 0)),
        ("resnet18", "body.layer2.0.downsample.0.weight", (2, 3)),
        ("swin_tiny", "patch_embed.norm.bias", (0, 0)),
        # goes with the block before it
        ("swin_tiny", "layers.0.downsample.reduction.weight", (1, 2)),
        ("swin_tiny", "norms.0.weight", (5, 13)),
        # goes with the block after it
        ("convnext_atto", "body.stages_1.downsample.1.weight", (2, 3)),
        ("tf_efficientnet_lite0", "body.blocks.0.0.conv_pw.weight", (0, 0)),
        ("vit_tiny_patch16_224", "body.model.cls_token", (0, 0)),
        ("vit_tiny_patch16_224", "body.model.pos_embed", (0, 0)),
        ("vit_tiny_patch16_224", "body.model.blocks.3.norm1.weight", (2, 4)),
        ("vit_tiny_patch16_224", "pyramid.to_stride4.0.weight", (5, 13)),
    ],
)
def test_parameters_have_the_place_of_their_module(name, parameter, place) -> None:
    backbone = make_backbone(name, norm="batch")
    if not name.startswith("tf_"):
        assert parameter in dict(backbone.named_parameters())
    assert find_depth(backbone).place_of(parameter) == place


def test_a_backbone_that_hides_its_stages_is_explained() -> None:
    with pytest.raises(ValueError, match=r"no module 'stage1', where timm says.*freeze at 0"):
        find_depth(make_backbone("hrnet_w18_small"))
