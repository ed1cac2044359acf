"""The report is one file that needs nothing else, and shows what it should."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mask2former.check.charts import bar_cell, histogram, number, ticks
from mask2former.check.check_folder import check_folder
from mask2former.check.report import write_report
from mask2former.data.synthetic import write_synthetic
from mask2former.files import usable_folder

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br"}


class Document(HTMLParser):
    """Collects elements, and fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        """Read the whole text."""
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def broken_page(broken_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = check_folder(broken_coco, preset="tiny", task="instance", workers=0)
    return write_report(found, tmp_path_factory.mktemp("report"))


def report_on(folder: Path) -> str:
    found = check_folder(folder, preset="tiny", workers=0)
    return write_report(found, usable_folder(folder.parent / "report")).read_text(encoding="utf-8")


def test_nothing_is_loaded_and_nothing_runs(broken_page: Path) -> None:
    document = Document(broken_page.read_text(encoding="utf-8"))
    sources = [a[key] for _, a in document.elements for key in ("src", "href") if key in a]
    assert sources
    assert all(source and source.startswith(("data:", "#")) for source in sources)
    assert not [tag for tag, _ in document.elements if tag in ("script", "iframe", "object")]
    anchors = {attributes["id"] for _, attributes in document.elements if "id" in attributes}
    links = {source[1:] for source in sources if source and source.startswith("#")}
    assert links <= anchors


def test_every_kind_of_problem_is_on_the_page_with_pictures(broken_page: Path) -> None:
    document = Document(broken_page.read_text(encoding="utf-8"))
    for kind in ("unreadable image", "leaked image", "class imbalance", "overlapping objects"):
        assert kind in document.text
    captions = [a["alt"] for tag, a in document.elements if tag == "img"]
    assert any(caption and "twice.jpg" in caption for caption in captions)
    assert any(caption and "masks" in caption for caption in captions)  # after augmentation


def test_class_names_are_text_and_no_markup(clean_coco: Path) -> None:
    text = report_on(clean_coco)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    Document(text)


def test_one_image_without_objects_makes_a_page(one_empty_image: Path) -> None:
    document = Document(report_on(one_empty_image))
    assert "empty image" in document.text
    assert "None can be drawn" in document.text


def test_masks_make_a_page(write_masks: Callable[[], Path]) -> None:
    text = Document(report_on(write_masks())).text
    assert "unreadable annotation" in text
    assert "unknown class" in text


def test_classes_that_never_occur_are_folded_away(broken_page: Path) -> None:
    text = Document(broken_page.read_text(encoding="utf-8")).text
    table, _, folded = text.partition("1 class without objects")
    assert "never used (4)" in folded
    assert "only scored" in table


def test_histograms_count_every_value() -> None:
    values = np.array([1, 1, 2, 7, 30])
    svg = histogram(values, title="t < u", axis="objects", limit=(100.0, "queries"))
    counts = [int(c) for c in re.findall(r"<title>[^<]*: (\d+)</title>", svg)]
    assert sum(counts) == len(values)
    assert "t &lt; u" in svg
    assert "queries: 100" in svg
    Document(svg)


@pytest.mark.parametrize(
    ("low", "high", "is_logarithmic", "expected"),
    [
        (-0.5, 4.5, False, [0, 1, 2, 3, 4]),
        (339.5, 641.5, False, [350, 400, 450, 500, 550, 600]),
        (0.0, 1.0, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1.0, 60.0, True, [1, 2, 5, 10, 20, 50]),
        (1.0, 3000.0, True, [1, 5, 20, 100, 500, 2000]),
    ],
)
def test_labels_of_an_axis_are_round(
    low: float, high: float, is_logarithmic: bool, expected: list[float]
) -> None:
    assert ticks(low, high, is_logarithmic) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.3, 1.0, 5000.0])
def test_histograms_of_one_value_have_one_bar(value: float) -> None:
    for logarithmic in (False, True):
        svg = histogram(np.array([value]), title="t", axis="a", logarithmic=logarithmic)
        assert svg.count("<rect") == 1
        assert "nan" not in svg


def test_numbers_are_short() -> None:
    assert [number(v) for v in (0, -0.0, 0.25, 12.6, 12345)] == [
        "0",
        "0",
        "0.2",
        "13",
        "12\u2009345",
    ]
    assert "width:50.0%" in bar_cell("7", 0.5)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")
def test_chromium_shows_the_page_without_a_complaint(broken_page: Path, tmp_path: Path) -> None:
    from PIL import Image

    assert CHROMIUM is not None
    picture = tmp_path / "page.png"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
        "--window-size=1000,3000", f"--screenshot={picture}", broken_page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
    assert "CONSOLE" not in done.stderr
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    # the photos of the data set are far more colourful than the page around them
    saturation = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    assert (saturation > 128).mean() > 0.02


def test_a_synthetic_data_set_is_clean(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "set", train_images=6, val_images=3, size=(64, 80), seed=0)
    found = check_folder(tmp_path / "set", preset="tiny", workers=0)
    assert not [f for f in found.findings if f.severity == "error"]
