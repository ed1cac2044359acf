"""Which images make up which batch: an endless sequence that is known from its seed."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np
from torch.utils.data import Sampler

Request: TypeAlias = tuple[int, int]
"""(index of the image, seed of its augmentation)"""


class TrainingBatches(Sampler[list[Request]]):
    """Batches of requests without end, for `DataLoader(batch_sampler=...)`.

    Every epoch is a permutation of all images drawn from (seed, epoch); rank r takes every
    `world_size`-th of the endless sequence of epochs. A request's seed comes from the place in
    that sequence, so the sequence from any batch on is the same however one gets there.
    """

    def __init__(
        self,
        num_images: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        is_landscape: Sequence[bool] | None = None,
    ) -> None:
        """Say what to draw and where to begin.

        Args:
            num_images: Of the data set.
            batch_size: Images a batch and rank.
            seed: Of the run; the same on all ranks.
            rank: Of this process.
            world_size: Number of processes.
            start: Batches of this rank to skip: the steps that a resumed run has done.
            is_landscape: One flag an image, to make batches of images of one orientation, which
                wastes less padding; none mixes them.

        Raises:
            ValueError: There are no images, or the flags do not match them.
        """
        if num_images < 1:
            raise ValueError("0 images to train on; give at least one")
        if is_landscape is not None and len(is_landscape) != num_images:
            raise ValueError(f"{len(is_landscape)} orientation flags for {num_images} images")
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.is_landscape = is_landscape

    def __iter__(self) -> Iterator[list[Request]]:
        if self.is_landscape is None:
            batches = self._mixed(first=self.start)
        else:
            # What waits in the two queues depends on all draws before, so they are drawn again;
            # a million take about half a second.
            batches = islice(self._grouped(self.is_landscape), self.start, None)
        for batch in batches:
            yield [(index, _mix(self.seed, position)) for position, index in batch]

    def _draws(self, first: int) -> Iterator[tuple[int, int]]:
        """(place in the sequence of all ranks, image index) of this rank's draws from `first`."""
        position = self.rank + first * self.world_size
        epoch, order = -1, np.empty(0, np.int64)
        while True:
            if position // self.num_images != epoch:
                epoch = position // self.num_images
                order = np.random.default_rng((self.seed, epoch)).permutation(self.num_images)
            yield position, int(order[position % self.num_images])
            position += self.world_size

    def _mixed(self, first: int) -> Iterator[list[tuple[int, int]]]:
        draws = self._draws(first=first * self.batch_size)
        while True:
            yield list(islice(draws, self.batch_size))

    def _grouped(self, is_landscape: Sequence[bool]) -> Iterator[list[tuple[int, int]]]:
        waiting: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        for position, index in self._draws(first=0):
            queue = waiting[bool(is_landscape[index])]
            queue.append((position, index))
            if len(queue) == self.batch_size:
                yield queue.copy()
                queue.clear()


def _mix(seed: int, position: int) -> int:
    """One seed from two, unlike that of an epoch's permutation."""
    words = np.random.SeedSequence((seed, position, 1)).generate_state(1, np.uint64)
    return int(words[0])
