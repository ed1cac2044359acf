"""Small models of the published architecture, for tests of what can be exchanged."""

import pytest
import torch

from mask2former.config import Backbone, Run
from mask2former.presets import find_preset
from mask2former.types import Classes
from mask2former.weights.build import build_model
from mask2former.weights.checkpoint import Checkpoint

CLASSES = Classes(("cat", "tree", "dog"), (3, 9, 7), (True, False, True))


def small_run(backbone: str) -> Run:
    """The published network, narrow and shallow behind a real backbone."""
    run = find_preset("panoptic").run()
    sizes = {
        "backbone": Backbone(name=backbone, pretrained=False),
        "num_queries": 7,
        "hidden_dim": 64,
        "num_heads": 4,
        "encoder_layers": 2,
        "encoder_feedforward_dim": 48,
        "decoder_layers": 3,
        "decoder_feedforward_dim": 80,
    }
    return run.model_copy(update={"model": run.model.model_copy(update=sizes)})


def random_checkpoint(run: Run, classes: Classes) -> Checkpoint:
    """Weights in which no two tensors are alike, so that a mix-up shows."""
    torch.manual_seed(0)
    model = build_model(run.model, len(classes))
    weights = {
        name: tensor + 0.05 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    return Checkpoint(weights, run, classes)


@pytest.fixture(scope="session", params=["resnet18", "resnet50", "swin_tiny"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return random_checkpoint(small_run(request.param), CLASSES)


@pytest.fixture(scope="session")
def resnet18() -> Checkpoint:
    return random_checkpoint(small_run("resnet18"), CLASSES)


@pytest.fixture(scope="session")
def resnet50() -> Checkpoint:
    return random_checkpoint(small_run("resnet50"), CLASSES)
