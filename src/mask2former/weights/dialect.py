"""What a reader of a foreign checkpoint gives."""

from typing import NamedTuple

from torch import Tensor

from mask2former.tasks import Task


class Translation(NamedTuple):
    """A foreign checkpoint under our names, and what its file says beside the tensors."""

    weights: dict[str, Tensor]
    left_over: list[str]
    """Foreign names that no row of the dialect's table knows."""
    class_names: tuple[str, ...] | None = None
    is_thing: tuple[bool, ...] | None = None
    task: Task | None = None
