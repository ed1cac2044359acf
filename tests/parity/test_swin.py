"""Our Swin against Hugging Face's, at sizes that no window divides."""

import pytest
import torch

from mask2former.model.backbone import make_backbone
from mask2former.weights import huggingface

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("swin_tiny", {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}),
        (
            "swin_base",
            {
                "embed_dim": 128,
                "depths": [2, 2, 18, 2],
                "num_heads": [4, 8, 16, 32],
                "window_size": 12,
            },
        ),
    ],
)
def test_every_stage_equals_theirs(name: str, config: dict) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    theirs = transformers.SwinBackbone(transformers.SwinConfig(out_features=stages, **config))
    theirs.eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    prefix = "model.pixel_level_module.encoder."
    named = {prefix + key: t for key, t in theirs.state_dict().items()}
    state = huggingface.read(named, {}).weights
    ours = make_backbone(name).eval()
    ours.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items()})
    for size in [(224, 224), (96, 160), (101, 67), (257, 131), (33, 1)]:
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected = theirs(images).feature_maps
            features = ours(images)
        assert list(features) == [4, 8, 16, 32]
        for feature, their_feature in zip(features.values(), expected, strict=True):
            assert feature.shape == their_feature.shape
            worst = (feature - their_feature).abs().max() / their_feature.abs().max()
            assert worst < 1e-5
