"""Pictures that look the same, found by their thumbnails."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from mask2former.check.facts import ImageFacts

COPY_SIMILARITY = 0.9985
"""Correlation of two thumbnails from which pictures count as copies of one another.

Of a few hundred photos, copies at JPEG quality 30 or half the size lay above 0.999, different
photos below 0.85, and neighbouring frames of a moving camera below 0.998. Brightened copies (0.99)
are not told from neighbouring frames, and are missed."""
CROWD = 1000
"""Of so many pictures that look alike, such as those of a camera that stands still, each resembles
all others: they are told together."""
PROBES = 64
"""Pictures that are compared with all others to find such crowds: none that is a twentieth of all
is missed in more than 1 of 25 data sets, and smaller ones are compared in no time."""
LEAST_CONTRAST = 2.0
"""Standard deviation of a thumbnail's grey levels; flatter ones all look alike."""
ROWS_AT_ONCE = 512
ROUNDING = 1e-4
"""Of distances between signatures."""


class Pair(NamedTuple):
    """Two images that show the same."""

    first: ImageFacts
    second: ImageFacts
    similarity: float


def find_crowds(
    signatures: Float32[np.ndarray, "images pixels"],
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Positions of the images of each crowd, all of which look like one of them; and of others."""
    crowds = []
    others = np.arange(len(signatures))
    generator = np.random.default_rng(0)
    while len(others) > CROWD:
        probes = generator.choice(others, min(PROBES, len(others)), replace=False)
        alike = (signatures @ signatures[probes].T >= COPY_SIMILARITY)[others]
        is_member = alike[:, alike.sum(axis=0).argmax()]
        if is_member.sum() <= CROWD:
            break
        crowds.append(others[is_member])
        others = others[~is_member]
    return crowds, others


def similar_pairs(
    images: Sequence[ImageFacts],
    signatures: Float32[np.ndarray, "images pixels"],
    meant: Collection[tuple[str, str]] = (),
) -> list[Pair]:
    """Pictures of different files and videos that look the same.

    Thumbnails are compared by correlation, so that brightness and contrast do not matter. Every
    image is named once at most, with the earlier one that it resembles most.

    Args:
        images: That have a thumbnail.
        signatures: Of their thumbnails.
        meant: (union, part) of splits that are not compared.
    """
    names, splits = _numbered([image.split for image in images])
    _, videos = _numbered([video_of(image, i) for i, image in enumerate(images)])
    _, contents = _numbered([image.digest for image in images])
    is_meant = np.array([[(a, b) in meant or (b, a) in meant for b in names] for a in names], bool)
    is_meant = is_meant.reshape(len(names), len(names))

    def is_wanted(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (
            (videos[first] != videos[second])
            & (contents[first] != contents[second])
            & ~is_meant[splits[first], splits[second]]
        )

    best: dict[int, Pair] = {}
    for close in _close(signatures, is_wanted):
        for earlier, later, similarity in zip(*(column.tolist() for column in close), strict=True):
            if later not in best or similarity > best[later].similarity:
                best[later] = Pair(images[earlier], images[later], similarity)
    return [best[later] for later in sorted(best)]


def video_of(image: ImageFacts, position: int) -> object:
    """What distinguishes videos, and images that belong to none."""
    return position if image.group is None else (image.split, image.group)


class Close(NamedTuple):
    """Pairs of positions, no later one twice."""

    earlier: NDArray[np.int64]
    later: NDArray[np.int64]
    similarity: NDArray[np.float32]


def _close(
    signatures: Float32[np.ndarray, "images pixels"],
    is_wanted: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]],
) -> Iterator[Close]:
    """For the images, block by block, the one that each resembles most, from `COPY_SIMILARITY` on.

    Close points have close shadows on any axis: along the one that spreads them most, every point
    is compared with the few behind it that can be close enough.

    Args:
        signatures: Of all images.
        is_wanted: Of pairs of positions, which may be told.
    """
    if len(signatures) < 2:
        return
    axis = np.linalg.eigh(signatures.T @ signatures)[1][:, -1]
    shadows = signatures @ axis
    order = np.argsort(shadows, kind="stable")
    shadows, signatures = shadows[order], signatures[order]
    radius = float(np.sqrt(2 - 2 * COPY_SIMILARITY)) + ROUNDING
    for start in range(0, len(order), ROWS_AT_ONCE):
        block = signatures[start : start + ROWS_AT_ONCE]
        farthest = shadows[start + len(block) - 1] + radius
        end = int(np.searchsorted(shadows, farthest, side="right"))
        similarities = block @ signatures[start:end].T
        rows, columns = np.nonzero(similarities >= COPY_SIMILARITY)
        first, second = order[rows + start], order[columns + start]
        wanted = (rows < columns) & is_wanted(first, second)
        found = similarities[rows[wanted], columns[wanted]]
        yield _strongest(first[wanted], second[wanted], found)


def _strongest(
    one: NDArray[np.int64], other: NDArray[np.int64], similarity: NDArray[np.float32]
) -> Close:
    """Of every image, the pair with the most similar one before it."""
    earlier, later = np.minimum(one, other), np.maximum(one, other)
    by_strength = np.lexsort((earlier, -similarity, later))
    later = later[by_strength]
    kept = by_strength[np.flatnonzero(np.diff(later, prepend=-1))]
    return Close(earlier[kept], np.maximum(one, other)[kept], similarity[kept])


def _numbered(values: Sequence[object]) -> tuple[list[object], NDArray[np.int64]]:
    """The different values, and the number of each of the given ones among them."""
    numbers: dict[object, int] = {}
    positions = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), np.array(positions, np.int64)


def thumbnail_signatures(
    images: Sequence[ImageFacts],
) -> tuple[Float32[np.ndarray, "images pixels"], NDArray[np.bool_]]:
    """Thumbnails with mean 0 and length 1, and which of them have contrast."""
    buffer = b"".join(image.thumbnail or b"" for image in images)
    grey = np.frombuffer(buffer, np.uint8).reshape(len(images), -1 if images else 0)
    centred = grey.astype(np.float32)
    centred -= centred.mean(axis=1, keepdims=True) if images else 0
    contrast = centred.std(axis=1) if images else np.zeros(0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.maximum(lengths, 1e-6), contrast >= LEAST_CONTRAST
