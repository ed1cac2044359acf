"""What a reader of a foreign checkpoint gives, and what its writers share."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mask2former.tasks import Task
from mask2former.weights.names import NameTable, to_theirs


class Translation(NamedTuple):
    """A foreign checkpoint under our names, and what its file says beside the tensors."""

    weights: dict[str, Tensor]
    left_over: list[str]
    """Foreign names that no row of the dialect's table knows."""
    class_names: tuple[str, ...] | None = None
    is_thing: tuple[bool, ...] | None = None
    task: Task | None = None


def write_all(
    weights: Mapping[str, Tensor], table: NameTable, no_object_weight: float, model: str
) -> dict[str, Tensor]:
    """Give our weights foreign names, and add the class weights that foreign criteria keep.

    Args:
        weights: Our state dict.
        table: Of the dialect.
        no_object_weight: Of the class loss.
        model: What the foreign model is, for the message.

    Raises:
        ValueError: A tensor has no place in that model.
    """
    state, unknown = to_theirs(weights, table)
    if unknown:
        raise ValueError(
            f"{len(unknown)} tensors have no place in {model}: {', '.join(unknown[:3])}"
        )
    class_weights = torch.ones(len(weights["transformer_decoder.classifier.bias"]))
    class_weights[-1] = no_object_weight
    return state | {"criterion.empty_weight": class_weights}
