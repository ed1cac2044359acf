from pathlib import Path

import pytest

from mask2former.data.formats.class_list import ClassList, find_class_list, read_class_list


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("classes.txt", "road\n\n car \n", ClassList({0: "road", 1: "car"})),
        ("classes.json", '["road", "car"]', ClassList({0: "road", 1: "car"})),
        (
            "classes.json",
            '{"classes": ["road"], "ignore_label": 11, "palette": [[1, 2, 3]]}',
            ClassList({0: "road"}, ignore_label=11),
        ),
        ("classes.json", '{"5": "car", "2": "road"}', ClassList({2: "road", 5: "car"})),
        ("classes.yaml", "- road\n- car\n", ClassList({0: "road", 1: "car"})),
        ("classes.yaml", "names:\n  3: car\n  1: road\n", ClassList({1: "road", 3: "car"})),
        ("classes.yml", "0: road\n7: car\n", ClassList({0: "road", 7: "car"})),
    ],
)
def test_every_form_gives_names_by_value(
    tmp_path: Path, name: str, text: str, expected: ClassList
) -> None:
    (tmp_path / name).write_text(text)
    path = find_class_list(tmp_path)
    assert path == tmp_path / name
    classes = read_class_list(path)
    assert classes == expected
    assert list(classes.names) == sorted(classes.names)


def test_folder_without_a_list_has_none(tmp_path: Path) -> None:
    assert find_class_list(tmp_path) is None


@pytest.mark.parametrize("text", ["[]", "3", "{}", "[1, 2]", '{"a": "b"}', '{"-1": "b"}'])
def test_file_without_names_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"classes\.json holds no class names; write a list"):
        read_class_list(path)


@pytest.mark.parametrize(("name", "text"), [("a.json", "["), ("a.yaml", "a: [")])
def test_broken_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"cannot read .*{name} .* correct its syntax"):
        read_class_list(tmp_path / name)


def test_ignore_label_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('{"classes": ["a"], "ignore_label": "b"}')
    with pytest.raises(ValueError, match="ignore_label 'b' is no pixel value; give one"):
        read_class_list(tmp_path / "classes.json")
