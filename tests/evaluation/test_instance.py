"""AP by hand and against pycocotools used the ordinary way."""

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mask2former.evaluation.instance import InstanceMetrics
from mask2former.masks.rle import encode_mask, rle_area, rle_box
from mask2former.types import Classes, InstanceResult, Segment

CLASSES = Classes(
    ("dog", "sky", "cat", "cat", "emu"), (18, 5, 17, 90, 7), (True, False, True, True, True)
)
BACKENDS = ("pycocotools", "hotcoco")
SIZE = (230, 270)


def rectangle(y, x, height, width, size=SIZE):
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = True
    return encode_mask(mask)


def result(objects, size=SIZE):
    """From (class id, score, RLE), highest score first."""
    objects = sorted(objects, key=lambda o: -o[1])
    return InstanceResult(
        *size,
        [rle for _, _, rle in objects],
        [
            Segment(i, class_id, score, rle_area(rle), rle_box(rle))
            for i, (class_id, score, rle) in enumerate(objects)
        ],
    )


def random_images(seed, count):
    """Boxes of all three area ranges, moved predictions, crowds, ties, images without objects."""
    generator = np.random.default_rng(seed)
    images = []
    for index in range(count):
        truth, found = [], []
        for _ in range(0 if index == 2 else generator.integers(1, 9)):
            height, width = (8 * 18 ** generator.random(2)).astype(int)  # 8 to 143
            y, x = generator.integers(0, (SIZE[0] - 99, SIZE[1] - 99))
            class_id = int(generator.integers(4))
            crowd = bool(generator.random() < 0.2)
            rle = rectangle(y, x, height, width)
            # the file's area may differ from the mask's
            truth.append((class_id, rle, crowd, float(rle_area(rle)) * 0.98))
            for _ in range(generator.integers(0, 3)):
                dy, dx, dh, dw = generator.integers(-2, 3, 4)
                moved = rectangle(max(0, y + dy), max(0, x + dx), height + dh, width + dw)
                score = float(generator.choice([0.2, 0.5, 0.5, 0.9]))
                other = int(generator.integers(4))
                found.append((class_id if generator.random() < 0.9 else other, score, moved))
        images.append((result(found if index != 3 else []), truth))
    return images


def metrics_of(images):
    metrics = InstanceMetrics(CLASSES)
    for index, (found, truth) in enumerate(images):
        metrics.update(index, found, truth)
    return metrics


def coco_stats(images, kind):
    """pycocotools with `loadRes`, as its users call it; one dictionary of its 12 numbers."""
    truth, found = [], []
    for image_id, (prediction, objects) in enumerate(images, start=1):
        for class_id, rle, crowd, area in objects:
            if CLASSES.is_thing[class_id]:
                truth.append(
                    {
                        "id": len(truth) + 1,
                        "image_id": image_id,
                        "category_id": CLASSES.category_ids[class_id],
                        "segmentation": rle,
                        "bbox": list(rle_box(rle)),
                        "area": area,
                        "iscrowd": int(crowd),
                    }
                )
        for segment, rle in zip(prediction.segments, prediction.rles, strict=True):
            shape = {"segmentation": rle} if kind == "segm" else {"bbox": list(segment.box)}
            if CLASSES.is_thing[segment.class_id]:
                category_id = CLASSES.category_ids[segment.class_id]
                found.append(
                    {
                        "image_id": image_id,
                        "category_id": category_id,
                        "score": segment.score,
                        **shape,
                    }
                )
    categories = [
        {"id": c} for c, t in zip(CLASSES.category_ids, CLASSES.is_thing, strict=True) if t
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        sizes = [{"id": i + 1, "height": SIZE[0], "width": SIZE[1]} for i in range(len(images))]
        coco.dataset = {
            "info": {},
            "images": sizes,
            "annotations": truth,
            "categories": categories,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    stats = dict(zip(names, 100 * evaluation.stats, strict=True))
    precision = evaluation.eval["precision"]
    ids = evaluation.params.catIds
    per_class = {c: 100 * precision[:, :, i, 0, 2].mean() for i, c in enumerate(ids)}
    return stats, per_class


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_pycocotools(backend, seed) -> None:
    images = random_images(seed, 30)
    metrics, per_class = metrics_of(images).compute(backend)
    masks, mask_classes = coco_stats(images, "segm")
    boxes, box_classes = coco_stats(images, "bbox")
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"):
        assert metrics[name] == pytest.approx(masks[name], abs=1e-9)
        assert 0 < metrics[name] < 100
    assert metrics["boxAP"] == pytest.approx(boxes["AP"], abs=1e-9)
    for name, category_id in (("dog", 18), ("cat (id 17)", 17), ("cat (id 90)", 90)):
        assert per_class[name]["AP"] == pytest.approx(mask_classes[category_id], abs=1e-9)
        assert per_class[name]["boxAP"] == pytest.approx(box_classes[category_id], abs=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_class_without_objects_has_no_value_and_stuff_is_left_out(backend) -> None:
    _, per_class = metrics_of(random_images(0, 6)).compute(backend)
    assert list(per_class) == ["dog", "cat (id 17)", "cat (id 90)", "emu"]
    assert all(math.isnan(value) for value in per_class["emu"].values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_objects_at_all_give_no_metrics(backend) -> None:
    metrics, _ = metrics_of([(result([(0, 0.9, rectangle(1, 2, 30, 40))]), [])]).compute(backend)
    assert all(math.isnan(value) for value in metrics.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_detections_give_zero(backend) -> None:
    metrics, _ = metrics_of([(result([]), [(0, rectangle(1, 2, 30, 40), False, 1200.0)])]).compute(
        backend
    )
    assert (metrics["AP"], metrics["AR100"], metrics["boxAP"], metrics["APm"]) == (0, 0, 0, 0)
    assert math.isnan(metrics["APs"])  # 30 x 40 is medium


@pytest.mark.parametrize("backend", BACKENDS)
def test_ap_by_hand(backend) -> None:
    truth = [(0, rectangle(0, 0, 10, 10), False, 100.0)]
    # 7 of the 10 rows: IoU 0.7 passes the thresholds 0.50, 0.55, ..., 0.70: 5 of 10
    found = result([(0, 0.9, rectangle(0, 0, 7, 10))])
    metrics, _ = metrics_of([(found, truth)]).compute(backend)
    assert metrics["AP"] == pytest.approx(50)
    assert (metrics["AP50"], metrics["AP75"]) == (pytest.approx(100), pytest.approx(0))


def test_parts_merge_to_the_whole_in_data_set_order() -> None:
    images = random_images(4, 9)
    whole = metrics_of(images).compute("pycocotools")
    parts = InstanceMetrics(CLASSES), InstanceMetrics(CLASSES)
    for index, image in reversed(list(enumerate(images))):
        parts[index % 2].update(index, *image)
    parts[1].update(0, *images[0])  # the sampler of several processes may repeat an image
    parts[0].merge(parts[1])
    merged = parts[0].compute("pycocotools")
    assert merged[0] == pytest.approx(whole[0], nan_ok=True, abs=0)


def test_equal_scores_are_ordered_by_image_id_whatever_comes_first() -> None:
    # image 3 finds its object; image 20 finds nothing right; both with the same score
    right, wrong = rectangle(0, 0, 40, 40), rectangle(100, 100, 40, 40)
    truth = [(0, right, False, 1600.0)]
    images = {20: (result([(0, 0.5, wrong)]), []), 3: (result([(0, 0.5, right)]), truth)}
    metrics = InstanceMetrics(CLASSES)
    for image_id, image in images.items():
        metrics.update(image_id, *image)
    # the right one is first: precision 1 at full recall; the other way round it would be 1 / 2
    assert metrics.compute("pycocotools")[0]["AP"] == pytest.approx(100)
    named = InstanceMetrics(CLASSES)
    for image_id, image in images.items():
        named.update(f"{image_id:02}", *image)
    assert named.compute("pycocotools")[0]["AP"] == pytest.approx(100)


def test_sizes_must_agree() -> None:
    truth = [(0, rectangle(0, 0, 3, 3, size=(5, 7)), False, 9.0)]
    with pytest.raises(ValueError, match=r"\(h, w\) = \(230, 270\) and the ground truth \(5, 7\)"):
        InstanceMetrics(CLASSES).update(0, result([]), truth)
