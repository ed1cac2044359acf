"""Which images make up which batch: an endless sequence that is known from its seed."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, islice
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, Int64
from torch.utils.data import Sampler

Request: TypeAlias = tuple[int, int]
"""(index of the image, seed of its augmentation)"""
ROUNDING = 1e-6
"""Of sums of repeats."""


class TrainingBatches(Sampler[list[Request]]):
    """Batches of requests without end, for `DataLoader(batch_sampler=...)`.

    Every epoch is a permutation of all images drawn from (seed, epoch), or of all repetitions of
    images (see `Epochs`). Of each batch, rank r takes every `world_size`-th image, so that any
    number of ranks trains on the same batches. A request's seed comes from its place in the endless
    sequence of epochs, so the sequence from any batch on is the same however one gets there.
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
        repeats: Sequence[float] | None = None,
    ) -> None:
        """Say what to draw and where to begin.

        Args:
            num_images: Of the data set.
            batch_size: Images a batch, over all ranks; a multiple of their number.
            seed: Of the run; the same on all ranks.
            rank: Of this process.
            world_size: Number of processes.
            start: Batches to skip: the steps that a resumed run has done.
            is_landscape: One flag an image, to make batches of images of one orientation, which
                wastes less padding; none mixes them.
            repeats: How often each image occurs in an epoch, on average; none: once.

        Raises:
            ValueError: There are no images, the flags or repeats do not match them, or the batch
                cannot be shared out equally.
        """
        self.epochs = Epochs(num_images, seed, repeats)
        if batch_size % world_size:
            raise ValueError(
                f"a batch of {batch_size} images cannot be shared out equally among {world_size} "
                f"processes; give a multiple with --batch"
            )
        if is_landscape is not None and len(is_landscape) != num_images:
            raise ValueError(f"{len(is_landscape)} orientation flags for {num_images} images")
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
            own = batch[self.rank :: self.world_size]
            yield [(index, _mix(self.seed, position)) for position, index in own]

    def _draws(self, first: int) -> Iterator[tuple[int, int]]:
        """(place in the sequence, image index) from a place on."""
        position = first
        current, order = -1, np.empty(0, np.int64)
        while True:
            epoch, place = divmod(position, self.epochs.length)
            if epoch != current:
                current, order = epoch, self.epochs.order(epoch)
            yield position, int(order[place])
            position += 1

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


class Epochs:
    """In which order an epoch shows the images, and how often each."""

    def __init__(self, num_images: int, seed: int, repeats: Sequence[float] | None = None) -> None:
        """See `TrainingBatches`.

        Raises:
            ValueError: There are no images, or the repeats do not match them.
        """
        if num_images < 1:
            raise ValueError("0 images to train on; give at least one")
        if repeats is not None and len(repeats) != num_images:
            raise ValueError(f"{len(repeats)} repeats for {num_images} images")
        self.num_images = num_images
        self.seed = seed
        self.length = num_images if repeats is None else epoch_length(repeats)
        """Images that an epoch shows, repetitions counted."""
        self.repeats: Float64[np.ndarray, " images"] | None = None
        if repeats is not None:
            # a little more, so that epochs are equally long; less would lose images of repeat 1
            wanted = np.asarray(repeats, np.float64)
            self.repeats = wanted * (self.length / wanted.sum())

    def order(self, epoch: int) -> Int64[np.ndarray, " length"]:
        """Indices of the images, in the order of an epoch.

        An image that repeats r times on average occurs floor(r) or ceil(r) times: a comb of
        distance 1, at a random place, falls on the images laid side by side, each as long as its r.
        """
        generator = np.random.default_rng((self.seed, epoch))
        if self.repeats is None:
            return generator.permutation(self.num_images)
        side_by_side = generator.permutation(self.num_images)
        ends = np.cumsum(self.repeats[side_by_side])
        teeth = np.arange(self.length) + generator.uniform()
        # rounding of the sum must not put the last tooth behind the last image
        places = np.searchsorted(ends, teeth, side="right").clip(max=self.num_images - 1)
        return generator.permutation(side_by_side[places])


def epoch_length(repeats: Sequence[float]) -> int:
    """The least whole number of images in which all repeats have room."""
    return max(1, math.ceil(math.fsum(repeats) - ROUNDING))


def class_repeats(classes_per_image: Sequence[Collection[int]], threshold: float) -> list[float]:
    """How often to show each image so that rare classes are seen: 1 or more.

    Args:
        classes_per_image: Class ids that occur in each image.
        threshold: Share of the images below which a class is rare, in (0, 1].

    Source:
        LVIS (Gupta et al., 2019), repeat factor sampling: a class in a share f of the images asks
        for max(1, sqrt(threshold / f)), and an image gets the most that any of its classes asks.
    """
    counts = Counter(class_id for present in classes_per_image for class_id in set(present))
    num_images = len(classes_per_image)
    wanted = {c: math.sqrt(threshold * num_images / count) for c, count in counts.items()}
    return [max([1.0, *(wanted[c] for c in present)]) for present in classes_per_image]


def scale_to_shares(
    repeats: Sequence[float], sizes: Sequence[int], shares: Sequence[float]
) -> list[float]:
    """Scale how often each image is shown so that every data set gets its share of the draws.

    Args:
        repeats: Of each image; those of the first data set come first.
        sizes: Images of each data set.
        shares: Of each data set, in any unit.

    Returns:
        For each image; their sum is that of `repeats`.
    """
    draws = math.fsum(repeats) / math.fsum(shares)
    ends = list(accumulate(sizes))
    scaled = []
    for end, size, share in zip(ends, sizes, shares, strict=True):
        own = repeats[end - size : end]
        scaled += [repeat * (share * draws / math.fsum(own)) for repeat in own]
    return scaled


def _mix(seed: int, position: int) -> int:
    """One seed from two, unlike that of an epoch's permutation."""
    words = np.random.SeedSequence((seed, position, 1)).generate_state(1, np.uint64)
    return int(words[0])
