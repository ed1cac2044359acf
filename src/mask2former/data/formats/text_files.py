"""Small files of a data set that are read as a whole: lists of names, JSON, YAML."""

import json
from pathlib import Path
from typing import Any

import yaml


def read_text(path: Path) -> str:
    """The text of a file, without the mark that spreadsheets write at the beginning.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path} ({error}); save it as UTF-8") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a file without the blanks around them; empty ones are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text in UTF-8.
    """
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line]


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore the file") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, or no object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a JSON {type(content).__name__}; an object {{...}} is expected: restore "
            f"the file"
        )
    return content


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML.
    """
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())  # YAML's spans lines
        raise ValueError(f"{path} is not valid YAML ({reason}); correct its syntax") from error
