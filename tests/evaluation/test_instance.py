"""AP by hand and, to the last bit, against pycocotools used the ordinary way."""

import contextlib
import io
import math
import pickle

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import binary_erosion

from mask2former.data.derive import TrueObject
from mask2former.evaluation import instance
from mask2former.evaluation.instance import InstanceMetrics
from mask2former.masks.rle import decode_rle, encode_mask, rle_area, rle_box
from mask2former.types import Classes, InstanceResult, Segment

# neither the ids nor their order are those of positions; "sky" is no thing; nobody is an "emu"
CLASSES = Classes(
    ("dog", "sky", "cat", "cat", "emu"), (18, 5, 17, 90, 7), (True, False, True, True, True)
)
NAMES = {18: "dog", 17: "cat (id 17)", 90: "cat (id 90)", 7: "emu"}
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
SIZE = (230, 270)


def rectangle(y, x, height, width, size=SIZE):
    mask = np.zeros(size, bool)
    mask[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = True
    return encode_mask(mask)


def true_object(class_id, rle, crowd=False, area=None, box=None):
    area = float(rle_area(rle)) if area is None else area
    return TrueObject(class_id, rle, crowd, area, rle_box(rle) if box is None else box)


def result(objects, size=SIZE):
    """From (class id, score, RLE)."""
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
            # area and box of the file may differ from the mask's
            box = (x + 0.25, y - 0.5, width - 0.125, height + 0.75)
            truth.append(true_object(class_id, rle, crowd, float(rle_area(rle)) * 0.98, box))
            for _ in range(generator.integers(0, 3)):
                dy, dx, dh, dw = generator.integers(-2, 3, 4)
                moved = rectangle(y + dy, x + dx, height + dh, width + dw)
                score = float(generator.choice([0.2, 0.5, 0.5, 0.9]))
                other = int(generator.integers(4))
                found.append((class_id if generator.random() < 0.9 else other, score, moved))
        images.append((result(found if index != 3 else []), truth))
    return images


def crowded_image(generator):
    """A tiny image where everything overlaps: equal IoUs and scores, areas at the limits."""
    size = tuple(int(length) for length in generator.integers(3, 9, 2))
    # masks have few pixels, but the areas that the file states reach all ranges
    areas = (0.0, 4.0, 32.0**2, 32.0**2 + 1, 96.0**2, 96.0**2 + 0.5, 1e10, 2e10)
    truth, found = [], []
    for _ in range(generator.integers(0, 7)):
        rle = encode_mask(generator.random(size) < generator.choice([0.1, 0.5, 0.8, 1.0]))
        crowd, area = bool(generator.random() < 0.25), float(generator.choice(areas))
        truth.append(true_object(int(generator.integers(4)), rle, crowd, area))
    for _ in range(generator.integers(0, 9)):
        mask = generator.random(size) < generator.choice([0.05, 0.5, 0.9, 1.0])
        if truth and generator.random() < 0.7:
            kept = generator.random(size) < generator.choice([0.6, 0.8, 1.0])
            mask = kept & decode_rle(truth[generator.integers(len(truth))].rle)
        score = float(generator.choice([0.0, 0.25, 0.5, 1.0]))
        found.append((int(generator.integers(4)), score, encode_mask(mask)))
    return result(found, size), truth


def metrics_of(images, **options):
    metrics = InstanceMetrics(CLASSES, **options)
    for index, (found, truth) in enumerate(images, start=1):
        metrics.update(index, found, truth)
    return metrics


def boundary_of(rle):
    """The whole image, padded as the boundary tool does it."""
    mask = np.pad(decode_rle(rle), 1)
    distance = max(1, round(0.02 * float(np.sqrt(rle["size"][0] ** 2 + rle["size"][1] ** 2))))
    inner = binary_erosion(mask, np.ones((3, 3)), iterations=distance)
    return encode_mask((mask & ~inner)[1:-1, 1:-1])


class BoundaryEval(COCOeval):
    """Pairs are rated by the lower of two IoUs, unless the object is a crowd."""

    def computeIoU(self, imgId, catId):  # noqa: N802
        ious = super().computeIoU(imgId, catId)
        found, truth = self._dts[imgId, catId], self._gts[imgId, catId]
        if len(ious) == 0:
            return ious
        order = np.argsort([-d["score"] for d in found], kind="stable")[:100]
        of_found = [boundary_of(found[i]["segmentation"]) for i in order]
        of_truth = [boundary_of(t["segmentation"]) for t in truth]
        crowds = [t["iscrowd"] for t in truth]
        thin = coco_mask.iou(of_found, of_truth, crowds)
        return np.where(np.array(crowds, bool), ious, np.minimum(ious, thin))


def coco_dataset(images, kind):
    """(truth, detections) as pycocotools takes them."""
    truth, found = [], []
    for image_id, (prediction, objects) in enumerate(images, start=1):
        for item in objects:
            if CLASSES.is_thing[item.class_id]:
                truth.append(
                    {
                        "id": len(truth) + 1,
                        "image_id": image_id,
                        "category_id": CLASSES.category_ids[item.class_id],
                        "segmentation": item.rle,
                        "bbox": list(item.box),
                        "area": item.area,
                        "iscrowd": int(item.is_crowd),
                    }
                )
        for segment, rle in zip(prediction.segments, prediction.rles, strict=True):
            shape = {"bbox": list(segment.box)} if kind == "bbox" else {"segmentation": rle}
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
    dataset = {
        "info": {},
        "images": [
            {"id": i, "height": prediction.height, "width": prediction.width}
            for i, (prediction, _) in enumerate(images, start=1)
        ],
        "annotations": truth,
        "categories": [
            {"id": c, "name": str(c)}
            for c, is_thing in zip(CLASSES.category_ids, CLASSES.is_thing, strict=True)
            if is_thing
        ],
    }
    return dataset, found


def coco_evaluation(images, kind):
    """pycocotools with `loadRes`, as its users call it."""
    dataset, found = coco_dataset(images, kind)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = dataset
        coco.createIndex()
        if found:
            detections = coco.loadRes(found)
        else:  # `loadRes` takes no empty list
            detections = COCO()
            detections.dataset = dataset | {"annotations": []}
            detections.createIndex()
        evaluation = (
            BoundaryEval(coco, detections, "segm")
            if kind == "boundary"
            else COCOeval(coco, detections, kind)
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def expected(images):
    """Metrics, metrics by class, and curves, all by pycocotools."""
    segm, bbox, boundary = (coco_evaluation(images, k) for k in ("segm", "bbox", "boundary"))
    stats = dict(zip(STATS, segm.stats, strict=False))
    stats |= {"boxAP": bbox.stats[0], "boundaryAP": boundary.stats[0]}
    stats["boundaryAP50"] = boundary.stats[1]
    per_class, curves = {}, {}
    for k, category_id in enumerate(segm.params.catIds):
        precision = {
            "AP": segm.eval["precision"][:, :, k, 0, 2],
            "AP50": segm.eval["precision"][0, :, k, 0, 2],
            "boxAP": bbox.eval["precision"][:, :, k, 0, 2],
            "boundaryAP": boundary.eval["precision"][:, :, k, 0, 2],
        }
        means = {name: p[p > -1].mean() if (p > -1).any() else -1 for name, p in precision.items()}
        per_class[NAMES[int(category_id)]] = {n: in_percent(m) for n, m in means.items()}
        if precision["AP"][0, 0] > -1:
            curves[NAMES[int(category_id)]] = precision["AP"]
    return {name: in_percent(value) for name, value in stats.items()}, per_class, curves


def in_percent(value):
    return math.nan if value == -1 else 100 * float(value)


def assert_equal_to_pycocotools(images):
    metrics = metrics_of(images)
    of_all, per_class, curves = expected(images)
    found, found_per_class = metrics.compute()
    assert found == pytest.approx(of_all, nan_ok=True, abs=0, rel=0)
    assert set(found_per_class) == set(per_class)
    for name, values in per_class.items():
        assert found_per_class[name] == pytest.approx(values, nan_ok=True, abs=0, rel=0)
    found_curves = metrics.curves()
    assert set(found_curves) == set(curves)
    for name, curve in curves.items():
        np.testing.assert_array_equal(found_curves[name], curve)


@pytest.mark.parametrize("seed", range(3))
def test_all_numbers_equal_those_of_pycocotools_to_the_last_bit(seed) -> None:
    images = random_images(seed, 20)
    assert_equal_to_pycocotools(images)
    found, _ = metrics_of(images).compute()
    assert all(0 < value < 100 for value in found.values())


@pytest.mark.parametrize("seed", range(12))
def test_small_crowded_images_equal_pycocotools_to_the_last_bit(seed) -> None:
    generator = np.random.default_rng(seed)
    # from one image, where many classes and sizes do not occur, to twenty
    count = generator.integers(1, 5 if seed % 3 else 21)
    assert_equal_to_pycocotools([crowded_image(generator) for _ in range(count)])


def test_more_than_100_detections_of_a_class_equal_pycocotools() -> None:
    generator = np.random.default_rng(0)
    images = []
    for count in (101, 260):
        truth = [
            true_object(2, rectangle(y, x, 3, 3, size=(40, 50)))
            for y in range(0, 40, 5)
            for x in range(0, 50, 5)
        ]
        found = []
        for _ in range(count):
            y, x = generator.integers(0, 8) * 5, generator.integers(0, 10) * 5
            height = generator.integers(2, 4)
            score = float(generator.integers(5)) / 4
            found.append((2, score, rectangle(y, x, height, 3, size=(40, 50))))
        found += [(0, 0.5, rectangle(0, 0, 2, 2, size=(40, 50)))] * 3
        images.append((result(found, (40, 50)), truth))
    assert_equal_to_pycocotools(images)


def test_hotcoco_agrees_to_nine_digits() -> None:
    hotcoco = pytest.importorskip("hotcoco")
    images = random_images(5, 20)
    found, _ = metrics_of(images).compute()
    for kind, names in (("segm", STATS), ("bbox", ("boxAP",))):
        dataset, detections = coco_dataset(images, kind)
        coco = hotcoco.COCO(dataset)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = hotcoco.COCOeval(coco, coco.load_res(detections), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        for name, value in zip(names, evaluation.stats, strict=False):
            # it sums in another order
            assert found[name] == pytest.approx(in_percent(value), rel=1e-9, nan_ok=True)


@pytest.mark.parity
def test_faster_coco_eval_agrees_on_boundaries() -> None:
    reason = "needs faster-coco-eval"
    core = pytest.importorskip("faster_coco_eval", reason=reason)
    images = random_images(6, 20)
    found, _ = metrics_of(images).compute()
    dataset, detections = coco_dataset(images, "segm")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = core.COCO(dataset)
        evaluation = core.COCOeval_faster(coco, coco.loadRes(detections), "boundary")
        evaluation.run()
    assert found["boundaryAP"] == pytest.approx(100 * evaluation.stats[0], rel=1e-9)
    assert found["boundaryAP50"] == pytest.approx(100 * evaluation.stats[1], rel=1e-9)


def test_a_class_without_objects_has_no_value_and_stuff_is_left_out() -> None:
    metrics = metrics_of(random_images(0, 6))
    _, per_class = metrics.compute()
    assert list(per_class) == ["dog", "cat (id 17)", "cat (id 90)", "emu"]
    assert all(math.isnan(value) for value in per_class["emu"].values())
    assert list(metrics.curves()) == ["dog", "cat (id 17)", "cat (id 90)"]


@pytest.mark.parametrize("objects", [[], [(0, 0.9, rectangle(1, 2, 30, 40))]])
def test_no_objects_at_all_give_no_metrics(objects) -> None:
    metrics = metrics_of([(result(objects), [])])
    assert all(math.isnan(value) for value in metrics.compute()[0].values())
    assert metrics.curves() == {}
    assert all(math.isnan(value) for value in InstanceMetrics(CLASSES).compute()[0].values())


def test_no_detections_give_zero() -> None:
    truth = [true_object(0, rectangle(1, 2, 30, 40))]
    metrics, _ = metrics_of([(result([]), truth)]).compute()
    assert math.isnan(metrics.pop("APs"))  # 30 x 40 is medium
    assert math.isnan(metrics.pop("APl"))
    assert set(metrics.values()) == {0}


def test_ap_by_hand() -> None:
    truth = [true_object(0, rectangle(0, 0, 10, 10))]
    # 7 of the 10 rows: IoU 0.7 passes the thresholds 0.50, 0.55, ..., 0.70: 5 of 10
    metrics, _ = metrics_of([(result([(0, 0.9, rectangle(0, 0, 7, 10))]), truth)]).compute()
    assert metrics["AP"] == pytest.approx(50)
    assert (metrics["AP50"], metrics["AP75"]) == (pytest.approx(100), pytest.approx(0))


def test_boundary_ap_by_hand() -> None:
    # the diagonal is 50 px, so that boundaries are 1 px wide
    size = (30, 40)
    truth = [true_object(0, rectangle(5, 5, 12, 12, size=size))]
    found = result([(0, 0.9, rectangle(5, 5, 12, 10, size=size))], size)
    metrics, _ = metrics_of([(found, truth)]).compute()
    # masks: 120 / 144 passes 7 thresholds of 10, 0.50 to 0.80
    assert metrics["AP"] == pytest.approx(70)
    # boundaries of 44 and 40 px share the left column, 12 px, and two rows of 9 px:
    # 30 / (44 + 40 - 30) passes 0.50 and 0.55
    assert metrics["boundaryAP"] == pytest.approx(20)
    assert metrics["boundaryAP50"] == pytest.approx(100)


def test_boxes_of_the_file_are_what_boxes_are_compared_with() -> None:
    truth = [true_object(0, rectangle(0, 0, 10, 10), box=(0.0, 0.0, 8.0, 10.0))]
    metrics, _ = metrics_of([(result([(0, 0.9, rectangle(0, 0, 10, 10))]), truth)]).compute()
    # masks are equal; boxes have the IoU 0.8, and pass 0.50, ..., 0.80: 7 of 10
    assert (metrics["AP"], metrics["boxAP"]) == (pytest.approx(100), pytest.approx(70))


def test_boundaries_can_be_left_out() -> None:
    images = random_images(1, 20)
    with_them, _ = metrics_of(images).compute()
    metrics, per_class = metrics_of(images, boundary=False).compute()
    assert set(with_them) - set(metrics) == {"boundaryAP", "boundaryAP50"}
    assert all(with_them[name] == value for name, value in metrics.items())
    assert set(per_class["dog"]) == {"AP", "AP50", "boxAP"}


def test_parts_merge_to_the_same_bits_in_any_order() -> None:
    images = random_images(4, 9)
    whole = metrics_of(images)
    parts = InstanceMetrics(CLASSES), InstanceMetrics(CLASSES)
    for index, image in reversed(list(enumerate(images, start=1))):
        parts[index % 2].update(index, *image)
    parts[0].merge(pickle.loads(pickle.dumps(parts[1])))  # noqa: S301 our own bytes
    for found, expected_values in zip(parts[0].compute(), whole.compute(), strict=True):
        np.testing.assert_equal(found, expected_values)
    for name, curve in whole.curves().items():
        np.testing.assert_array_equal(parts[0].curves()[name], curve)


def test_an_image_counts_once() -> None:
    [image] = random_images(4, 1)
    metrics = metrics_of([image])
    before = metrics.compute()
    again = r"image 1 was counted already, as one of 1; count each image once"
    with pytest.raises(ValueError, match=again):
        metrics.update(1, *image)
    with pytest.raises(ValueError, match=again):
        metrics.merge(metrics_of([image]))
    np.testing.assert_equal(metrics.compute(), before)
    metrics.update("1", *image)  # another id


def test_detections_are_ranked_once_until_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = []
    accumulate = instance.accumulate
    monkeypatch.setattr(instance, "accumulate", lambda *a: ranked.append(1) or accumulate(*a))
    first, second, third = random_images(5, 3)
    metrics = metrics_of([first])
    metrics.compute()
    metrics.curves()
    assert len(ranked) == 1
    metrics.update(7, *second)
    whole = metrics_of([first])
    whole.update(7, *second)
    np.testing.assert_equal(metrics.compute(), whole.compute())
    assert len(ranked) == 3
    other = InstanceMetrics(CLASSES)
    other.update(8, *third)
    for one in (metrics, whole):
        one.merge(other)
    np.testing.assert_equal(metrics.curves(), whole.curves())
    assert len(ranked) == 5


def test_equal_scores_are_ordered_by_image_id_whatever_comes_first() -> None:
    # image 3 finds its object; image 20 finds nothing right; both with the same score
    right, wrong = rectangle(0, 0, 40, 40), rectangle(100, 100, 40, 40)
    truth = [true_object(0, right)]
    images = {20: (result([(0, 0.5, wrong)]), []), 3: (result([(0, 0.5, right)]), truth)}
    metrics = InstanceMetrics(CLASSES)
    for image_id, image in images.items():
        metrics.update(image_id, *image)
    # the right one is first: precision 1 at full recall; the other way round it would be 1 / 2
    assert metrics.compute()[0]["AP"] == pytest.approx(100)
    named = InstanceMetrics(CLASSES)
    for image_id, image in images.items():
        named.update(f"{image_id:02}", *image)
    assert named.compute()[0]["AP"] == pytest.approx(100)
    mixed = InstanceMetrics(CLASSES)
    mixed.update("3", *images[20])
    mixed.update(20, *images[3])
    assert mixed.compute()[0]["AP"] == pytest.approx(100)  # numbers before text


def test_an_image_is_kept_in_few_bytes() -> None:
    # masks of hundreds of bytes each, which must not be kept
    generator = np.random.default_rng(0)
    found = [(0, 0.5, encode_mask(generator.random(SIZE) < 0.5)) for _ in range(100)]
    metrics = InstanceMetrics(CLASSES)
    empty = len(pickle.dumps(metrics))
    metrics.update(0, result(found), [])
    assert len(pickle.dumps(metrics)) - empty < 100 * 32


def test_sizes_must_agree() -> None:
    truth = [true_object(0, rectangle(0, 0, 3, 3, size=(5, 7)))]
    with pytest.raises(ValueError, match=r"\(h, w\) = \(230, 270\) and the ground truth \(5, 7\)"):
        InstanceMetrics(CLASSES).update(0, result([]), truth)
