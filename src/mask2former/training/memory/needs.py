"""What steps and evaluations of a run take, and beside them its loader processes."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch

from mask2former.byte_sizes import format_size
from mask2former.config import Run
from mask2former.data.geometry import Size
from mask2former.training.memory.fitting import Fit, largest_that_fits
from mask2former.training.memory.knobs import with_training
from mask2former.training.memory.memory_limit import own_memory
from mask2former.training.memory.peak import Peak
from mask2former.training.memory.trials import (
    USUAL_TARGETS,
    EvaluationPass,
    TrainingStep,
    Work,
    largest_training_size,
)

Measure: TypeAlias = Callable[[Work, torch.device], Peak]
WORKER_BYTES = 100 * 2**20
"""Of a loader process for itself; what it shares with the one that it was forked from is counted
there. Measured: 65 MiB for pictures of 512 x 640 px, of which photos have more."""
BATCHES_AHEAD = 2
"""That PyTorch lets every loader process prepare."""


class Needs:
    """Bytes that steps and evaluations of one run take on one device, found by trials."""

    def __init__(
        self,
        run: Run,
        num_classes: int,
        *,
        device: torch.device,
        processes: int,
        measure: Measure,
    ) -> None:
        batch = run.training.batch_size
        if batch % processes:
            raise ValueError(
                f"a batch of {batch} images cannot be shared out equally among {processes} "
                f"processes; give a multiple of {processes}"
            )
        self.run, self.num_classes, self.device = run, num_classes, device
        self.processes, self.measure = processes, measure
        self.of_rank = batch // processes
        self.targets = min(run.model.num_queries, USUAL_TARGETS)
        self.own = own_memory(device)
        self.most = min(run.training.images_per_pass or self.of_rank, self.of_rank)

    @property
    def beside(self) -> int:
        """Bytes of the loader processes of this run."""
        return self.loader_bytes(self.run)

    def loader_bytes(self, run: Run) -> int:
        """Of the loader processes, which take memory of the machine alone."""
        if self.device.type != "cpu":
            return 0
        return run.data.workers * (WORKER_BYTES + BATCHES_AHEAD * self._batch_bytes())

    def tell_beside(self) -> Iterator[str]:
        workers = self.run.data.workers
        if self.beside:
            yield (
                f"{workers} loader processes take {format_size(self.beside)}: each "
                f"{format_size(WORKER_BYTES)} and {BATCHES_AHEAD} batches of "
                f"{format_size(self._batch_bytes())}"
            )

    def _batch_bytes(self) -> int:
        height, width = largest_training_size(self.run.data.augmentation)
        return self.of_rank * height * width * (3 + -(-self.targets // 8))

    def largest(self, room: int, *, recomputing: bool) -> Fit:
        run = with_training(self.run, checkpoint_activations=recomputing)
        return largest_that_fits(lambda images: self.training(run, images), room, self.most)

    def one_image(self, run: Run) -> int | None:
        return self.training(run, 1)

    def training(self, run: Run, images: int) -> int | None:
        step = TrainingStep(
            run,
            self.num_classes,
            images,
            of_batch=self.of_rank,
            keeps_gradients=images < self.of_rank or self.processes > 1,
            targets=min(run.model.num_queries, USUAL_TARGETS),
        )
        return self._need(step)

    def evaluation(self, sizes: tuple[Size, ...]) -> int | None:
        return self._need(EvaluationPass(self.run, self.num_classes, sizes))

    def _need(self, work: Work) -> int | None:
        """With what this process has beyond a bare one, such as the index of the data."""
        peak = self.measure(work, self.device)
        if peak.bytes is None:
            return None
        return peak.bytes + max(0, self.own - peak.idle if self.device.type == "cpu" else 0)
