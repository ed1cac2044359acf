"""Outlines of masks: polygons along pixel edges, which fill to exactly the same mask.

pycocotools tests whether the centre of a pixel is inside, by the even-odd rule within a polygon
and as a union over the polygons of an object. Corners at whole pixels therefore lose nothing, and
a line that is drawn there and back cancels out: it can lead to a hole or to another part.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy.spatial import KDTree

from mask2former.masks.polygons import Polygons

FALLING, RISING = 1, 2
"""Diagonals of inside pixels at a point where four regions meet: left to right, as on screen."""


def mask_outlines(mask: Bool[np.ndarray, "h w"]) -> tuple[Float64[np.ndarray, "n 2"], ...]:
    """One polygon for each part of a mask; parts that touch at a corner only are two.

    A hole is reached by a vertical line down from the edge above it, drawn there and back.

    Returns:
        Corners (x, y) at whole pixels, outlines clockwise on screen; rasterised by pycocotools the
        mask again, bit by bit. Empty for an empty mask.
    """
    if not mask.any():
        return ()
    top, bottom = _extent(mask, axis=0)
    left, right = _extent(mask, axis=1)
    shift = np.array([left, top])
    mask = mask[top:bottom, left:right]
    points, across, along = _corners(mask)
    outlines, holes = [], []
    for ring in _rings(across, along):
        x, y = points[ring[0]]
        # a ring begins at its upper left corner, so the pixel below and right of it is within
        (outlines if mask[y, x] else holes).append(ring)
    joined = _reach_holes(points, outlines, holes)
    return tuple((np.array(ring) + shift).astype(np.float64) for ring in joined)


def join_polygons(polygons: Polygons) -> Float64[np.ndarray, "n 2"]:
    """One closed line through all parts, each reached from the nearest corner and left again.

    Where parts overlap, the even-odd rule makes a hole of what they share.

    Args:
        polygons: At least one, each (n, 2).
    """
    joined = np.asarray(polygons[0], np.float64)
    for part in polygons[1:]:
        distances, nearest = KDTree(joined).query(part)
        start = int(np.argmin(distances))
        anchor = int(nearest[start])
        around = np.concatenate([part[start:], part[: start + 1]])
        joined = np.concatenate([joined[: anchor + 1], around, joined[anchor:]])
    return joined


def _extent(mask: Bool[np.ndarray, "h w"], *, axis: int) -> tuple[int, int]:
    """First position on an axis that is inside, and the one after the last."""
    used = np.flatnonzero(mask.any(axis=1 - axis))
    return int(used[0]), int(used[-1]) + 1


def _corners(
    mask: Bool[np.ndarray, "h w"],
) -> tuple[Int64[np.ndarray, "n 2"], NDArray[np.intp], NDArray[np.intp]]:
    """Corner points (x, y), in the order of reading, and the other end of both edges of each.

    Of the corners in one line, the first and second are joined by an edge, the third and fourth,
    and so on. A point where two regions touch is two corners.
    """
    square = np.pad(mask, 1).astype(np.uint8)
    upper, lower = square[:-1], square[1:]
    num_inside = upper[:, :-1] + upper[:, 1:] + lower[:, :-1] + lower[:, 1:]
    diagonal = (num_inside == 2) & (upper[:, :-1] == lower[:, 1:])
    y, x = np.nonzero((num_inside % 2 == 1) | diagonal)
    touching = np.where(diagonal[y, x], np.where(upper[y, x], FALLING, RISING), 0)
    copies = np.where(touching > 0, 2, 1)
    first_of = np.cumsum(copies) - copies
    x, y, touching = (np.repeat(values, copies) for values in (x, y, touching))
    second = np.arange(len(x)) - np.repeat(first_of, copies)
    # the first copy ends the edge from the left; the edge from above it ends too where the inside
    # pixel is upper left, otherwise that is the edge of the second copy
    rank_in_column = np.where(touching == RISING, 1 - second, second)
    down = np.lexsort((rank_in_column, y, x))
    across, along = np.empty(len(x), np.intp), np.empty(len(x), np.intp)
    reading = np.arange(len(x))
    across[reading[::2]], across[reading[1::2]] = reading[1::2], reading[::2]
    along[down[::2]], along[down[1::2]] = down[1::2], down[::2]
    return np.stack([x, y], axis=1), across, along


def _rings(across: NDArray[np.intp], along: NDArray[np.intp]) -> list[list[int]]:
    """Corners of each closed line, from its first in the order of reading, then to the right."""
    steps = (across.tolist(), along.tolist())
    seen = [False] * len(across)
    rings = []
    for start in range(len(across)):
        if seen[start]:
            continue
        ring, corner, turn = [], start, 0
        while not seen[corner]:
            seen[corner] = True
            ring.append(corner)
            corner = steps[turn][corner]
            turn = 1 - turn
        rings.append(ring)
    return rings


def _reach_holes(
    points: Int64[np.ndarray, "n 2"], outlines: list[list[int]], holes: list[list[int]]
) -> list[list[tuple[int, int]]]:
    """The points of the outlines, with a line to each hole and back where it lies below an edge.

    Holes run against the outlines, so that the non-zero winding rule fills the same pixels.
    """
    rings = [*outlines, *(hole[:1] + hole[:0:-1] for hole in holes)]
    lines = [[(x, y) for x, y in points[ring].tolist()] for ring in rings]
    if not holes:
        return lines
    detours: list[dict[int, list[list[tuple[int, int]]]]] = [{} for _ in rings]
    places = _edges_above(points, rings, [hole[0] for hole in holes])
    # a hole hangs on a line that begins higher, so from the lowest on each is complete in its turn
    for i in sorted(range(len(holes)), key=lambda i: -points[holes[i][0], 1]):
        around = _with_detours(lines[len(outlines) + i], detours[len(outlines) + i])
        ring, position, height = places[i]
        leave = (around[0][0], height)
        detour = [leave, *around, around[0], leave]
        detours[ring].setdefault(position, []).append(detour)
    return [_with_detours(lines[i], detours[i]) for i in range(len(outlines))]


def _with_detours(
    line: list[tuple[int, int]], detours: dict[int, list[list[tuple[int, int]]]]
) -> list[tuple[int, int]]:
    """Insert detours after the corners at the given positions, in the direction of the edge."""
    complete = []
    for position, corner in enumerate(line):
        complete.append(corner)
        if position in detours:
            goes_left = line[(position + 1) % len(line)][0] < corner[0]
            for detour in sorted(detours[position], key=lambda d: d[0][0], reverse=goes_left):
                complete.extend(detour)
    return complete


def _edges_above(
    points: Int64[np.ndarray, "n 2"], rings: list[list[int]], corners: list[int]
) -> list[tuple[int, int, int]]:
    """(ring, position of its corner, y) of the edge next above each corner, to the right of it."""
    flat = np.concatenate(rings)
    after = np.concatenate([np.roll(ring, -1) for ring in rings])
    ring_ids = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    positions = np.concatenate([np.arange(len(ring)) for ring in rings])
    level = np.flatnonzero(points[flat, 1] == points[after, 1])
    left = np.minimum(points[flat[level], 0], points[after[level], 0])
    lengths = np.abs(points[flat[level], 0] - points[after[level], 0])
    # every edge cut into pieces one pixel long, sorted by column and then by height
    columns = np.repeat(left - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    pieces = np.repeat(level, lengths)
    stride = points[:, 1].max() + 1
    keys = columns * stride + points[flat[pieces], 1]
    order = np.argsort(keys)
    wanted = points[corners, 0] * stride + points[corners, 1]
    above = pieces[order[np.searchsorted(keys[order], wanted) - 1]]
    heights = points[flat[above], 1]
    return list(
        zip(ring_ids[above].tolist(), positions[above].tolist(), heights.tolist(), strict=True)
    )
