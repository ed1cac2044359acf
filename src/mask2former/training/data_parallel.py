"""How Lightning sees the processes of a run, which have met before it comes to work."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from mask2former.config import Run
from mask2former.distributed import rank, world_size
from mask2former.training.module import TrainingModule
from mask2former.training.sharding import (
    check_shardable,
    copy_own_share,
    gather_whole,
    shard,
)

logger = logging.getLogger(__name__)


class MetBefore(ClusterEnvironment):
    """Processes that have joined a group already: to Lightning, each is a machine of its own.

    So it does not ask which devices the others have, nor where they are.
    """

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        """Nobody asks: the group is there."""
        raise NotImplementedError

    @property
    def main_port(self) -> int:
        """Likewise."""
        raise NotImplementedError

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return world_size()

    def set_world_size(self, size: int) -> None:
        """It is known."""

    def global_rank(self) -> int:
        return rank()

    def set_global_rank(self, rank: int) -> None:
        """It is known."""

    def local_rank(self) -> int:
        """Among the devices that Lightning is told of: the only one."""
        return 0

    def node_rank(self) -> int:
        return rank()


class DataParallel(DDPStrategy):
    """DDP on any device; Lightning would open a stream of CUDA's for every accelerator."""

    def determine_ddp_device_ids(self) -> list[int] | None:
        """None: where the model's parameters are."""
        return super().determine_ddp_device_ids() if self.root_device.type == "cuda" else None


def data_parallel() -> DDPStrategy:
    """Every process has the whole model; gradients are averaged once a step.

    As in the authors' release, buffers are not exchanged: frozen statistics never change, and
    synchronised ones are equal everywhere.
    """
    return DataParallel(
        cluster_environment=MetBefore(), broadcast_buffers=False, gradient_as_bucket_view=True
    )


class ShardedStrategy(DDPStrategy):
    """Every process has a share of the parameters, the gradients and the optimizer's state.

    States of a run are those of `data_parallel`, whole and in one file, so that a run goes on with
    either of the two and with any number of processes.
    """

    def model_to_device(self) -> None:
        """Weights to start or resume from are in the model; no optimizer is there yet."""
        shard(self._module.model, self.root_device.type)
        super().model_to_device()

    def configure_ddp(self) -> None:
        """The model exchanges its gradients by itself: nothing is wrapped around it."""

    def setup_optimizers(self, trainer: Any) -> None:
        """As without sharding, where PyTorch itself takes many tensors at once on accelerators."""
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["foreach"] = self.root_device.type != "cpu"

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Without the copies of all weights that autocast would keep until the step ends."""
        is_kept = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            return super().training_step(*args, **kwargs)
        finally:
            torch.set_autocast_cache_enabled(is_kept)

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Within it gradients are added up whole, in every process its own."""
        model = self._module.model
        assert isinstance(model, FSDPModule)
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole on rank 0; all ranks call it."""
        return gather_whole(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole on rank 0; all ranks call it."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        whole = {number: gather_whole(values) for number, values in state["state"].items()}
        groups = [{**group, "foreach": None} for group in state["param_groups"]]
        return {"state": whole, "param_groups": groups}

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Leave a state on the disk until shares of it are asked for."""
        del weights_only
        return torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's share of a whole state."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(shard_state(optimizer, state))

    def teardown(self) -> None:
        """Shares stay on their device, unlike a whole model, which Lightning moves to the CPU."""
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()

    @property
    def _module(self) -> TrainingModule:
        assert isinstance(self.lightning_module, TrainingModule)
        return self.lightning_module


def shard_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """This process's share of an optimizer's whole state, for `Optimizer.load_state_dict`.

    Args:
        optimizer: Of parameters that are divided.
        state: As an optimizer of the same parameters gave it, undivided.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    # of other numbers of parameters the optimizer complains itself
    parameter_of = dict(zip(numbers, parameters, strict=False))

    def share(number: int, value: Any) -> Any:
        parameter = parameter_of.get(number)
        if parameter is None or not isinstance(value, Tensor) or value.shape != parameter.shape:
            return value
        divided = torch.empty_like(parameter, dtype=value.dtype)
        copy_own_share(divided, value)
        return divided

    shares = {
        number: {name: share(number, value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    own = [group["foreach"] for group in optimizer.param_groups]
    groups = [
        {**group, "foreach": foreach}
        for group, foreach in zip(state["param_groups"], own, strict=False)
    ]
    return {"state": shares, "param_groups": groups}


def make_strategy(run: Run, device: torch.device) -> Strategy:
    """How the processes of a run share its work; a single one has nothing to share.

    Args:
        run: The configuration.
        device: Of this process.

    Raises:
        ValueError: `training.strategy` does not go together with another option.
    """
    training = run.training
    if world_size() == 1:
        if training.strategy == "fsdp":
            logger.warning("training.strategy is fsdp, but a single process has nothing to divide")
        return SingleDeviceStrategy(device)
    if training.strategy == "ddp":
        is_sync = run.model.backbone.norm == "sync" and device.type != "cpu"
        if is_sync and training.on_oom == "shrink":
            raise ValueError(
                "model.backbone.norm is sync and training.on_oom is shrink, which do not go "
                "together in several processes: all of them must go through the model equally "
                "often; leave training.on_oom out, or take model.backbone.norm=frozen"
            )
        return data_parallel()
    check_shardable(training)
    return ShardedStrategy(cluster_environment=MetBefore())
