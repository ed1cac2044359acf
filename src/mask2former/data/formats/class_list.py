"""The class names that lie beside PNG masks: `classes.json`, `.yaml` or `.txt`."""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE_NAMES = ("classes.json", "classes.yaml", "classes.yml", "classes.txt")


@dataclass(frozen=True)
class ClassList:
    """Names by pixel value."""

    names: dict[int, str]
    ignore_label: int | None = None
    """A pixel value that is no class and not scored, if the file names one."""


def find_class_list(folder: Path) -> Path | None:
    return next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)


def read_class_list(path: Path) -> ClassList:
    """Read class names.

    Args:
        path: Text with a name a line; or JSON or YAML with a list of names, `{"classes": [names]}`
            (`"names"` is understood too) or `{pixel value: name}`. A list counts from 0.
            `"ignore_label"` beside `"classes"` is a pixel value to ignore.

    Raises:
        ValueError: The file is none of these.
    """
    if path.suffix == ".txt":
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        return ClassList(_number([line for line in lines if line], path))
    content = _parse(path)
    ignore_label = None
    if isinstance(content, dict):
        ignore_label = content.get("ignore_label")
        if ignore_label is not None and type(ignore_label) is not int:
            raise ValueError(f"{path}: ignore_label {ignore_label!r} is no pixel value; give one")
        content = content.get("classes", content.get("names", content))
    return ClassList(_number(content, path), ignore_label)


def _parse(path: Path) -> object:
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # YAML's spans lines
        raise ValueError(f"cannot read {path} ({reason}); correct its syntax") from error


def _number(content: object, path: Path) -> dict[int, str]:
    if isinstance(content, list):
        content = dict(enumerate(content))
    try:
        if not isinstance(content, dict):
            raise TypeError
        names = {int(value): name for value, name in content.items()}
    except (TypeError, ValueError):
        names = {}
    if not names or not all(isinstance(name, str) for name in names.values()) or min(names) < 0:
        raise ValueError(
            f"{path} holds no class names; write a list of names, {{'classes': [names]}} or "
            f"{{pixel value: name}}"
        )
    return dict(sorted(names.items()))
