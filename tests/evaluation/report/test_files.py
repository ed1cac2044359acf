"""Tables that programs can read back, and pictures that can be read."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib.tables._g_l_y_f import Glyph
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

from mask2former.evaluation.evaluate import Evaluation
from mask2former.evaluation.report import charts
from mask2former.evaluation.report.confused import OTHER, most_confused
from mask2former.evaluation.report.files import write_report
from mask2former.evaluation.report.lettering import letter
from mask2former.evaluation.summary import Confusion

NAMES = ("a, b", 'say "c"', "two\nlines", "re\rturn", "= sum")
UNREADABLE = "\u81ea\u8ee2\u8eca"
"""A bicycle, in characters that matplotlib's own fonts do not have."""


def some_confusion(num_classes, seed=0, names=None, unknown=False):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 1000, (num_classes + 1, num_classes))
    pixels[np.arange(num_classes), np.arange(num_classes)] += 10_000
    pixels[-1] *= unknown
    return Confusion(tuple(names or (f"class {i}" for i in range(num_classes))), pixels)


def some_curves(num_classes, seed=0, names=None):
    generator = np.random.default_rng(seed)
    values = np.sort(generator.random((num_classes, 10, 101)))[..., ::-1]
    return dict(zip(names or [f"class {i}" for i in range(num_classes)], values, strict=True))


def evaluation(confusion=None, curves=None, metrics=None, per_class=None, per_category=None):
    return Evaluation(
        "panoptic",
        7,
        metrics or {"PQ": 100 / 3, "APl": math.nan},
        per_class or {},
        {"images_per_second": 2.5},
        per_category=per_category or {},
        confusion=confusion,
        curves=curves or {},
    )


def read_table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that would be saved from now on; they are laid out, but not painted."""
    figures = []

    def save(figure, *_, **__):
        figure.draw_without_rendering()
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", save)
    return figures


@pytest.fixture
def unpainted(monkeypatch) -> None:
    """Pictures are files that say so, which takes no time."""
    for name in ("draw_confusion", "draw_precision_recall"):
        monkeypatch.setattr(charts, name, lambda _, __, path: path.write_bytes(b"a picture"))


def texts(figure):
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


def test_a_report_has_a_table_and_a_picture_of_everything(tmp_path: Path) -> None:
    files = write_report(tmp_path / "new" / "folder", evaluation(some_confusion(3), some_curves(2)))
    assert [path.name for path in files.paths] == [
        "metrics.json",
        "metrics.csv",
        "per_class.csv",
        "confusion.csv",
        "confusion.png",
        "precision_recall.csv",
        "precision_recall.png",
    ]
    assert files.notes == ()
    assert sorted(files.paths) == sorted((tmp_path / "new" / "folder").resolve().iterdir())


@pytest.mark.usefixtures("unpainted")
def test_the_json_file_is_what_the_evaluation_says(tmp_path: Path) -> None:
    result = evaluation(some_confusion(2), per_class={"x": {"IoU": 50.0, "AP": math.nan}})
    write_report(tmp_path, result)
    content = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert content == result.as_json()
    assert content["per_class"] == {"x": {"IoU": 50.0, "AP": None}}


def test_tables_keep_every_digit_and_leave_undefined_cells_empty(tmp_path: Path) -> None:
    per_class = {
        name: {"IoU": i / 7, "AP": math.nan if i else 1e-17} for i, name in enumerate(NAMES)
    }
    per_class["stuff"] = {"PQ": 12.0}
    write_report(tmp_path, evaluation(per_class=per_class))
    assert read_table(tmp_path / "metrics.csv") == [
        ["metric", "percent"],
        ["PQ", str(100 / 3)],
        ["APl", ""],
    ]
    header, *rows = read_table(tmp_path / "per_class.csv")
    assert header == ["class", "IoU", "AP", "PQ"]
    assert [row[0] for row in rows] == [*NAMES, "stuff"]
    assert [float(row[1]) for row in rows[:-1]] == [i / 7 for i in range(len(NAMES))]
    assert [row[2] for row in rows] == ["1e-17", "", "", "", "", ""]
    assert rows[-1] == ["stuff", "", "", "12.0"]


def test_categories_have_a_table_of_their_own(tmp_path: Path) -> None:
    per_category = {"sky": {"IoU": 90.5}, "human": {"IoU": 60.0, "iIoU": 40.25}}
    files = write_report(tmp_path, evaluation(per_category=per_category))
    assert [path.name for path in files.paths[2:]] == ["per_class.csv", "per_category.csv"]
    assert read_table(tmp_path / "per_category.csv") == [
        ["category", "IoU", "iIoU"],
        ["sky", "90.5", ""],
        ["human", "60.0", "40.25"],
    ]
    write_report(tmp_path, evaluation())
    assert not (tmp_path / "per_category.csv").exists()


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize("unknown", [False, True])
def test_the_table_of_confusions_has_a_row_for_each_true_class(tmp_path: Path, unknown) -> None:
    confusion = some_confusion(len(NAMES), names=NAMES, unknown=unknown)
    write_report(tmp_path, evaluation(confusion))
    (corner, *predicted), *rows = read_table(tmp_path / "confusion.csv")
    assert corner == "pixels: true class / predicted class"
    assert predicted == [*NAMES, OTHER][: len(NAMES) + unknown]
    assert [name for name, *_ in rows] == list(NAMES)
    counts = np.array([row[1:] for row in rows], np.int64)
    np.testing.assert_array_equal(counts, confusion.pixels.T[:, : len(predicted)])


@pytest.mark.usefixtures("unpainted")
def test_the_table_of_curves_averages_to_the_precision(tmp_path: Path) -> None:
    curves = some_curves(len(NAMES), names=NAMES)
    curves["never true"] = np.full((10, 101), np.nan)
    write_report(tmp_path, evaluation(curves=curves))
    header, *rows = read_table(tmp_path / "precision_recall.csv")
    assert header == ["class", "IoU", *(f"precision at recall {i} %" for i in range(101))]
    assert [row[1] for row in rows[:10]] == [f"0.{50 + 5 * i}" for i in range(10)]
    for i, (name, curve) in enumerate(curves.items()):
        of_class = rows[10 * i : 10 * i + 10]
        assert {row[0] for row in of_class} == {name}
        if name == "never true":
            assert {cell for row in of_class for cell in row[2:]} == {""}
        else:  # four decimals are kept
            cells = np.array([row[2:] for row in of_class], float)
            np.testing.assert_allclose(cells, 100 * curve, atol=5.1e-5)


@pytest.mark.usefixtures("unpainted")
def test_files_that_an_evaluation_lacks_go_and_others_stay(tmp_path: Path) -> None:
    write_report(tmp_path, evaluation(some_confusion(3), some_curves(2)))
    (tmp_path / "predictions.jsonl").write_text("kept")
    write_report(tmp_path, evaluation(some_confusion(3)))
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json",
        "metrics.csv",
        "per_class.csv",
        "confusion.csv",
        "confusion.png",
        "predictions.jsonl",
    }


def test_nothing_is_drawn_of_what_is_empty(tmp_path: Path) -> None:
    nothing = Confusion(("a", "b"), np.zeros((3, 2), np.int64))
    undefined = {"a": np.full((10, 101), np.nan)}
    files = write_report(tmp_path, evaluation(nothing, undefined))
    assert [path.name for path in files.paths[3:]] == ["confusion.csv", "precision_recall.csv"]
    assert files.notes == ()


def test_without_matplotlib_a_note_stands_for_the_pictures(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    files = write_report(tmp_path, evaluation(some_confusion(2), some_curves(1)))
    assert [path.suffix for path in files.paths] == [".json", ".csv", ".csv", ".csv", ".csv"]
    assert len(files.notes) == 1
    assert files.notes[0].startswith("confusion.png and precision_recall.png not drawn")
    assert "pip install 'mask2former[eval]'" in files.notes[0]
    assert write_report(tmp_path, evaluation()).notes == ()


@pytest.mark.usefixtures("unpainted")
def test_a_picture_that_fails_leaves_the_tables_and_the_earlier_picture(
    tmp_path: Path, monkeypatch
) -> None:
    write_report(tmp_path, evaluation(some_confusion(2), some_curves(1)))
    before = (tmp_path / "confusion.png").read_bytes()

    def fail(confusion, images, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(charts, "draw_confusion", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, evaluation(some_confusion(4), some_curves(1)))
    assert (tmp_path / "confusion.png").read_bytes() == before
    assert len(read_table(tmp_path / "confusion.csv")) == 5
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("")
    with pytest.raises(ValueError, match="is a file; give another folder"):
        write_report(tmp_path / "report", evaluation())


@pytest.mark.parametrize("num_classes", [1, 1200])
def test_pictures_of_any_number_of_classes_can_be_read(tmp_path: Path, num_classes) -> None:
    charts.draw_confusion(some_confusion(num_classes, unknown=True), 3, tmp_path / "c.png")
    charts.draw_precision_recall(some_curves(num_classes), 3, tmp_path / "p.png")
    for name in ("c.png", "p.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 300
            assert max(picture.size) < 3000
            assert len(picture.convert("RGB").getcolors(2**24)) > 10


def test_rows_of_the_picture_are_percent_of_the_true_class(tmp_path: Path, drawn) -> None:
    # predicted (rows) and true (columns): of 200 true cats 150 are found, 40 are dogs to the
    # model, and 10 are something else; no fox is true
    pixels = np.array([[150, 1, 0], [40, 3, 0], [0, 0, 0], [10, 0, 0]])
    charts.draw_confusion(Confusion(("cat", "dog", "fox"), pixels), 1, tmp_path / "c.png")
    found = texts(drawn[0])
    assert {"75.0", "20.0", "5.0", "25.0", "cat", "dog", OTHER} <= set(found)
    assert "fox" not in found
    assert any("the 2 classes that occur, of 3, 1 image" in text for text in found)


def test_a_class_that_is_only_predicted_has_an_empty_row(tmp_path: Path, drawn) -> None:
    confusion = Confusion(("cat", "dog"), np.array([[3, 0], [1, 0], [0, 0]]))
    charts.draw_confusion(confusion, 2, tmp_path / "c.png")
    assert {"75.0", "25.0"} == {t for t in texts(drawn[0]) if t.replace(".", "").isdigit()} - {
        "0",
        "5",
        "20",
        "50",
        "100",
    }
    assert any("no pixel truly is of it" in text for text in texts(drawn[0]))


def test_of_many_classes_the_picture_says_how_many_it_shows(tmp_path: Path, drawn) -> None:
    charts.draw_confusion(some_confusion(45), 3, tmp_path / "c.png")
    axes = drawn[0].axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert 39 <= len(shown) <= 40
    predicted = [label.get_text() for label in axes.get_xticklabels()]
    assert predicted == [*shown, charts.NOT_SHOWN]
    assert any(f"the {len(shown)} classes of the strongest" in t for t in texts(drawn[0]))


def test_the_best_and_the_worst_of_many_classes_are_drawn(tmp_path: Path, drawn) -> None:
    curves = {f"class {i}": np.full((10, 101), i / 100) for i in range(100)}
    curves["never true"] = np.full((10, 101), np.nan)
    charts.draw_precision_recall(curves, 3, tmp_path / "p.png")
    titles = [axes.get_title().split("\n") for axes in drawn[0].axes[1:]]
    best = [[f"class {i}", f"AP {i}.0"] for i in range(99, 89, -1)]
    worst = [[f"class {i}", f"AP {i}.0"] for i in range(9, -1, -1)]
    assert titles == best + worst
    # the mean of 0..99 %, of every threshold
    assert "AP 49.5: mean over IoU 0.50 to 0.95" in texts(drawn[0])
    assert any("mean of 100 classes with true objects" in text for text in texts(drawn[0]))


@pytest.mark.parametrize("num_classes", [2, 4, 7, 20])
def test_panels_of_classes_name_their_axes_and_fill_the_height(tmp_path, drawn, num_classes):
    charts.draw_precision_recall(some_curves(num_classes), 3, tmp_path / "p.png")
    mean, *panels = drawn[0].axes
    assert len(panels) == num_classes
    assert "recall, %" in {axes.get_xlabel() for axes in panels}
    assert panels[0].get_ylabel() == "precision, %"
    heights = [axes.get_position().height for axes in (mean, panels[0])]
    assert heights[1] >= heights[0] / (2.5 if num_classes <= 4 else 3.1)
    left, right = (
        [bound(axes.get_position()) for axes in panels]
        for bound in (lambda box: box.x0, lambda box: box.x1)
    )
    assert min(left) > mean.get_position().x1
    assert max(right) - min(left) > 0.8 * mean.get_position().width


def test_curves_that_coincide_are_all_seen(tmp_path: Path, drawn) -> None:
    charts.draw_precision_recall({"a": np.full((10, 101), 0.5)}, 1, tmp_path / "p.png")
    lines = drawn[0].axes[0].get_lines()
    widths = [line.get_linewidth() for line in lines]
    assert sorted(widths, reverse=True) == widths
    assert len(set(widths)) == 3  # each is wider than those on top of it
    assert [line.is_dashed() for line in lines] == [False, True, True]


def test_names_are_drawn_as_they_are(tmp_path: Path, drawn) -> None:
    names = ["US$ and $x_1^", "%d \\alpha", "дом", "x" * 200]
    charts.draw_confusion(some_confusion(4, names=names), 3, tmp_path / "c.png")
    charts.draw_precision_recall(some_curves(4, names=names), 3, tmp_path / "p.png")
    assert {*names[:3], "xxxxxxxxxxxx…xxxxxxxxxxxx"} <= set(texts(drawn[0]))


def test_a_name_that_no_font_has_is_given_by_its_place(tmp_path: Path, monkeypatch, drawn) -> None:
    monkeypatch.setattr(fontManager, "ttflist", [f for f in fontManager.ttflist if is_own(f)])
    names = ["a", UNREADABLE, f"{UNREADABLE} big", "b\x00"]
    lettering = letter(names)
    assert lettering.texts == ["a", "#2", "#3 big", "#4 b"]
    assert lettering.is_numbered
    charts.draw_confusion(some_confusion(4, names=names), 3, tmp_path / "c.png")
    assert any("#n: the n-th class of confusion.csv" in text for text in texts(drawn[0]))


def test_an_installed_font_is_taken_for_characters_of_its_own(
    tmp_path: Path, monkeypatch, drawn
) -> None:
    monkeypatch.setattr(fontManager, "ttflist", [f for f in fontManager.ttflist if is_own(f)])
    fontManager.addfont(make_font(tmp_path / "squares.ttf", "Squares", UNREADABLE))
    lettering = letter(["Rad", UNREADABLE])
    assert lettering == (["Rad", UNREADABLE], ["DejaVu Sans", "Squares"], False)
    charts.draw_confusion(some_confusion(2, names=["Rad", UNREADABLE]), 3, tmp_path / "c.png")
    assert UNREADABLE in texts(drawn[0])


def is_own(font):
    return "mpl-data" in Path(font.fname).parts


def make_font(path, family, characters):
    """A font whose letters are all squares."""
    names = [f"square{i}" for i in range(len(characters))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap(dict(zip(map(ord, characters), names, strict=True)))
    builder.setupGlyf(dict.fromkeys([".notdef", *names], Glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return str(path)


def test_the_most_confused_are_those_of_the_highest_shares() -> None:
    # 2 of 10 pixels of class 1 are taken for 3, and 1 of 2 of class 4 for 0
    pixels = np.diag([100, 8, 50, 40, 1, 7])
    pixels[1, 3] = 2
    pixels[4, 0] = 1
    pixels = np.column_stack([pixels, np.zeros(6, np.int64)])
    assert sorted(most_confused(pixels, list(range(6)), 2)) == [0, 4]
    assert sorted(most_confused(pixels, list(range(6)), 3)) == [0, 4]
    assert sorted(most_confused(pixels, list(range(6)), 4)) == [0, 1, 3, 4]
    assert most_confused(pixels, [5, 1], 4) == [5, 1]


def test_classes_that_are_confused_stand_side_by_side() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        partner = generator.permutation(30).reshape(15, 2)
        pixels = np.diag(np.full(30, 100))
        pixels[partner[:, 0], partner[:, 1]] = generator.integers(20, 90, 15)
        pixels = np.column_stack([pixels, np.zeros(30, np.int64)])
        order = most_confused(pixels, list(range(30)), 20)
        assert len(order) == len(set(order)) == 20
        place = {class_id: i for i, class_id in enumerate(order)}
        pairs = [pair for pair in partner.tolist() if pair[0] in place]
        assert len(pairs) == 10
        assert all(abs(place[a] - place[b]) == 1 for a, b in pairs)


def test_a_model_without_mistakes_has_a_picture_too(tmp_path: Path) -> None:
    perfect = np.vstack([np.diag(np.full(60, 9)), np.zeros((1, 60), np.int64)])
    names = tuple(f"class {i}" for i in range(60))
    charts.draw_confusion(Confusion(names, perfect), 3, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
