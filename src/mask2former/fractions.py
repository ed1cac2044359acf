"""How the images of a data set are shared out to training and validation."""

import math
from collections.abc import Sequence
from typing import TypeAlias

Fractions: TypeAlias = tuple[float, ...]
"""Shares of the images for training and validation, and for testing where there are three."""


def check_fractions(fractions: Sequence[float]) -> Fractions:
    """The fractions as they are.

    Raises:
        ValueError: They are not two or three positive numbers that sum to 1.
    """
    given = tuple(fractions)
    if len(given) not in (2, 3) or min(given) <= 0 or not math.isclose(sum(given), 1):
        raise ValueError(
            f"split {format_fractions(given)}: the shares of the images for training and "
            f"validation, and for testing if there are three, are positive and sum to 1; write for "
            f"example 0.9/0.1"
        )
    return given


def parse_fractions(text: str) -> Fractions:
    """Reads `0.9/0.1`, or `90/10`, which is the same.

    Raises:
        ValueError: The text is not of this form, or as for `check_fractions`.
    """
    try:
        numbers = [float(word) for word in text.split("/")]
    except ValueError as error:
        raise ValueError(
            f"split {text}: not numbers with a / between them; write for example 0.9/0.1"
        ) from error
    is_percent = math.isclose(sum(numbers), 100)
    return check_fractions([number / 100 for number in numbers] if is_percent else numbers)


def format_fractions(fractions: Fractions) -> str:
    """As `parse_fractions` reads them."""
    return "/".join(f"{fraction:g}" for fraction in fractions)
