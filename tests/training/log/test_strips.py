"""Strips of pictures that grow."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.training.log.strips import HEAD, MOST_COLUMNS, TALLEST, extend_strip, read_strip

TRUTH = "ground truth"


def picture(value: int, size_wh: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.new("RGB", size_wh, (value, 0, 0))


def labels(path: Path) -> list[str | int]:
    return [column.label for column in read_strip(path)]


def test_a_strip_grows_and_keeps_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "strips" / "0.png"
    rng = np.random.default_rng(0)
    drawn = [
        Image.fromarray(rng.integers(0, 256, (40, width, 3), np.uint8)) for width in (60, 50, 70)
    ]
    for label, image in zip((TRUTH, 10, 20), drawn, strict=True):
        extend_strip(path, image, label)
    assert labels(path) == [TRUTH, 10, 20]
    for column, image in zip(read_strip(path), drawn, strict=True):
        np.testing.assert_array_equal(np.asarray(column.picture), np.asarray(image))
    with Image.open(path) as strip:
        # two gaps of 6 pixels
        assert strip.size == (60 + 50 + 70 + 12, 40 + HEAD)


@pytest.mark.parametrize("every", [1, 500])
def test_a_full_strip_is_spread_geometrically(tmp_path: Path, every: int) -> None:
    path = tmp_path / "0.png"
    extend_strip(path, picture(0), TRUTH)
    for i in range(1, 65):
        extend_strip(path, picture(i), every * i)
        assert len(labels(path)) == min(i + 1, MOST_COLUMNS)
    truth, first, *_, last = labels(path)
    assert (truth, first, last) == (TRUTH, every, 64 * every)
    steps = [step for step in labels(path) if isinstance(step, int)]
    # the last step is there whatever its distance; five even ratios up to about 60 would be 2.3
    ratios = [after / before for before, after in pairwise(steps[:-1])]
    assert 1.3 <= min(ratios) <= max(ratios) <= 4
    shown = [int(np.asarray(column.picture)[0, 0, 0]) for column in read_strip(path)]
    assert shown == [0, *(step // every for step in steps)]


def test_a_resumed_run_replaces_what_it_does_again(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    for label in (TRUTH, 10, 20, 30, TRUTH, 20):
        extend_strip(path, picture(1), label)
    assert labels(path) == [10, TRUTH, 20]


def test_pictures_of_other_sizes_fit_in(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    extend_strip(path, picture(1, (1200, 800)), TRUTH)
    extend_strip(path, picture(2, (30, 20)), 5)
    sizes = [column.picture.size for column in read_strip(path)]
    assert sizes == [(600, TALLEST), (600, TALLEST)]


def test_narrow_pictures_have_labels_that_fit(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    extend_strip(path, picture(255, (60, 64)), 1_000)
    extend_strip(path, picture(255, (60, 64)), 2_000)
    with Image.open(path) as strip:
        gap = np.asarray(strip)[:HEAD, 60:66]
    assert (gap == 255).all()


def test_another_picture_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    picture(1).save(path)
    with pytest.raises(ValueError, match=r"photo\.png is no strip of pictures; take it away"):
        extend_strip(path, picture(2), 5)
