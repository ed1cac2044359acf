"""Regions that are nobody's stay unscored in the formats that can say so."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task
from mask2former.data.merging import merge_datasets
from mask2former.data.writers.convert import convert

Opened = Callable[[Path, str], dict[str, Dataset]]
# a cat in columns 0 to 4, of which an ignored region covers the last two, and what lies beside it
EXPECTED = [1, 1, 1, 255, 255, 255, 0, 0]


@pytest.fixture
def labelme(tmp_path: Path) -> Path:
    folder = tmp_path / "labelme"
    folder.mkdir()
    Image.new("RGB", (8, 4)).save(folder / "a.png")
    boxes = {"cat": [[0, 0], [5, 4]], "__ignore__": [[3, 0], [6, 4]]}
    shapes = [
        {"label": label, "points": points, "shape_type": "rectangle"}
        for label, points in boxes.items()
    ]
    content = {"imagePath": "a.png", "imageHeight": 4, "imageWidth": 8, "shapes": shapes}
    (folder / "a.json").write_text(json.dumps(content))
    return folder


def test_voc_and_png_masks_hold_them_as_255(labelme: Path, tmp_path: Path, opened: Opened) -> None:
    datasets = opened(labelme, "labelme")
    convert(datasets, tmp_path / "voc", "voc")
    for place in ("SegmentationClass", "SegmentationObject"):
        assert np.asarray(Image.open(tmp_path / "voc" / place / "a.png"))[0].tolist() == EXPECTED
    convert(datasets, tmp_path / "masks", "png-masks", task="semantic")
    (path,) = (tmp_path / "masks" / "masks").rglob("*.png")
    # classes are counted from 0 there, the background last
    assert np.asarray(Image.open(path))[0].tolist() == [0, 0, 0, 255, 255, 255, 1, 1]


def test_what_voc_leaves_void_is_void_in_a_copy(
    labelme: Path, tmp_path: Path, opened: Opened
) -> None:
    convert(opened(labelme, "labelme"), tmp_path / "one", "voc")
    convert(opened(tmp_path / "one", "voc"), tmp_path / "two", "voc")
    copy = Image.open(tmp_path / "two" / "SegmentationClass" / "a.png")
    assert np.asarray(copy)[0].tolist() == EXPECTED


def test_merged_data_sets_keep_them(labelme: Path, opened: Opened) -> None:
    (dataset,) = opened(labelme, "labelme").values()
    things = for_task(dataset, "instance")
    merged = merge_datasets([things, things])
    assert len(merged) == 2
    annotations = merged.annotations(1)
    assert isinstance(annotations, Instances)
    assert len(annotations.ignored) == 1
