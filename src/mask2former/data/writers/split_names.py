"""Names of splits in formats that find only some."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.splits import SYNONYMS, means
from mask2former.data.writers.losses import Losses

USUAL = tuple(name for names in SYNONYMS for name in names)


def found_names(
    splits: Mapping[str, Any],
    losses: Losses,
    *,
    accepted: Sequence[str] = USUAL,
    alone: str = WHOLE,
) -> dict[str, str]:
    """For each split the name by which readers of the format find it.

    Args:
        splits: By name.
        losses: Is told of other names.
        accepted: By the format.
        alone: The name for the only split, if its own is not accepted.

    Raises:
        ValueError: Names of several splits are not accepted.
    """
    names = {split: _accepted_name(split, accepted) for split in splits}
    if len(names) == 1:
        names = {split: name or alone for split, name in names.items()}
    unknown = [split for split, name in names.items() if name is None]
    if unknown or len(set(names.values())) < len(names):
        raise ValueError(
            f"the splits {', '.join(map(repr, splits))} are not all found in this format, which "
            f"looks for {', '.join(accepted)}; rename them, or convert to coco-instance"
        )
    found = {split: name for split, name in names.items() if name is not None}
    changed = sum(split != name for split, name in found.items())
    losses.add("splits", f"splits are called {' and '.join(found.values())}", changed)
    return found


def _accepted_name(split: str, accepted: Collection[str]) -> str | None:
    return split if split in accepted else next((n for n in accepted if means(split, n)), None)
