"""Weights, gradients and averages of a model divided among processes: each keeps its share.

The division is PyTorch's FSDP2. A parameter is cut along its first axis; a block's parameters are
put together just before they are needed and dropped after it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mask2former import config
from mask2former.distributed import is_main, world_size
from mask2former.model.mask2former import Mask2Former
from mask2former.training.recomputing import residual_blocks
from mask2former.weights.build import build_filled


def check_shardable(training: config.Training) -> None:
    """Refuse what does not go together with `training.strategy` fsdp in several processes.

    Raises:
        ValueError: The model is to be compiled, or laid out with channels last, or one process is
            to repeat a step by itself.
    """
    if training.on_oom == "shrink":
        raise ValueError(
            "training.strategy is fsdp and training.on_oom is shrink, which do not go together: a "
            "process that repeated a pass would wait for the others; leave training.on_oom out, "
            "or take training.strategy=ddp"
        )
    for option in ("compile", "channels_last"):
        if training.model_dump()[option]:
            raise ValueError(
                f"training.strategy is fsdp and training.{option} is true, which do not go "
                f"together; leave training.{option} out, or take training.strategy=ddp"
            )


def shard(model: Mask2Former, device_type: str) -> None:
    """Divide the parameters of a model among all processes; all of them call it.

    The model is moved block by block to this process's device, which never has to hold the whole
    of it. The names of its weights stay; frozen parameters are divided too, buffers are not.

    Args:
        model: With the same weights in every process; changed in place.
        device_type: As PyTorch names it: "cpu", "cuda", ...

    Raises:
        ValueError: A parameter is a single number, or the backbone does not show its blocks.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise ValueError(
                f"{name} is a single number, which training.strategy=fsdp cannot divide; take "
                "training.strategy=ddp or another backbone"
            )
    mesh = init_device_mesh(device_type, (world_size(),))
    for block in sharded_blocks(model):
        block.register_forward_hook(_without_view)
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _without_view(module: nn.Module, args: Any, output: Any) -> Any:
    """Gradients of what is done in place to a view pass by the hook that FSDP2 puts on it."""
    del module, args
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def sharded_blocks(model: Mask2Former) -> list[nn.Module]:
    """The blocks that are put together one at a time; what else there is goes with the model.

    Those are the blocks that `recompute_activations` knows and frozen ones, but for blocks that
    share a parameter with anything else.
    """
    paths: dict[int, set[str]] = defaultdict(set)
    for path, parameter in model.named_parameters(remove_duplicate=False):
        paths[id(parameter)].add(path)

    def is_apart(block: nn.Module) -> bool:
        inside = [id(p) for _, p in block.named_parameters(remove_duplicate=False)]
        return bool(inside) and all(inside.count(p) == len(paths[p]) for p in set(inside))

    return [block for block in residual_blocks(model) if is_apart(block)]


def own_share(tensor: Tensor) -> Tensor:
    """What this process keeps of a tensor, in the same memory; all of one that is not divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def copy_own_share(target: Tensor, whole: Tensor) -> None:
    """Fill a tensor, which may be divided, from one that every process has whole.

    Args:
        target: Changed in place.
        whole: Of the same shape, on any device.
    """
    if not isinstance(target, DTensor):
        target.copy_(whole)
        return
    # without a source rank nothing is sent: each process takes its share of its own tensor
    divided = distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)
    target.to_local().copy_(divided.to_local())


def is_sharded(model: nn.Module) -> bool:
    """Whether its parameters are divided among processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def gather_whole(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Put divided tensors together on rank 0, in the memory of its CPU; all ranks call it.

    They pass through the device one at a time.

    Args:
        tensors: By name, the same names in every process; other values may be among them.

    Returns:
        All of it on rank 0. Elsewhere only what is not divided, which stays as it is everywhere.
    """
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            found[name] = tensor
            continue
        with torch.no_grad():
            whole = tensor.full_tensor()
        if is_main():
            found[name] = whole.cpu()
    return found


@torch.no_grad()
def whole_model(model: Mask2Former, sizes: config.Model, num_classes: int) -> Mask2Former:
    """A model that predicts without asking other processes, in every process; all call it.

    So processes may score different numbers of images. As long as it is there it takes the memory
    of all weights once, beside the shares.

    Args:
        model: Whose weights to take; one that is not divided is returned itself.
        sizes: What it was made from.
        num_classes: Without "no object".
    """
    return whole_copy(model, sizes, num_classes) if is_sharded(model) else model


@torch.no_grad()
def whole_copy(
    model: Mask2Former, sizes: config.Model, num_classes: int, device: torch.device | None = None
) -> Mask2Former:
    """Another model with the same weights, divided or not, in every process; all call it.

    Args:
        model: Whose weights to take.
        sizes: What it was made from.
        num_classes: Without "no object".
        device: Where they go, one tensor after another; none: where they are.
    """
    weights = {
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()).to(device)
        for name, tensor in model.state_dict().items()
    }
    return build_filled(sizes, num_classes, weights, "the model of this run")


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale gradients down until the norm of all of them together is no larger than asked.

    Args:
        parameters: Divided or not, but all of one kind; those without a gradient are left out.
        max_norm: L2.

    Returns:
        The norm before that, the same in every process where the gradients are divided.

    Source:
        `torch.nn.utils.clip_grad_norm_`, with the squares of the shares added up among processes.
    """
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not any(isinstance(gradient, DTensor) for gradient in gradients):
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    shares = [own_share(gradient) for gradient in gradients]
    squares = torch.nn.utils.get_total_norm(shares).square()
    dist.all_reduce(squares)
    norm = squares.sqrt()
    torch._foreach_mul_(shares, (max_norm / (norm + 1e-6)).clamp(max=1))
    return norm
