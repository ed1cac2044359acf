"""Images that are there twice: equal files, and pictures that look the same."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from mask2former.check.facts import ImageFacts
from mask2former.check.findings import Finding, Place, finding
from mask2former.data.formats.format import WHOLE

UNIONS = {WHOLE, "trainval"}
"""Splits that repeat the images of others on purpose, where there are others."""
COPY_SIMILARITY = 0.9985
"""Correlation of two thumbnails from which pictures count as copies of one another.

Of a few hundred photos, copies at JPEG quality 30 or half the size lay above 0.999, different
photos below 0.85, and neighbouring frames of a moving camera below 0.998. Brightened copies (0.99)
are not told from neighbouring frames, and are missed."""
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


def find_copies(images: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Equal files and similar pictures, within splits and across them.

    Splits that are unions of others are left out. Frames of one video are similar by nature, and
    are compared with other videos only.

    Args:
        images: Of all splits.
    """
    if {image.split for image in images} - UNIONS:
        images = [image for image in images if image.split not in UNIONS]
    yield from _equal_files(images)
    for pair in similar_pairs(images):
        yield _similar(pair)


def _equal_files(images: Sequence[ImageFacts]) -> Iterator[Finding]:
    """A finding for each file beyond the first of its content."""
    by_digest: dict[bytes, list[ImageFacts]] = defaultdict(list)
    for image in images:
        if image.digest is not None:
            by_digest[image.digest].append(image)
    for alike in by_digest.values():
        seen: dict[str, ImageFacts] = {}
        for image in alike:
            other = next((seen[s] for s in seen if s != image.split), None)
            if other is not None:
                yield _leaked(other, image)
            elif image.split in seen:
                yield _doubled(seen[image.split], image)
            seen.setdefault(image.split, image)


def _leaked(first: ImageFacts, second: ImageFacts) -> Finding:
    same = first.file == second.file
    message = (
        f"{second.file} is in the splits {first.split} and {second.split}"
        if same
        else f"{second.file} of split {second.split} is the same file as {first.file} of "
        f"{first.split}"
    )
    return finding(
        "leaked image",
        f"{message}; scores on images that were trained on say nothing, so take it out of one",
        is_error=True,
        file=second.file,
        places=(place_of(first), place_of(second)),
    )


def _doubled(first: ImageFacts, second: ImageFacts) -> Finding:
    same = first.file == second.file
    return finding(
        "duplicate image",
        f"{second.file} is "
        + ("listed twice" if same else f"the same file as {first.file}")
        + f" in split {second.split}; it counts double, so take one out",
        is_error=False,
        file=second.file,
        places=(place_of(first), place_of(second)),
    )


def _similar(pair: Pair) -> Finding:
    first, second = pair.first, pair.second
    across = first.split != second.split
    message = (
        f"{second.file} of split {second.split} looks like {first.file}"
        f"{f' of {first.split}' if across else ''} (similarity {pair.similarity:.4f})"
    )
    return finding(
        "leaked image" if across else "similar image",
        f"{message}; if one is a copy of the other, "
        + ("take it out of one split" if across else "take one out"),
        is_error=False,
        file=second.file,
        places=(place_of(first), place_of(second)),
        weight=pair.similarity,
    )


def similar_pairs(images: Sequence[ImageFacts]) -> list[Pair]:
    """Pictures of different files and videos that look the same.

    Thumbnails are compared by correlation, so that brightness and contrast do not matter. Every
    image is named once at most, with the earlier one that it resembles most.
    """
    shown = [image for image in images if image.thumbnail is not None]
    signatures, has_contrast = thumbnail_signatures(shown)
    shown = [image for image, usable in zip(shown, has_contrast, strict=True) if usable]
    videos = [image.group or i for i, image in enumerate(shown)]
    contents = [image.digest for image in shown]
    best: dict[int, Pair] = {}
    for close in _close(signatures[has_contrast], _numbered(videos), _numbered(contents)):
        for earlier, later, similarity in zip(*(column.tolist() for column in close), strict=True):
            if later not in best or similarity > best[later].similarity:
                best[later] = Pair(shown[earlier], shown[later], similarity)
    return [best[later] for later in sorted(best)]


class Close(NamedTuple):
    """Pairs of positions, no later one twice."""

    earlier: NDArray[np.int64]
    later: NDArray[np.int64]
    similarity: NDArray[np.float32]


def _close(
    signatures: Float32[np.ndarray, "images pixels"],
    videos: NDArray[np.int64],
    contents: NDArray[np.int64],
) -> Iterator[Close]:
    """For the images, block by block, the one that each resembles most, from `COPY_SIMILARITY` on.

    Close points have close shadows on any axis: along the one that spreads them most, every point
    is compared with the few behind it that can be close enough. Images of one video or of equal
    content are not compared.
    """
    if len(signatures) < 2:
        return
    axis = np.linalg.eigh(signatures.T @ signatures)[1][:, -1]
    shadows = signatures @ axis
    order = np.argsort(shadows, kind="stable")
    shadows, signatures, videos, contents = (
        values[order] for values in (shadows, signatures, videos, contents)
    )
    radius = float(np.sqrt(2 - 2 * COPY_SIMILARITY)) + ROUNDING
    for start in range(0, len(order), ROWS_AT_ONCE):
        block = signatures[start : start + ROWS_AT_ONCE]
        farthest = shadows[start + len(block) - 1] + radius
        end = int(np.searchsorted(shadows, farthest, side="right"))
        similarities = block @ signatures[start:end].T
        rows, columns = np.nonzero(similarities >= COPY_SIMILARITY)
        first, second = rows + start, columns + start
        wanted = (videos[first] != videos[second]) & (contents[first] != contents[second])
        wanted &= rows < columns
        found = similarities[rows[wanted], columns[wanted]]
        yield _strongest(order[first[wanted]], order[second[wanted]], found)


def _strongest(
    one: NDArray[np.int64], other: NDArray[np.int64], similarity: NDArray[np.float32]
) -> Close:
    """Of every image, the pair with the most similar one before it."""
    earlier, later = np.minimum(one, other), np.maximum(one, other)
    by_strength = np.lexsort((earlier, -similarity, later))
    later = later[by_strength]
    kept = by_strength[np.flatnonzero(np.diff(later, prepend=-1))]
    return Close(earlier[kept], np.maximum(one, other)[kept], similarity[kept])


def _numbered(values: Sequence[object]) -> NDArray[np.int64]:
    """Equal values get equal numbers."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


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


def place_of(image: ImageFacts) -> Place:
    return Place(image.split, image.index)
