"""The largest number of images that fits, by as few trials as it takes."""

import sys
from collections.abc import Callable
from typing import NamedTuple

from mask2former.byte_sizes import format_size


class Fit(NamedTuple):
    """How many images go through the model together."""

    images: int
    """0: not even one."""
    bytes: int | None
    """What they take; of one image where none fits."""
    told: tuple[str, ...]
    """How that was found."""


def largest_that_fits(need: Callable[[int], int | None], room: int, most: int) -> Fit:
    """The largest number of images whose need is not above the room.

    Trials of one and two images make a line, and a third confirms what it predicts. Where it does
    not, halving finds the number between those that fit and those that do not.

    Args:
        need: Bytes of a number of images; none: more than there are.
        room: Bytes.
        most: Images, at least 1.
    """
    told: list[str] = []
    needs: dict[int, int | None] = {}

    def fits(images: int) -> bool:
        found = needs[images] = need(images)
        told.append(f"{count_images(images)}: {tell_need(found)}, {tell_verdict(found, room)}")
        return is_within(found, room)

    is_possible = fits(1)
    first = needs[1]
    if not is_possible or first is None:
        return Fit(0, first, tuple(told))
    if most == 1 or not fits(2):
        return Fit(1, first, tuple(told))
    good, bad, is_line = 2, most + 1, True
    while good + 1 < bad:
        trial = (good + bad) // 2
        if is_line:
            known = needs[good]
            assert known is not None
            trial = min(_predict(first, known, good, room), most)
            if trial <= good:
                break
            each = format_size((known - first) / (good - 1))
            told.append(f"{each} for every further image: {count_images(trial)} should fit")
        if fits(trial):
            good = trial
        else:
            bad, is_line = trial, False
    return Fit(good, needs[good], tuple(told))


def _predict(first: int, known: int, images: int, room: int) -> int:
    """How many images fit, by a line through the needs of one and of several."""
    rise = known - first
    return sys.maxsize if rise <= 0 else 1 + (room - first) * (images - 1) // rise


def is_within(need: int | None, room: int) -> bool:
    return need is not None and need <= room


def tell_verdict(need: int | None, room: int) -> str:
    if is_within(need, room):
        return "fits"
    shown = format_size(max(room, 0))
    is_close = need is not None and format_size(need) == shown
    short = f", {format_size(need - room)} short" if is_close else ""
    return f"does not fit into {shown}{short}"


def tell_need(need: int | None) -> str:
    return "more than there is" if need is None else format_size(need)


def count_images(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"
