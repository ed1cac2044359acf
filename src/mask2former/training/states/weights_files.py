"""The weights that a run gives away, and of which step they are."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from torch import Tensor

from mask2former.config import Run
from mask2former.distributed import broadcast, is_main
from mask2former.files import reason_of
from mask2former.types import Classes
from mask2former.weights.native import save

logger = logging.getLogger(__name__)
WeightsName: TypeAlias = Literal["last", "best"]


class WeightsFiles:
    """`last.safetensors` and `best.safetensors`, each whole whatever happens to the disk.

    Where one cannot be written, the older one stays, and the run goes on.
    """

    def __init__(self, folder: Path, classes: Classes) -> None:
        """Say where.

        Args:
            folder: `weights` in the run's folder; it need not be there yet.
            classes: Of the model.
        """
        self.folder, self.classes = folder, classes
        self.steps: dict[str, int | None] = {}
        """Steps done when each file was written; none where one could not be written so far."""

    def path(self, name: WeightsName) -> Path:
        return self.folder / f"{name}.safetensors"

    def write(
        self, name: WeightsName, weights: Mapping[str, Tensor], run: Run, *, step: int
    ) -> bool:
        """Replace a file; all ranks call it, and the main one writes.

        Args:
            name: Of the file.
            weights: The model's state dict.
            run: Its configuration.
            step: Steps done.

        Returns:
            Whether it was written, on all ranks.
        """
        is_written = broadcast(is_main() and self._save(name, weights, run, step))
        if is_written:
            self.steps[name] = step
        else:
            self.steps.setdefault(name, None)
        return is_written

    def lacks(self, step: int) -> bool:
        """Whether the last weights that were written are known not to be those of a step."""
        return self.steps.get("last", step) != step

    def require(self, step: int) -> None:
        """The last weights must be those of the run's last step.

        Args:
            step: Steps done.

        Raises:
            OSError: They could not be written.
        """
        if self.lacks(step):
            raise OSError(
                f"the weights of step {step}, the last, could not be written to "
                f"{self.path('last')}; {self._kept('last')}; free space and go on with --resume, "
                "which writes them"
            )

    def _save(self, name: WeightsName, weights: Mapping[str, Tensor], run: Run, step: int) -> bool:
        try:
            save(self.path(name), weights, run, self.classes)
        except OSError as error:
            logger.warning(
                "the weights of step %d cannot be written to %s: %s; %s; the run goes on and "
                "tries again at the next scoring",
                step, self.path(name), reason_of(error), self._kept(name),
            )  # fmt: skip
            return False
        return True

    def _kept(self, name: WeightsName) -> str:
        step = self.steps.get(name)
        if step is None:
            return "none were written there before"
        return f"the file there is that of step {step}"
