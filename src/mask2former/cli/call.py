"""The call that is running, so that other processes can be started with the same words."""

from collections.abc import Sequence
from contextvars import ContextVar

WORDS: ContextVar[Sequence[str]] = ContextVar("WORDS")
"""As typed, without the program's name."""
