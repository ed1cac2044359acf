"""Hugging Face's Mask2Former with random weights, and ours with the same ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import Mask2Former
from mask2former.weights import huggingface

NUM_CLASSES = 17


@pytest.fixture(scope="session", params=["swin_tiny", "resnet50"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """(theirs, ours) in evaluation mode, with equal weights."""
    transformers = pytest.importorskip("transformers")
    stages = ["stage1", "stage2", "stage3", "stage4"]
    if request.param == "swin_tiny":
        backbone = transformers.SwinConfig(depths=[2, 2, 6, 2], out_features=stages)
    else:
        backbone = transformers.ResNetConfig(out_features=stages)
    torch.manual_seed(0)
    config = transformers.Mask2FormerConfig(backbone_config=backbone, num_labels=NUM_CLASSES)
    theirs = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            # Parts that start as 0 or 1 would hide a mix-up.
            if parameter.ndim == 1 or "bias_table" in name or not parameter.any():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    folder: Path = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    ours = Mask2Former(make_backbone(request.param), NUM_CLASSES).eval()
    ours.load_state_dict(huggingface.read(load_file(folder / "model.safetensors"), {}).weights)
    return theirs, ours


@pytest.fixture
def fixed_points(monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """Points that depend on their number alone; both implementations draw them.

    Every mask gets the same candidates, so that the order in which the two go through the masks
    does not matter; which of them are kept still differs from mask to mask.
    """
    tables: dict[int, torch.Tensor] = {}

    def draw(*shape: int, device: torch.device | None = None) -> torch.Tensor:
        number = shape[-2]
        if number not in tables:
            generator = torch.Generator().manual_seed(number)
            tables[number] = torch.rand(number, 2, generator=generator, dtype=torch.float64)
        return tables[number].expand(shape).contiguous()

    from transformers.models.mask2former import modeling_mask2former

    class TorchWithFixedPoints:
        rand = staticmethod(draw)

        def __getattr__(self, name: str) -> object:
            return getattr(torch, name)

    monkeypatch.setattr(modeling_mask2former, "torch", TorchWithFixedPoints())
    return draw
