"""Panoptic quality of random images, against panopticapi's rules written out, and hotcoco."""

import json
import math
import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentLabel
from mask2former.evaluation.panoptic import PanopticMetrics
from mask2former.evaluation.semantic import SemanticMetrics
from mask2former.types import Classes, Segment

CLASSES = Classes(("dog", "cat", "grass"), (18, 17, 1), (True, True, False))
OFFSET = 256**3
VOID = 0


def segment(id_, class_id):
    return Segment(id_, class_id, score=1.0, area=0, box=(0.0, 0.0, 0.0, 0.0))


def count(metrics, predicted, predicted_classes, truth, true_segments):
    metrics.update(
        np.array(predicted),
        [segment(id_, class_id) for id_, class_id in predicted_classes.items()],
        np.array(truth),
        [SegmentLabel(*s) for s in true_segments],
    )


class PlainPanoptic:
    """The rules of panopticapi, segment by segment, with a dictionary for everything."""

    def __init__(self, num_classes):
        self.ious = [[] for _ in range(num_classes)]
        self.counts = np.zeros((3, num_classes), int)
        self.seen = Counter()

    def update(self, predicted, predicted_classes, truth, true_segments):
        area, true_area, shared = Counter(), Counter(), Counter()
        for pair in (truth.astype(np.int64) * OFFSET + predicted).ravel().tolist():
            true_id, id_ = divmod(pair, OFFSET)
            area[id_] += 1
            true_area[true_id] += 1
            shared[true_id, id_] += 1
        true_class = {id_: class_id for id_, class_id, _ in true_segments}
        crowd = {id_ for id_, _, is_crowd in true_segments if is_crowd}
        found, matched = set(), set()
        for (true_id, id_), pixels in shared.items():
            if VOID in (true_id, id_) or true_id in crowd:
                continue
            class_id = true_class[true_id]
            if class_id != predicted_classes[id_]:
                continue
            union = area[id_] + true_area[true_id] - pixels - shared[VOID, id_]
            self.seen["an IoU of exactly 1/2"] += pixels / union == 0.5
            if pixels / union > 0.5:
                self.counts[0, class_id] += 1
                self.ious[class_id].append(pixels / union)
                found.add(true_id)
                matched.add(id_)
        crowd_of_class = {}
        for id_, class_id in true_class.items():
            if id_ in crowd:
                self.seen["a second crowd of a class"] += class_id in crowd_of_class
                crowd_of_class[class_id] = id_
            elif id_ not in found:
                self.counts[2, class_id] += 1
        for id_, class_id in predicted_classes.items():
            if id_ in matched:
                continue
            in_crowd = shared[crowd_of_class[class_id], id_] if class_id in crowd_of_class else 0
            excused = (shared[VOID, id_] + in_crowd) / area[id_]
            self.seen["exactly half in void"] += excused == 0.5 and not in_crowd
            self.seen["exactly half in crowd"] += excused == 0.5 and bool(in_crowd)
            self.seen["mostly in void and crowd"] += excused > 0.5
            if excused <= 0.5:
                self.counts[1, class_id] += 1

    def means(self, class_ids):
        """PQ, SQ, RQ in percent over those of the classes that occur; None if none does."""
        sums, number = [0.0, 0.0, 0.0], 0
        for class_id in class_ids:
            tp, fp, fn = self.counts[:, class_id].tolist()
            if tp + fp + fn == 0:
                continue
            iou, whole = sum(self.ious[class_id]), tp + 0.5 * fp + 0.5 * fn
            quality = (iou / whole, iou / tp if tp else 0.0, tp / whole)
            sums = [a + b for a, b in zip(sums, quality, strict=True)]
            number += 1
        return [100 * value / number for value in sums] if number else None


def blocks(generator, shape, count):
    """A map of `count` ids that lie in blocks, as segments do."""
    coarse = generator.integers(0, count, (-(-shape[0] // 4), -(-shape[1] // 5)))
    return np.kron(coarse, np.ones((4, 5), int))[: shape[0], : shape[1]]


def moved(ids, generator):
    """A prediction: shifted a little, one in four blocks replaced."""
    shifted = np.roll(ids, generator.integers(-1, 2, 2), (0, 1))
    other = blocks(generator, ids.shape, ids.max() + 2)
    return np.where(blocks(generator, ids.shape, 4) == 0, other, shifted)


def random_image(generator):
    """(predicted, class by id, truth, segments); small enough that exact halves are common."""
    shape = [(1, 8), (2, 6), (3, 5), (24, 17), (31, 43)][generator.integers(5)]
    truth = blocks(generator, shape, 9)
    if shape[0] < 4:
        truth = generator.integers(0, 4, shape)
    predicted = moved(truth, generator)
    truth = np.array([0, *1 + generator.choice(OFFSET - 1, 8, replace=False)])[truth]
    if generator.random() < 0.05:
        truth[:] = VOID
    if generator.random() < 0.05:
        predicted[:] = VOID
    crowds = generator.choice([0, 0.2, 0.6])
    true_segments = [
        (int(id_), int(generator.integers(3)), bool(generator.random() < crowds))
        for id_ in generator.permutation(np.unique(truth))
        if id_ != VOID
    ]
    # most predictions have the class of what they cover
    true_class = {id_: class_id for id_, class_id, _ in true_segments}
    predicted_classes = {}
    for id_ in generator.permutation(np.unique(predicted)).tolist():
        covered = true_class.get(int(truth[predicted == id_][0]), 0)
        if id_ != VOID:
            drawn = covered if generator.random() < 0.8 else generator.integers(3)
            predicted_classes[id_] = int(drawn)
    return predicted, predicted_classes, truth, true_segments


def agrees(metrics, plain):
    assert np.array_equal(metrics.quality.counts, plain.counts)
    values, per_class = metrics.compute()
    is_thing = metrics.classes.is_thing
    groups = {
        "": range(len(is_thing)),
        "_th": [i for i, thing in enumerate(is_thing) if thing],
        "_st": [i for i, thing in enumerate(is_thing) if not thing],
    }
    for suffix, class_ids in groups.items():
        found = [values[name + suffix] for name in ("PQ", "SQ", "RQ")]
        expected = plain.means(class_ids) or [math.nan] * 3
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    for class_id, row in enumerate(per_class.values()):
        expected = plain.means([class_id]) or [math.nan] * 3
        np.testing.assert_allclose(list(row.values()), expected, rtol=0, atol=1e-9)


def test_each_of_many_images_scores_as_in_panopticapi() -> None:
    generator = np.random.default_rng(0)
    seen = Counter()
    for _ in range(500):
        image = random_image(generator)
        metrics, plain = PanopticMetrics(CLASSES), PlainPanoptic(3)
        count(metrics, *image)
        plain.update(*image)
        agrees(metrics, plain)
        seen += plain.seen
        seen["no prediction"] += not image[1]
        seen["no truth"] += not image[3]
        seen["an absent class"] += (plain.counts.sum(axis=0) == 0).any()
    rules = {
        "an IoU of exactly 1/2",
        "a second crowd of a class",
        "exactly half in void",
        "exactly half in crowd",
        "mostly in void and crowd",
        "no prediction",
        "no truth",
        "an absent class",
    }
    assert rules == {rule for rule, times in seen.items() if times >= 3}


@pytest.mark.parametrize("seed", range(3))
def test_many_images_together_score_as_in_panopticapi(seed) -> None:
    generator = np.random.default_rng(seed)
    metrics, plain = PanopticMetrics(CLASSES), PlainPanoptic(3)
    for _ in range(40):
        image = random_image(generator)
        count(metrics, *image)
        plain.update(*image)
    agrees(metrics, plain)
    assert plain.counts.min() > 0  # matched, spurious and missed all occur


def as_coco(folder, images):
    """Ground truth and predictions as COCO stores them; returns the paths of the two JSON files."""
    categories = [
        {"id": category_id, "name": name, "isthing": int(thing)}
        for name, category_id, thing in zip(*vars(CLASSES).values(), strict=True)
    ]
    true_rows, rows = [], []
    for number, (predicted, predicted_classes, truth, true_segments) in enumerate(images):
        segments = [(id_, class_id, False) for id_, class_id in predicted_classes.items()]
        for which, ids, listed, into in (
            ("true", truth, true_segments, true_rows),
            ("predicted", predicted, segments, rows),
        ):
            name = f"{number}.png"
            (folder / which).mkdir(exist_ok=True)
            rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], -1).astype(np.uint8)
            Image.fromarray(rgb).save(folder / which / name)
            infos = [
                {
                    "id": id_,
                    "category_id": CLASSES.category_ids[class_id],
                    "iscrowd": int(is_crowd),
                    "area": int((ids == id_).sum()),
                }
                for id_, class_id, is_crowd in listed
            ]
            into.append({"image_id": number, "file_name": name, "segments_info": infos})
    sizes = [
        {"id": number, "height": image[0].shape[0], "width": image[0].shape[1]}
        for number, image in enumerate(images)
    ]
    for which, annotations in (("true", true_rows), ("predicted", rows)):
        contents = {"images": sizes, "annotations": annotations, "categories": categories}
        (folder / f"{which}.json").write_text(json.dumps(contents))
    return folder / "true.json", folder / "predicted.json"


def test_hotcoco_agrees(tmp_path) -> None:
    panoptic = pytest.importorskip("hotcoco.panoptic")
    generator = np.random.default_rng(11)
    images = [random_image(generator) for _ in range(200)]
    metrics = PanopticMetrics(CLASSES)
    for image in images:
        count(metrics, *image)
    theirs = panoptic.pq_compute(*as_coco(tmp_path, images))
    values, per_class = metrics.compute()
    for group, suffix in (("All", ""), ("Things", "_th"), ("Stuff", "_st")):
        for name in ("PQ", "SQ", "RQ"):
            assert values[name + suffix] == pytest.approx(
                100 * theirs[group][name.lower()], abs=1e-9
            )
    for name, category_id in zip(CLASSES.names, CLASSES.category_ids, strict=True):
        expected = theirs["per_class"][category_id]
        found = {metric.lower(): value / 100 for metric, value in per_class[name].items()}
        assert found == pytest.approx({m: expected[m] for m in found}, abs=1e-11)


def test_no_order_and_no_division_among_processes_changes_a_bit() -> None:
    generator = np.random.default_rng(3)
    images, plain = [random_image(generator) for _ in range(200)], PlainPanoptic(3)
    whole = PanopticMetrics(CLASSES)
    for image in images:
        count(whole, *image)
        plain.update(*image)
    matched, spurious, missed = plain.counts
    for i, row in enumerate(whole.compute()[1].values()):
        exact = math.fsum(plain.ious[i]) / (matched[i] + (spurious[i] + missed[i]) / 2)
        assert row["PQ"] == 100 * exact
    for num_processes in (2, 3, 7):
        parts = [PanopticMetrics(CLASSES) for _ in range(num_processes)]
        for position in generator.permutation(len(images)):
            count(parts[generator.integers(num_processes)], *images[position])
        merged = PanopticMetrics(CLASSES)
        for part in generator.permutation(np.array(parts, object)):
            merged.merge(pickle.loads(pickle.dumps(part)))  # noqa: S301 - made here
        assert merged.compute() == whole.compute()


@pytest.mark.parametrize("seed", range(3))
def test_semantic_predictions_score_as_segments_of_a_class_each(seed) -> None:
    generator = np.random.default_rng(seed)
    semantic, plain = SemanticMetrics(CLASSES, panoptic_quality=True), PlainPanoptic(3)
    panoptic = PanopticMetrics(CLASSES)
    for _ in range(40):
        shape = [(1, 8), (3, 5), (24, 17)][generator.integers(3)]
        truth = blocks(generator, shape, 4) - 1
        predicted = np.clip(moved(truth + 1, generator) - 1, 0, 3)  # 3: not of the data set
        semantic.update(predicted, truth)
        ids = np.where(predicted == 3, VOID, predicted + 1)
        segments = (
            ids,
            {id_: id_ - 1 for id_ in np.unique(ids).tolist() if id_ != VOID},
            truth + 1,
            [(id_, id_ - 1, False) for id_ in np.unique(truth + 1).tolist() if id_ != VOID],
        )
        count(panoptic, *segments)
        plain.update(*segments)
    agrees(panoptic, plain)
    assert plain.counts.min() > 0
    metrics, per_class = semantic.compute()
    expected, expected_per_class = panoptic.compute()
    for name in ("PQ", "SQ", "RQ"):
        assert metrics[name] == expected[name]
        for class_name, row in expected_per_class.items():
            assert per_class[class_name][name] == row[name]
