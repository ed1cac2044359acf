"""What a run may ask of its model: parts that stay as they are, less memory, more speed."""

import logging

import timm.layers
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mask2former.config import Run
from mask2former.model.mask2former import Mask2Former
from mask2former.training.freezing import freeze_stages
from mask2former.training.recomputing import recompute_activations

logger = logging.getLogger(__name__)


def apply_model_options(model: Mask2Former, run: Run, device_type: str, world_size: int) -> None:
    """Make a model train as a run asks; the names of its weights stay.

    Args:
        model: With the weights it starts from, not yet wrapped; changed in place.
        run: Its configuration.
        device_type: As PyTorch names it: "cpu", "cuda", ...
        world_size: Number of processes of the run.

    Raises:
        ValueError: The backbone does not show its stages, or the options exclude each other.
    """
    training, backbone = run.training, run.model.backbone
    freeze_stages(model.backbone, backbone.freeze)
    if backbone.norm == "sync":
        synchronize_norms(model, device_type, world_size)
    if training.channels_last:
        use_channels_last(model)
    if training.compile and training.checkpoint_activations:
        _check_compiles_recomputed(model)
    if training.checkpoint_activations:
        recompute_activations(model)
    if training.compile:
        compile_parts(model)


def synchronize_norms(model: nn.Module, device_type: str, world_size: int) -> None:
    """Let batch norms take the statistics of all processes' images.

    Every process must go through the model equally often: the norms of one wait for those of the
    others. One process, or processes on CPUs, keep their own statistics; the latter are warned of.

    Args:
        model: Changed in place.
        device_type: As PyTorch names it.
        world_size: Number of processes.
    """
    if world_size == 1 or not any(isinstance(m, _BatchNorm) for m in model.modules()):
        return
    if device_type == "cpu":
        logger.warning(
            "model.backbone.norm is sync, which PyTorch does on accelerators only: each of the %d "
            "processes takes the statistics of its own images",
            world_size,
        )
        return
    # Not PyTorch's own, which loses the activations that timm has put into its batch norms.
    converted = timm.layers.convert_sync_batchnorm(model)
    assert converted is model, "a model is no norm itself"


def use_channels_last(model: nn.Module) -> None:
    """Lay convolutions' weights out with channels last, which their outputs then follow.

    Results change by rounding. It gains where tensor cores compute in half precision.
    """
    model.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]


def compile_parts(model: Mask2Former, backend: str = "inductor") -> None:
    """Compile backbone, pixel decoder and transformer decoder, each by itself.

    So the gradients of one can be exchanged while another's are computed. They are compiled for the
    first size of images and, when another comes, once more for all sizes; evaluation compiles them
    for itself. The loss is not compiled: which queries it looks at depends on the data.

    Args:
        model: Changed in place; it may recompute its activations.
        backend: As PyTorch names it.
    """
    for part in (model.backbone, model.pixel_decoder, model.transformer_decoder):
        part.compile(backend=backend)


def _check_compiles_recomputed(model: Mask2Former) -> None:
    """A compiler cannot trace the norms' leaving out of the second pass."""
    norms = [module for module in model.backbone.modules() if isinstance(module, _BatchNorm)]
    if any(norm.training for norm in norms):
        raise ValueError(
            "training.compile, training.checkpoint_activations and a batch norm that learns do not "
            "go together; leave one of the two out, or take model.backbone.norm=frozen"
        )
