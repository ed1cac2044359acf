"""How Lightning sees the processes of a run, which have met before it comes to work."""

from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

from mask2former.distributed import rank, world_size


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
