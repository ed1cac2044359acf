"""The names of the tasks."""

from typing import Literal, TypeAlias

Task: TypeAlias = Literal["semantic", "instance", "panoptic"]
TASKS: tuple[Task, ...] = ("semantic", "instance", "panoptic")
