"""Conversions of real data equal what other programs made of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.convert import Converted, convert
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task, instance_rles
from mask2former.masks.rle import canonical_rle, coco_mask, decode_rle

Splits = dict[str, Dataset]
Opened = Callable[[Path, str], Splits]
SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
LABELME = SAMPLES / "labelme_instances"
PANOPTIC = SAMPLES / "panopticapi_sample"
LEAST_IOU = 0.93
"""Of LabelMe's own rasterisation, which draws the outline too, with that of pycocotools."""
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
    ),
]


def named_rles(dataset: Dataset) -> dict[str, list[tuple[str, dict]]]:
    """(class name, RLE) of each object, by the name of the image without its suffix."""
    things = for_task(dataset, "instance")
    return {
        Path(record.image.name).stem: [
            (things.classes.names[class_id], rle)
            for class_id, rle, *_ in instance_rles(things.annotations(i))
        ]
        for i, record in enumerate(things.records)
    }


def iou(rle: dict, other: dict) -> float:
    return float(coco_mask.iou([rle], [other], [False])[0, 0])


def count(converted: Converted, kind: str) -> int:
    return sum(loss.count for loss in converted.losses if loss.kind == kind)


def test_labelme_to_coco_is_what_labelme_makes_of_it(opened: Opened, tmp_path: Path) -> None:
    convert(opened(LABELME / "data_annotated", "labelme"), tmp_path / "coco", "coco-instance")
    (ours,) = opened(tmp_path / "coco", "coco-instance").values()
    theirs = json.loads((LABELME / "data_dataset_coco" / "annotations.json").read_text())
    category_names = {category["id"]: category["name"] for category in theirs["categories"]}
    assert set(ours.classes.names) == set(category_names.values()) - {"_background_"}
    images = {image["id"]: image for image in theirs["images"]}
    known: dict[str, list[tuple[str, dict]]] = {}
    for one in theirs["annotations"]:
        image = images[one["image_id"]]
        size = (image["height"], image["width"])
        parts = coco_mask.frPyObjects(one["segmentation"], *size)
        rle = coco_mask.merge(parts)
        name = category_names[one["category_id"]]
        known.setdefault(Path(image["file_name"]).stem, []).append((name, rle))
    assert_nearly_same(named_rles(ours), known)


def test_labelme_to_voc_is_what_labelme_makes_of_it(opened: Opened, tmp_path: Path) -> None:
    converted = convert(opened(LABELME / "data_annotated", "labelme"), tmp_path / "voc", "voc")
    (ours,) = opened(tmp_path / "voc", "voc").values()
    (theirs,) = opened(LABELME / "data_dataset_voc", "voc").values()
    assert ours.classes == theirs.classes
    for i, record in enumerate(ours.records):
        assert record.image_id == theirs.records[i].image_id
        paths = [Path(one.records[i].annotation[0]) for one in (ours, theirs)]
        values, known = (np.asarray(Image.open(path)) for path in paths)
        with Image.open(paths[0]) as first, Image.open(paths[1]) as second:
            assert first.getpalette() == second.getpalette()
        assert set(np.unique(values)) == set(np.unique(known))
        assert (values == known).mean() > 0.98
    # the later of two shapes lies above in LabelMe, the smaller in ours: same objects, other edges
    assert count(converted, "hidden pixels") == 605
    ours_by_name, theirs_by_name = named_rles(ours), named_rles(theirs)
    for name, objects in ours_by_name.items():
        assert sorted(n for n, _ in objects) == sorted(n for n, _ in theirs_by_name[name])


def assert_nearly_same(ours: dict, known: dict) -> None:
    assert set(ours) == set(known)
    for name, objects in ours.items():
        assert [label for label, _ in objects] == [label for label, _ in known[name]]
        for (_, rle), (_, other) in zip(objects, known[name], strict=True):
            assert iou(rle, other) > LEAST_IOU


def test_panoptic_sample_to_coco_is_its_detection_file(opened: Opened, tmp_path: Path) -> None:
    convert(opened(PANOPTIC, "coco-panoptic"), tmp_path / "coco", "coco-instance")
    ours, theirs = (
        json.loads(path.read_text())
        for path in (
            tmp_path / "coco" / "annotations" / "instances_examples.json",
            PANOPTIC / "panoptic_coco_detection_format.json",
        )
    )
    keys = ("image_id", "category_id", "iscrowd", "area", "bbox", "segmentation")
    assert [{key: one[key] for key in keys} for one in ours["annotations"]] == [
        {key: one[key] for key in keys} for one in theirs["annotations"]
    ]
    for key in ("id", "name"):
        assert [c[key] for c in ours["categories"]] == [c[key] for c in theirs["categories"]]
    for key in ("id", "file_name", "height", "width"):
        assert [i[key] for i in ours["images"]] == [i[key] for i in theirs["images"]]


def test_panoptic_sample_in_two_channels_is_its_own(opened: Opened, tmp_path: Path) -> None:
    convert(opened(PANOPTIC, "coco-panoptic"), tmp_path / "out", "panoptic-2ch")
    paths = sorted((PANOPTIC / "panoptic_examples_2ch_format").glob("*.png"))
    assert len(paths) == 2
    for path in paths:
        ours = tmp_path / "out" / "panoptic_2ch_examples" / path.name
        assert np.array_equal(np.asarray(Image.open(ours)), np.asarray(Image.open(path)))


def test_panoptic_sample_to_panoptic_is_itself(opened: Opened, tmp_path: Path) -> None:
    convert(opened(PANOPTIC, "coco-panoptic"), tmp_path / "out", "coco-panoptic")
    written = tmp_path / "out" / "annotations"
    ours = json.loads((written / "panoptic_examples.json").read_text())
    theirs = json.loads((PANOPTIC / "panoptic_examples.json").read_text())
    assert ours["annotations"] == theirs["annotations"]
    for path in (PANOPTIC / "panoptic_examples").glob("*.png"):
        png = written / "panoptic_examples" / path.name
        assert np.array_equal(np.asarray(Image.open(png)), np.asarray(Image.open(path)))


def test_real_coco_to_yolo_and_labelme_fills_to_the_same_masks(
    opened: Opened, tmp_path: Path
) -> None:
    coco = opened(SAMPLES / "coco_instances", "coco-instance")
    for name in ("yolo", "labelme"):
        converted = convert(coco, tmp_path / name, name, images="link")
        assert count(converted, "crowd flags") == 10
        again = opened(tmp_path / name, name)
        for split, dataset in coco.items():
            ours = named_rles(again[split])
            for i, record in enumerate(dataset.records):
                rles = instance_rles(for_task(dataset, "instance").annotations(i))
                known = [(dataset.classes.names[c], rle) for c, rle, crowd, *_ in rles if not crowd]
                found = ours[Path(record.image.name).stem]
                assert [name for name, _ in found] == [name for name, _ in known]
                for (_, rle), (_, other) in zip(found, known, strict=True):
                    assert np.array_equal(decode_rle(rle), decode_rle(other))


def test_real_videos_keep_tracks_and_masks(opened: Opened, tmp_path: Path) -> None:
    for folder in ("pan_clips", "labelme_video"):
        convert(opened(SAMPLES / folder, "youtube-vis"), tmp_path / folder, "youtube-vis")
        ours = sorted((tmp_path / folder).glob("*.json"))
        theirs = sorted((SAMPLES / folder).glob("*.json"))
        theirs = [path for path in theirs if "videos" in json.loads(path.read_text())]
        for path, known in zip(ours, theirs, strict=True):
            content, expected = json.loads(path.read_text()), json.loads(known.read_text())
            assert content["annotations"] == expected["annotations"]
            keys = ("id", "width", "height", "length")
            assert [[v[key] for key in keys] for v in content["videos"]] == [
                [v[key] for key in keys] for v in expected["videos"]
            ]


def test_real_tracks_are_read_by_the_rle_of_every_frame(opened: Opened, tmp_path: Path) -> None:
    davis = opened(SAMPLES / "davis_video", "youtube-vis")
    convert(davis, tmp_path / "out", "youtube-vis", images="link")
    content = json.loads((tmp_path / "out" / "train.json").read_text())
    for track in content["annotations"]:
        for segmentation in filter(None, track["segmentations"]):
            canonical_rle(segmentation, track["height"], track["width"])
