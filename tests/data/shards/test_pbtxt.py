from pathlib import Path

import pytest

from mask2former.data.shards.pbtxt import find_pbtxt, read_pbtxt, write_pbtxt
from mask2former.types import Classes


def test_names_with_quotes_and_braces_come_back(tmp_path: Path) -> None:
    names = ("cat", 'a "b" \\ c', "{ü} # 'x'\n")
    write_pbtxt(tmp_path / "label_map.pbtxt", Classes(names, (1, 5, 0), (True,) * 3))
    path = find_pbtxt(tmp_path)
    assert path is not None
    assert read_pbtxt(path) == {0: names[2], 1: names[0], 5: names[1]}


def test_usual_forms_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mscoco.pbtxt"
    path.write_text(
        "# a comment\nitem {\n  name: '/m/01g317'\n  id: 1\n  display_name: 'person'\n}\n"
        'item { id: 2 name: "dog" }\nitem: {\n id: 3,\n name: "cat",\n}\n'
    )
    assert find_pbtxt(tmp_path) == path
    assert read_pbtxt(path) == {1: "person", 2: "dog", 3: "cat"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no items"),
        ("item { id: 1 }", "needs an id and a name"),
        ("item { id: 1 name: 'a' }\nitem { id: 1 name: 'b' }", "id 1 occurs twice"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "label_map.pbtxt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pbtxt(path)
