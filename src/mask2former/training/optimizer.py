"""AdamW with the published parameter groups."""

from collections import defaultdict

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from mask2former.config import Optimizer

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
POSITION_TABLES = ("relative_position_bias_table", "pos_embed")


def make_optimizer(model: nn.Module, optimizer: Optimizer) -> torch.optim.AdamW:
    """An optimizer over all parameters that learn; see `parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(model, optimizer), lr=optimizer.learning_rate)


def parameter_groups(model: nn.Module, optimizer: Optimizer) -> list[dict]:
    """Parameters by learning rate and weight decay.

    Args:
        model: With its backbone under that name.
        optimizer: Rates.

    Returns:
        One group for each pair that occurs, with the names of its parameters.

    Source:
        Mask2Former's release: the backbone learns at a tenth of the rate; norms, embeddings and
        tables of positions do not decay; everything else does, biases included.
    """
    groups: dict[tuple[float, float], dict] = defaultdict(lambda: {"params": [], "names": []})
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            factor = 1.0
            if name.startswith("backbone."):
                factor = optimizer.backbone_learning_rate_factor
            keeps = isinstance(module, (*NORMS, nn.Embedding)) or _is_table(name)
            group = groups[
                optimizer.learning_rate * factor, 0.0 if keeps else optimizer.weight_decay
            ]
            group["params"].append(parameter)
            group["names"].append(name)
    return [{"lr": rate, "weight_decay": decay, **group} for (rate, decay), group in groups.items()]


def _is_table(name: str) -> bool:
    return any(table in name for table in POSITION_TABLES)
