from collections.abc import Callable
from pathlib import Path

import pytest

from mask2former.data.formats.text_files import (
    read_json,
    read_json_object,
    read_lines,
    read_yaml,
)


def write(folder: Path, content: bytes) -> Path:
    (folder / "file").write_bytes(content)
    return folder / "file"


def test_lines_are_stripped_and_empty_ones_left_out(tmp_path: Path) -> None:
    # a spreadsheet's mark at the beginning, and ends of lines as Windows writes them
    path = write(tmp_path, b"\xef\xbb\xbf one \r\n\r\n\ttwo words\n")
    assert read_lines(path) == ["one", "two words"]


def test_json_may_hold_anything_or_has_to_be_an_object(tmp_path: Path) -> None:
    path = write(tmp_path, b'\xef\xbb\xbf["\xc3\xbc"]')
    assert read_json(path) == ["ü"]
    with pytest.raises(ValueError, match=r"file holds a JSON list; an object \{\.\.\.\} is exp"):
        read_json_object(path)


def test_yaml_is_read(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path, b"names: [a, 2]")) == {"names": ["a", 2]}


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{]", b"\xff\xfe\xfa"])
@pytest.mark.parametrize(("read", "kind"), [(read_json, "JSON"), (read_yaml, "YAML")])
def test_damage_is_named_with_its_file(
    tmp_path: Path, read: Callable, kind: str, content: bytes
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=rf"{path} is not valid {kind} "):
        read(path)


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .* save it as UTF-8"):
        read_lines(write(tmp_path, "Bär".encode("latin-1")))


@pytest.mark.parametrize("read", [read_lines, read_json, read_json_object, read_yaml])
def test_a_missing_file_is_told_as_such(tmp_path: Path, read: Callable) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone")
