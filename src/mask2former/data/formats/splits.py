"""The names that data sets give to their parts."""

from collections.abc import Collection

SYNONYMS = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))


def resolve_split(wanted: str, available: Collection[str]) -> str:
    """The name in `available` that `wanted` means: itself, or a synonym such as valid for val.

    Raises:
        ValueError: There is none.
    """
    synonyms = next((names for names in SYNONYMS if wanted in names), ())
    for name in (wanted, *synonyms):
        if name in available:
            return name
    names = ", ".join(map(repr, available))
    raise ValueError(f"no split {wanted!r}; the data set has {names}, so name one of these")


def in_order(names: Collection[str]) -> list[str]:
    """Training, validation and test splits first, then the others by name."""
    usual = [name for synonyms in SYNONYMS for name in synonyms]
    return sorted(names, key=lambda n: (usual.index(n) if n in usual else len(usual), n))
