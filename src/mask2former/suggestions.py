"""The sentence that follows a misspelt name."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, accepted: Iterable[str]) -> str:
    """The closest accepted name as a question, or all of them when none is close.

    Returns:
        Without capital letter and full stop, to be put after "; ".
    """
    names = [str(candidate) for candidate in accepted]
    by_spelling = {_plain(candidate): candidate for candidate in names}
    close = get_close_matches(_plain(name), by_spelling, n=1, cutoff=0.5)
    if close:
        return f"did you mean {by_spelling[close[0]]}?"
    return f"accepted: {', '.join(names)}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
