"""Weights averaged over the steps of a run, which often score better than the last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mask2former.training.sharding import copy_own_share, gather_whole, own_share


class AveragedWeights:
    """An exponential moving average of the parameters that learn.

    Buffers, such as the statistics of batch norms, are not averaged: the averaged model has those
    of the model itself. The average is kept where the parameters are, in their precision, and costs
    as much memory again. All processes of a run keep it alike, or each its share of it where the
    parameters are divided, without exchanging anything.

    Source:
        average += (1 - d) * (weights - average) after every step of the optimizer, where d is the
        decay wanted, but in step t, from 0, at most (1 + t) / (10 + t), so that a short run, or the
        start of a long one, does not remember its first weights for thousands of steps
        (`num_updates` of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the weights that a model has.

        Args:
            model: On its device; frozen parameters are frozen.
            decay: In [0, 1); 0.999 remembers about the last 1000 steps.

        Raises:
            ValueError: The decay is not in this range.
        """
        if not 0 <= decay < 1:
            raise ValueError(
                f"training.ema_decay = {decay}; it must be at least 0 and below 1, such as 0.999"
            )
        self.decay = decay
        self.num_updates = 0
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self._learning = [p for p in model.parameters() if p.requires_grad]
        self._averages = [p.detach().clone() for p in self._learning]
        self._is_swapped = False

    @torch.no_grad()
    def update(self) -> None:
        """Count in the present weights; call it once after every step of the optimizer.

        Raises:
            RuntimeError: The averages are in the model.
        """
        self._check_not_swapped("update")
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        weights = [own_share(p.detach()) for p in self._learning]
        torch._foreach_lerp_([own_share(a) for a in self._averages], weights, 1 - decay)
        self.num_updates += 1

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within it the model has the averages, to be scored and saved; after it, its own weights.

        The tensors stay where they are in memory and change their contents.

        Raises:
            RuntimeError: The averages are in the model already.
        """
        self._check_not_swapped("swapped_in")
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: `num_updates`, and `averages` by the parameters' names.

        Where the parameters are divided all ranks call it, and rank 0 gets the averages, whole.

        Raises:
            RuntimeError: The averages are in the model.
        """
        self._check_not_swapped("state_dict")
        averages = dict(zip(self.names, self._averages, strict=True))
        return {"num_updates": self.num_updates, "averages": gather_whole(averages)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; the next updates give bit for bit what they would have given.

        Args:
            state: As `state_dict` gives it, on any device.

        Raises:
            ValueError: It is of other parameters.
        """
        averages: Mapping[str, Tensor] = state["averages"]
        if averages.keys() != set(self.names):
            different = sorted(averages.keys() ^ set(self.names))
            raise ValueError(
                f"{len(different)} parameters have an average only in the saved state or only in "
                f"this run, such as {different[0]}; resume with the backbone and model.backbone."
                "freeze that the run was started with"
            )
        for name, average in zip(self.names, self._averages, strict=True):
            copy_own_share(average, averages[name])
        self.num_updates = state["num_updates"]

    @torch.no_grad()
    def _swap(self) -> None:
        pairs = zip(self._learning, self._averages, strict=True)
        for parameter, average in ((own_share(p), own_share(a)) for p, a in pairs):
            own = parameter.clone()
            parameter.copy_(average)
            average.copy_(own)
        self._is_swapped = not self._is_swapped

    def _check_not_swapped(self, name: str) -> None:
        if self._is_swapped:
            raise RuntimeError(f"{name} was called within swapped_in(); call it after its end")
