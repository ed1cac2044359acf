"""Class names on pictures, in whatever script they are written."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font

FAMILY = "DejaVu Sans"
"""Comes with matplotlib; has Latin, Greek, Cyrillic, Hebrew and Arabic letters."""
PLACEHOLDERS = "Last Resort"
"""Beginning of the names of fonts that have boxes for all characters and letters for none."""
LONGEST = 26
"""Characters of a name that are shown."""


class Lettering(NamedTuple):
    """How names are written."""

    texts: list[str]
    """One per name, on one line and not too long."""
    families: list[str]
    """Fonts that have all their characters together; a character's first one counts."""
    is_numbered: bool
    """Whether a name is missing, because no installed font has its characters."""


def letter(names: Sequence[str]) -> Lettering:
    """Make names fit to be drawn.

    Args:
        names: A name that no installed font can write is given as "#" and its place, from 1.
    """
    lines = [_shortened(" ".join(name.split())) for name in names]
    families, lacking = _families({character for line in lines for character in line})
    texts = [
        line if lacking.isdisjoint(line) and line else _numbered(line, place, lacking)
        for place, line in enumerate(lines, start=1)
    ]
    return Lettering(texts, families, texts != lines)


def _shortened(text: str) -> str:
    """Both ends are kept, since names often differ in one of them."""
    if len(text) <= LONGEST:
        return text
    half = (LONGEST - 1) // 2
    return f"{text[:half].rstrip()}…{text[-half:].lstrip()}"


def _numbered(line: str, place: int, lacking: set[str]) -> str:
    rest = "".join(character for character in line if character not in lacking).strip()
    return f"#{place} {rest}".rstrip()


def _families(characters: set[str]) -> tuple[list[str], set[str]]:
    """Fonts that have the characters, and the characters that none has."""
    families = [FAMILY]
    lacking = characters - _covered(fontManager.findfont(FAMILY), characters)
    for font in _regular_fonts(fontManager.ttflist):
        if not lacking:
            break
        found = _covered(font.fname, lacking)
        if found:
            families.append(font.name)
            lacking -= found
    return families, lacking


def _regular_fonts(fonts: Iterable[FontEntry]) -> list[FontEntry]:
    """One a family, by name, so that every run takes the same ones."""
    by_name = {
        font.name: font
        for font in fonts
        if (font.style, font.weight) in (("normal", 400), ("normal", "normal"))
        and not font.name.startswith((PLACEHOLDERS, FAMILY))
    }
    return [by_name[name] for name in sorted(by_name)]


def _covered(path: str, characters: set[str]) -> set[str]:
    """Those of the characters that a font can draw."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # gone since it was listed, or made of pictures
        return set()
    codes = font.get_charmap() if font.scalable else {}
    return {character for character in characters if ord(character) in codes}
