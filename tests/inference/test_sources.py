"""Which images are meant."""

from pathlib import Path

import pytest

from mask2former.inference.sources import find_images, unique_stems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "below/c.webp", "empty/readme.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_stands_for_the_images_directly_in_it(folder) -> None:
    assert find_images([folder]) == [folder / "a.png", folder / "b.JPG"]


def test_a_pattern_stands_for_the_images_that_it_matches(folder) -> None:
    assert find_images([f"{folder}/**/*"]) == [
        folder / "a.png",
        folder / "b.JPG",
        folder / "below/c.webp",
    ]


def test_the_order_is_as_given_and_each_image_comes_once(folder) -> None:
    sources = [folder / "below", str(folder / "b.JPG"), folder]
    assert find_images(sources) == [folder / "below/c.webp", folder / "b.JPG", folder / "a.png"]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("gone.png", FileNotFoundError, "nothing is at .*gone.png; give images, folders"),
        ("*.bmp", FileNotFoundError, "nothing matches .*bmp'; correct the pattern"),
        ("*.txt", ValueError, "no image is among what .*txt' matches; accepted are .bmp .jpeg"),
        ("empty", ValueError, r"no image lies in folder .*empty; .*give the pattern .*/\*\*/\*'"),
        ("notes.txt", ValueError, "notes.txt is not an image file; accepted are"),
    ],
)
def test_what_is_no_image_is_refused(folder, source, error, message) -> None:
    with pytest.raises(error, match=message):
        find_images([folder / "a.png", folder / source])


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path) -> None:
    path = tmp_path / "photo[1].png"
    path.touch()
    assert find_images([str(path)]) == [path]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.png", "x/b.png"], ["a", "b"]),
        (["x/a.png", "y/a.png"], ["x_a", "y_a"]),
        (["x/a.png", "x/a.jpg"], ["x_a", "x_a_jpg"]),
        (["x/a.png", "y/A.png"], ["x_a", "y_A"]),
        (["a.png", "a.jpg"], ["a", "a_jpg"]),
        (["x/a.png", "y/a.png", "z/x_a.png"], ["x_a_png", "y_a", "x_a"]),
        (["p/x/a.png", "q/x/a.png", "r/x/a.png"], ["x_a", "x_a_png", "x_a_png_2"]),
    ],
)
def test_every_image_gets_a_name_of_its_own(paths, names) -> None:
    assert unique_stems([Path(path) for path in paths]) == names
