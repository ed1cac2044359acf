"""Long lists in JSON files, read entry by entry, however large the file is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
"""Characters that are read at once."""
LONGEST_ENTRY = 1 << 26
"""Characters of one entry; more of what cannot be parsed is damaged."""
BLANKS = " \t\r\n"
GZIP = b"\x1f\x8b"


def iterate_list(path: Path) -> Iterator[Any]:
    """The entries, which are objects, of the list that a JSON file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no list, or is damaged from some place on.
    """
    text = _Text(path)
    if text.skip() != "[":
        raise ValueError(f"{path} does not begin with a list [...]; restore the file")
    text.position += 1
    following = text.skip()
    while following != "]":
        yield text.parse()
        following = text.skip()
        if following == ",":
            text.position += 1
            if text.skip() == "]":
                text.fail("an entry is missing")
        elif following != "]":
            text.fail("',' or ']' is missing")
    text.position += 1
    if text.skip():
        text.fail("something is behind the list")


def first_character(path: Path) -> str:
    """What a file begins with, blanks left out; nothing if it is empty.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text.
    """
    with path.open("rb") as file:
        if file.read(len(GZIP)) == GZIP:
            raise ValueError(f"{path} is compressed by gzip; unpack it first: gunzip -k {path}")
    return _Text(path).skip()


def describe_object(path: Path) -> str:
    """What a file with an object instead of a list is, told by its beginning, and what to do."""
    text = next(_chunks(path), "").lstrip(BLANKS)
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        end = len(text)
    if text[end:].lstrip(BLANKS).startswith("{"):
        return "an object on each line; put all of them in one list [{...}, {...}]"
    wrapped = re.match(r'\{\s*"(results|predictions|detections|annotations)"\s*:\s*\[', text)
    if wrapped:
        return f'an object {{"{wrapped[1]}": [...]}}; write the list alone'
    return "an object {...}, such as an annotation file; what was annotated is no result"


class _Text:
    """What is left of a file, of which only a part is in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self._chunks = _chunks(path)
        self._text = ""
        self._passed = 0
        self._decoder = json.JSONDecoder()

    def skip(self) -> str:
        """The next character that is no blank, which stays next; nothing at the end."""
        while True:
            rest = self._text[self.position : self.position + 1]
            if rest and rest not in BLANKS:
                return rest
            if rest:
                self.position += 1
            elif not self._read_on():
                return ""

    def parse(self) -> Any:
        """The value that begins here."""
        while True:
            try:
                value, self.position = self._decoder.raw_decode(self._text, self.position)
                return value
            except (ValueError, RecursionError) as error:
                # half an entry cannot be parsed either
                length = len(self._text) - self.position
                if length > LONGEST_ENTRY or not self._read_on(length):
                    self.fail(error.msg if isinstance(error, json.JSONDecodeError) else str(error))

    def fail(self, reason: str) -> None:
        raise ValueError(
            f"{self.path} is not valid JSON ({reason}, after character "
            f"{self._passed + self.position}); it is damaged or cut off: restore the file"
        )

    def _read_on(self, least: int = 0) -> bool:
        """Drop what was passed and read more, at least so many characters if there are."""
        parts, length = [self._text[self.position :]], 0
        for chunk in self._chunks:
            parts.append(chunk)
            length += len(chunk)
            if length > least:
                break
        self._passed += self.position
        self._text, self.position = "".join(parts), 0
        return length > 0


def _chunks(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path} ({error}); it is no JSON file in UTF-8") from error
