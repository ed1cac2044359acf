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
            ClassList({0: "road"}, ignore_label=11, colors={0: (1, 2, 3)}),
        ),
        (
            # the palette goes on after the classes: the colour of what is ignored
            "classes.json",
            '{"classes": ["road", "car"], "ignore_label": 2, '
            '"colors": [[1, 1, 1], "#020202", [3, 3, 3]]}',
            ClassList({0: "road", 1: "car"}, 2, colors={0: (1, 1, 1), 1: (2, 2, 2), 2: (3, 3, 3)}),
        ),
        (
            "classes.json",
            '{"classes": [{"name": "car", "color": "#ff0080", "isthing": 1}, '
            '{"name": "road", "id": 7, "color": [9, 8, 7]}]}',
            ClassList(
                {0: "car", 7: "road"},
                colors={0: (255, 0, 128), 7: (9, 8, 7)},
                things=frozenset({0}),
            ),
        ),
        (
            "class_dict.csv",
            "name,r,g,b\nRoad, 128,64,128\nCar,64,0,128\n",
            ClassList({0: "Road", 1: "Car"}, colors={0: (128, 64, 128), 1: (64, 0, 128)}),
        ),
        # a spreadsheet wrote a mark at the beginning
        (
            "classes.csv",
            "\ufeffB,G,R,Name\n3,2,1,Road\n",
            ClassList({0: "Road"}, colors={0: (1, 2, 3)}),
        ),
        (
            "_classes.csv",
            "Pixel Value, Class\n0, background\n2, road\n",
            ClassList({0: "background", 2: "road"}),
        ),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntv: large:128,0,64:leg,arm:\n",
            ClassList({0: "background", 1: "tv: large"}, colors={0: (0, 0, 0), 1: (128, 0, 64)}),
        ),
        ("labelmap.txt", "road:::\ncar:::\n", ClassList({0: "road", 1: "car"})),
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


def test_folders_are_looked_into_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "_classes.csv").touch()
    assert find_class_list(tmp_path, tmp_path / "split") == tmp_path / "split" / "_classes.csv"
    (tmp_path / "names.txt").touch()
    assert find_class_list(tmp_path, names=("names.txt",)) == tmp_path / "names.txt"


@pytest.mark.parametrize("text", ["[]", "3", "{}", "[1, 2]", '{"a": "b"}', '{"-1": "b"}'])
def test_file_without_names_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"classes\.json holds no class names; write a list"):
        read_class_list(path)


@pytest.mark.parametrize(("name", "text"), [("a.json", "["), ("a.yaml", "a: [")])
def test_broken_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name} is not valid (JSON|YAML) .*; (restore|correct)"):
        read_class_list(tmp_path / name)


def test_ignore_label_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('{"classes": ["a"], "ignore_label": "b"}')
    with pytest.raises(ValueError, match="ignore_label 'b' is no pixel value; give one"):
        read_class_list(tmp_path / "classes.json")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"name": "a", "id": 3}, {"name": "b", "id": 3}]', "two classes have the id 3"),
        (
            "a.json",
            '[{"name": "a", "color": [1, 2, 3]}, {"name": "b"}]',
            "class 'b' has no colour, but 1 others have",
        ),
        (
            "a.json",
            '[{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": "#010203"}]',
            r"the classes 0 and 1 share the colour \(1, 2, 3\); give each class its own",
        ),
        ("a.json", '[{"name": "a", "color": [1, 2, 256]}]', r"\[1, 2, 256\] is no colour; write"),
        ("a.json", '[{"name": "a", "color": [1, 2]}]', r"\[1, 2\] is no colour; write"),
        ("a.json", '[{"name": "a", "color": "red"}]', "'red' is no colour; write"),
        ("a.json", '{"classes": ["a", "b"], "palette": [[1, 2, 3]]}', "no list of 2 colours"),
        ("a.csv", "name,red\na,1\n", "begins with name,red; the first line names the columns"),
        ("a.csv", "", "begins with nothing; the first line names the columns"),
        ("a.csv", "name,r,g,b\na,1,2\n", "a line has fewer cells than the header"),
        ("labelmap.txt", "a:1,2::\n", r"is no colour; write"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_list(tmp_path / name)


def test_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("Straße".encode("latin-1"))
    with pytest.raises(ValueError, match=r"cannot read .*classes\.txt .* save it as UTF-8"):
        read_class_list(tmp_path / "classes.txt")
