"""The class names that lie beside PNG masks, with the colours of colour-coded ones."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mask2former.data.class_tables import Color
from mask2former.data.formats.listing import is_file
from mask2former.data.formats.text_files import read_json, read_lines, read_yaml

FILE_NAMES = (
    "classes.json",
    "classes.yaml",
    "classes.yml",
    "class_dict.csv",
    "classes.csv",
    "_classes.csv",
    "labelmap.txt",
    "classes.txt",
)
ACCEPTED = (
    "a list of names, {'classes': [names]}, {pixel value: name} or "
    "{'classes': [{'name': name, 'id': pixel value, 'color': [r, g, b]}]}"
)


@dataclass(frozen=True)
class ClassList:
    """Names by pixel value, ascending."""

    names: dict[int, str]
    ignore_label: int | None = None
    """A pixel value that is no class and not scored, if the file names one."""
    colors: dict[int, Color] = field(default_factory=dict)
    """By pixel value, that to ignore included if it has one; empty or complete."""
    things: frozenset[int] = frozenset()
    """Pixel values of the classes that are said to be things."""


def find_class_list(*folders: Path, names: Sequence[str] = FILE_NAMES) -> Path | None:
    """The first file of these names, folder after folder."""
    candidates = (folder / name for folder in folders for name in names)
    return next((path for path in candidates if is_file(path)), None)


def read_class_list(path: Path) -> ClassList:
    """Read class names.

    Args:
        path: One of these, where a list counts from 0:

            - Text with a name a line.
            - JSON or YAML with a list of names, `{"classes": [names]}` (`"names"` is understood
              too) or `{pixel value: name}`. Instead of a name there may be `{"name": ..., "id":
              pixel value, "color": [r, g, b] or "#rrggbb", "isthing": 0 or 1}`, all but the name
              optional. Beside `"classes"`, `"palette"` or `"colors"` may list the colours, and
              `"ignore_label"` name a pixel value to ignore.
            - CSV with the header `name,r,g,b` (Kaggle's CamVid) or `Pixel Value, Class`
              (Roboflow).
            - `labelmap.txt` of CVAT: `name:r,g,b:parts:actions` a line, the colour optional.

    Raises:
        ValueError: The file is none of these.
    """
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix == ".txt":
        lines = read_lines(path)
        is_labelmap = path.name == "labelmap.txt" or all(line.count(":") >= 3 for line in lines)
        return _read_labelmap(lines, path) if is_labelmap else _number(lines, path)
    content = read_json(path) if path.suffix == ".json" else read_yaml(path)
    if not isinstance(content, dict):
        return _number(content, path)
    ignore_label = content.get("ignore_label")
    if ignore_label is not None and type(ignore_label) is not int:
        raise ValueError(f"{path}: ignore_label {ignore_label!r} is no pixel value; give one")
    classes = content.get("classes", content.get("names", content))
    return _number(classes, path, content.get("palette", content.get("colors")), ignore_label)


def _number(
    content: Any, path: Path, palette: object = None, ignore_label: int | None = None
) -> ClassList:
    """Classes by value; those of a list are counted from 0."""
    if isinstance(content, list):
        content = _by_value(content, path)
    try:
        if not isinstance(content, dict):
            raise TypeError
        entries = {
            int(value): entry if isinstance(entry, dict) else {"name": entry}
            for value, entry in content.items()
        }
    except (TypeError, ValueError):
        entries = {}
    named = all(isinstance(entry.get("name"), str) for entry in entries.values())
    if not entries or not named or min(entries) < 0:
        raise ValueError(f"{path} holds no class names; write {ACCEPTED}")
    entries = dict(sorted(entries.items()))
    return ClassList(
        names={value: entry["name"] for value, entry in entries.items()},
        ignore_label=ignore_label,
        colors=_colors(entries, palette, ignore_label, path),
        things=frozenset(value for value, entry in entries.items() if entry.get("isthing")),
    )


def _by_value(content: list, path: Path) -> dict[Any, Any]:
    entries: dict[Any, Any] = {}
    for position, entry in enumerate(content):
        value = entry.get("id", position) if isinstance(entry, dict) else position
        if value in entries:
            raise ValueError(f"{path}: two classes have the id {value}; give each its own")
        entries[value] = entry
    return entries


def _colors(
    entries: dict[int, dict], palette: object, ignore_label: int | None, path: Path
) -> dict[int, Color]:
    if palette is not None:
        if not isinstance(palette, list) or len(palette) < len(entries):
            raise ValueError(
                f"{path}: the palette is no list of {len(entries)} colours [r, g, b], one per "
                f"class; complete it or take it out"
            )
        for color, entry in zip(palette, entries.values(), strict=False):
            entry.setdefault("color", color)
    colored = [value for value, entry in entries.items() if entry.get("color") is not None]
    if not colored:
        return {}
    bare = [entry["name"] for value, entry in entries.items() if value not in colored]
    if bare:
        raise ValueError(
            f"{path}: class {bare[0]!r} has no colour, but {len(colored)} others have; give every "
            f"class one, or none"
        )
    colors = {value: _color(entry["color"], path) for value, entry in entries.items()}
    # a palette that goes on after the classes has the colour of what is ignored
    if isinstance(palette, list) and ignore_label is not None:
        rest, position = palette[len(entries) :], ignore_label - len(entries)
        if position in range(len(rest)):
            colors[ignore_label] = _color(rest[position], path)
    return _distinct(colors, path)


def _color(color: object, path: Path) -> Color:
    try:
        parts = bytes.fromhex(color.removeprefix("#")) if isinstance(color, str) else color
        if not isinstance(parts, bytes | list):
            raise TypeError
        red, green, blue = (int(part) for part in parts)
        if min(red, green, blue) < 0 or max(red, green, blue) > 255:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: {color!r} is no colour; write [r, g, b] in 0..255 or '#rrggbb'"
        ) from error
    return red, green, blue


def _distinct(colors: dict[int, Color], path: Path) -> dict[int, Color]:
    values: dict[Color, int] = {}
    for value, color in colors.items():
        if color in values:
            raise ValueError(
                f"{path}: the classes {values[color]} and {value} share the colour {color}; give "
                f"each class its own"
            )
        values[color] = value
    return colors


def _read_csv(path: Path) -> ClassList:
    rows = [[cell.strip() for cell in row] for row in csv.reader(read_lines(path)) if row]
    header = [cell.lower() for cell in rows[0]] if rows else []
    body = rows[1:]
    if any(len(row) < len(header) for row in body):
        raise ValueError(f"{path}: a line has fewer cells than the header {header}; complete it")
    if {"name", "r", "g", "b"} <= set(header):
        name, *rgb = (header.index(cell) for cell in ("name", "r", "g", "b"))
        content: object = [{"name": row[name], "color": [row[i] for i in rgb]} for row in body]
    elif {"pixel value", "class"} <= set(header):
        value, name = header.index("pixel value"), header.index("class")
        content = {row[value]: row[name] for row in body}
    else:
        raise ValueError(
            f"{path} begins with {','.join(header) or 'nothing'}; the first line names the "
            f"columns, 'name,r,g,b' or 'Pixel Value,Class'"
        )
    return _number(content, path)


def _read_labelmap(lines: list[str], path: Path) -> ClassList:
    entries = []
    for line in lines:
        if line.startswith("#"):
            continue
        name, color, *_ = [*line.rsplit(":", 3), ""]
        entries.append({"name": name, "color": color.split(",") if color else None})
    return _number(entries, path)
