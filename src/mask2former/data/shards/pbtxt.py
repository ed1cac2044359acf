"""Names of classes beside TFRecords: `label_map.pbtxt` of the Object Detection API."""

import re
from pathlib import Path

from mask2former.types import Classes

NAMES = ("label_map.pbtxt", "labelmap.pbtxt")
_ITEM = re.compile(r"item\s*:?\s*\{(.*?)\}", re.DOTALL)
_FIELD = re.compile(r"""(\w+)\s*:\s*(-?\d+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t"}


def find_pbtxt(folder: Path) -> Path | None:
    """The label map of a folder: by its usual names, or the only `*.pbtxt`."""
    usual = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    others = sorted(folder.glob("*.pbtxt"))
    return usual or (others[0] if len(others) == 1 else None)


def read_pbtxt(path: Path) -> dict[int, str]:
    """Names by id, ascending; a `display_name` goes before a `name`, as the COCO map wants it.

    Raises:
        ValueError: There are no items, or one lacks its id or name, or an id occurs twice.
    """
    text = re.sub(r"^\s*#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names: dict[int, str] = {}
    for item in _items(text):
        fields = dict(_FIELD.findall(item))
        name = fields.get("display_name", fields.get("name"))
        if "id" not in fields or name is None:
            raise ValueError(
                f"{path}: item {{{' '.join(item.split())}}} needs an id and a name; add them"
            )
        if int(fields["id"]) in names:
            raise ValueError(f"{path}: id {fields['id']} occurs twice; give each item its own")
        names[int(fields["id"])] = _unquoted(name)
    if not names:
        raise ValueError(f"{path} has no items; write item {{ id: 1 name: 'cat' }} for each class")
    return dict(sorted(names.items()))


def write_pbtxt(path: Path, classes: Classes) -> None:
    """Write the classes as the Object Detection API reads them."""
    items = zip(classes.category_ids, classes.names, strict=True)
    text = "".join(f"item {{\n  id: {i}\n  name: {_quoted(name)}\n}}\n" for i, name in items)
    path.write_text(text, encoding="utf-8")


def _items(text: str) -> list[str]:
    """What stands between the braces; names may hold braces too."""
    hidden = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", lambda m: "x" * len(m[0]), text)
    return [text[m.start(1) : m.end(1)] for m in _ITEM.finditer(hidden)]


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), text[1:-1])
