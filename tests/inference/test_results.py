"""Result files, read back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.inference.prediction import Prediction
from mask2former.inference.results import KINDS, ResultsWriter
from mask2former.masks.id_maps import rgb_to_ids
from mask2former.masks.rle import canonical_rle, decode_rle, encode_mask
from mask2former.types import Classes, InstanceResult, PanopticResult, Segment, SemanticResult

CLASSES = Classes(("bälle", "grass"), (7, 300), (True, False))
MASK = np.zeros((5, 9), bool)
MASK[1:4, 2:6] = True


def predictions():
    image = np.full((5, 9, 3), 128, np.uint8)
    segments = [
        Segment(1, 0, 0.9, 12, (2.0, 1.0, 4.0, 3.0)),
        Segment(300, 1, 0.8, 33, (0.0, 0.0, 9.0, 5.0)),
    ]
    segment_map = torch.from_numpy(np.where(MASK, 1, 300))
    found = [Segment(0, 0, 0.25, 12, (2.0, 1.0, 4.0, 3.0))]
    results = {
        "panoptic": PanopticResult(segment_map, segments),
        "instance": InstanceResult(5, 9, [encode_mask(MASK)], found),
        "semantic": SemanticResult(torch.from_numpy(np.where(MASK, 0, 1))),
    }
    return {task: Prediction(image, CLASSES, task, result) for task, result in results.items()}


def write(folder, kinds, images=2):
    with ResultsWriter(folder, CLASSES, kinds) as writer:
        for i in range(images):
            writer.write(
                predictions(),
                name=f"photo{i}",
                image_id=40 + i,
                file_name=f"photo{i}.jpg",
                overlay_task="panoptic",
            )


def write_and_fail(folder):
    with ResultsWriter(folder, CLASSES, ["coco", "panoptic"]) as writer:
        writer.write(
            predictions(), name="p", image_id=1, file_name="p.jpg", overlay_task="panoptic"
        )
        raise RuntimeError("power cut")


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_only_what_is_asked_for_is_written(tmp_path) -> None:
    write(tmp_path / "a", ["overlay"])
    assert names(tmp_path / "a") == ["overlay/photo0.png", "overlay/photo1.png"]
    write(tmp_path / "b", KINDS, images=1)
    assert names(tmp_path / "b") == [
        "classes.json",
        "overlay/photo0.png",
        "panoptic.json",
        "panoptic/photo0.png",
        "predictions.coco.json",
        "semantic/photo0.png",
    ]


def test_coco_results_carry_the_ids_of_the_data_set(tmp_path) -> None:
    write(tmp_path, ["coco"])
    entries = json.loads((tmp_path / "predictions.coco.json").read_text())
    assert [e["image_id"] for e in entries] == [40, 41]
    assert entries[1]["file_name"] == "photo1.jpg"
    assert entries[0]["category_id"] == 7
    assert entries[0]["bbox"] == [2, 1, 4, 3]
    assert entries[0]["score"] == 0.25
    assert isinstance(entries[0]["segmentation"]["counts"], str)
    assert np.array_equal(decode_rle(canonical_rle(entries[0]["segmentation"], 5, 9)), MASK)


def test_panoptic_files_follow_the_coco_format(tmp_path) -> None:
    write(tmp_path, ["panoptic"])
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert content["categories"] == [
        {"id": 7, "name": "bälle", "isthing": 1},
        {"id": 300, "name": "grass", "isthing": 0},
    ]
    assert content["images"][1] == {"id": 41, "file_name": "photo1.jpg", "height": 5, "width": 9}
    annotation = content["annotations"][1]
    assert (annotation["image_id"], annotation["file_name"]) == (41, "photo1.png")
    info = annotation["segments_info"][1]
    assert {k: info[k] for k in ("id", "category_id", "area", "bbox", "iscrowd")} == {
        "id": 300,
        "category_id": 300,
        "area": 33,
        "bbox": [0, 0, 9, 5],
        "iscrowd": 0,
    }
    ids = rgb_to_ids(np.asarray(Image.open(tmp_path / "panoptic" / annotation["file_name"])))
    assert np.array_equal(ids, np.where(MASK, 1, 300))


def test_semantic_pngs_hold_class_ids_and_a_table_explains_them(tmp_path) -> None:
    write(tmp_path, ["masks"])
    stored = Image.open(tmp_path / "semantic" / "photo1.png")
    assert stored.mode == "L"
    assert np.array_equal(np.asarray(stored), np.where(MASK, 0, 1))
    table = json.loads((tmp_path / "classes.json").read_text(encoding="utf-8"))
    assert table == {"classes": ["bälle", "grass"], "category_ids": [7, 300]}


@pytest.mark.parametrize(("count", "mode"), [(256, "L"), (257, "I;16")])
def test_more_than_256_classes_take_16_bits(tmp_path, count, mode) -> None:
    classes = Classes(("c",) * count, tuple(range(count)), (False,) * count)
    result = SemanticResult(torch.full((3, 4), count - 1))
    prediction = Prediction(np.zeros((3, 4, 3), np.uint8), classes, "semantic", result)
    with ResultsWriter(tmp_path, classes, ["masks"]) as writer:
        writer.write(
            {"semantic": prediction}, name="a", image_id=1, file_name="a", overlay_task="semantic"
        )
    stored = Image.open(tmp_path / "semantic" / "a.png")
    assert stored.mode == mode
    assert (np.asarray(stored) == count - 1).all()


def test_overlays_show_the_task_that_is_drawn(tmp_path) -> None:
    write(tmp_path, ["overlay"], images=1)
    stored = np.asarray(Image.open(tmp_path / "overlay" / "photo0.png"))
    assert np.array_equal(stored, np.asarray(predictions()["panoptic"].draw()))


def test_no_images_give_empty_but_valid_files(tmp_path) -> None:
    write(tmp_path, ["coco", "panoptic"], images=0)
    assert json.loads((tmp_path / "predictions.coco.json").read_text()) == []
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert (content["annotations"], content["images"]) == ([], [])


def test_a_failure_leaves_earlier_files_whole_and_no_parts(tmp_path) -> None:
    write(tmp_path, ["coco", "panoptic"], images=1)
    before = (tmp_path / "predictions.coco.json").read_bytes()
    with pytest.raises(RuntimeError, match="power cut"):
        write_and_fail(tmp_path)
    assert (tmp_path / "predictions.coco.json").read_bytes() == before
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


def test_a_picture_that_cannot_be_saved_leaves_no_part(tmp_path, monkeypatch) -> None:
    def full_disk(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, ["overlay"])
    assert names(tmp_path) == []
