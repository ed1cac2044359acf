"""AdamW with the published parameter groups."""

from collections import defaultdict

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from mask2former.config_training import Optimizer
from mask2former.model.depth import find_depth
from mask2former.model.features import Backbone

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
POSITION_TABLES = ("relative_position_bias_table", "pos_embed")


def make_optimizer(model: nn.Module, optimizer: Optimizer) -> torch.optim.AdamW:
    """An optimizer over all parameters that learn; see `parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(model, optimizer), lr=optimizer.learning_rate)


@torch.no_grad()
def allocate_state(optimizer: torch.optim.Optimizer) -> None:
    """Make what the first step would make, so that memory runs out before a step, if at all.

    Args:
        optimizer: An AdamW; nothing is done to one that has its state.
    """
    if optimizer.state:
        return
    rates = [group["lr"] for group in optimizer.param_groups]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for parameter in parameters:
        parameter.grad = None
        optimizer.state[parameter]["step"].zero_()


def parameter_groups(model: nn.Module, optimizer: Optimizer) -> list[dict]:
    """Parameters by learning rate and weight decay.

    Args:
        model: With its backbone under that name.
        optimizer: Rates.

    Returns:
        One group for each pair that occurs, with the names of its parameters.

    Raises:
        ValueError: The rate is to fall with depth in a backbone that does not show its blocks.

    Source:
        Mask2Former's release: the backbone learns at a tenth of the rate; norms, embeddings and
        tables of positions do not decay; everything else does, biases included.
    """
    factors = backbone_factors(model, optimizer)
    groups: dict[tuple[float, float], dict] = defaultdict(lambda: {"params": [], "names": []})
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            rate = optimizer.learning_rate * factors.get(name, 1.0)
            keeps = isinstance(module, (*NORMS, nn.Embedding)) or _is_table(name)
            group = groups[rate, 0.0 if keeps else optimizer.weight_decay]
            group["params"].append(parameter)
            group["names"].append(name)
    return [{"lr": rate, "weight_decay": decay, **group} for (rate, decay), group in groups.items()]


def backbone_factors(model: nn.Module, optimizer: Optimizer) -> dict[str, float]:
    """What the learning rate of each of the backbone's parameters is multiplied by, by name.

    Raises:
        ValueError: The rate is to fall with depth in a backbone that does not show its blocks.

    Source:
        BEiT (Bao et al., 2022): decay^(depth + 1 - block), where the stem is block 0 and what comes
        behind the blocks counts as one more, at the full rate. What changes the resolution goes
        with the block next to it, as in SimMIM's Swin.
    """
    backbone = model.get_submodule("backbone")
    names = [name for name, _ in backbone.named_parameters()]
    whole, decay = optimizer.backbone_learning_rate_factor, optimizer.layer_decay
    if decay == 1:
        return {f"backbone.{name}": whole for name in names}
    assert isinstance(backbone, Backbone)
    depth = find_depth(backbone)
    last = len(depth.blocks) + 1
    return {
        f"backbone.{name}": whole * decay ** (last - depth.place_of(name).block) for name in names
    }


def _is_table(name: str) -> bool:
    return any(table in name for table in POSITION_TABLES)
