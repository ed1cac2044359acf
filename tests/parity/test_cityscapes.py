"""The metrics of Cityscapes, with cityscapesScripts on random images and on a real one."""

import contextlib
import copy
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import SegmentMap
from mask2former.data.class_tables import class_table
from mask2former.data.dataset import Record
from mask2former.data.formats.cityscapes import decode
from mask2former.evaluation.cityscapes_objects import CityscapesObjects
from mask2former.evaluation.cityscapes_pixels import CityscapesPixels
from mask2former.masks.rle import encode_mask, rle_area, rle_box
from mask2former.types import InstanceResult, Segment

pytestmark = pytest.mark.parity

SAMPLE = Path(__file__).parents[2] / ".." / "shared" / "data" / "cityscapes_sample"
REASON = "needs cityscapesScripts; run: make test-cityscapes"
CLASSES = class_table("cityscapes")
THINGS = class_table("cityscapes_instance")
UNSCORED = [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30]
LABELS_WITH_OBJECTS = [*THINGS.category_ids, 29, 30]
CLASS_OF = np.full(34, len(CLASSES))
CLASS_OF[list(CLASSES.category_ids)] = range(len(CLASSES))
SIZE = (40, 60)
TOLERANCE = 1e-9  # in percent


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[ModuleType, ModuleType]:
    """Its evaluators of pixels and of objects."""
    modules = [
        pytest.importorskip(
            f"cityscapesscripts.evaluation.{name}", reason=REASON, exc_type=ImportError
        )
        for name in ("evalPixelLevelSemanticLabeling", "evalInstanceLevelSemanticLabeling")
    ]
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # NumPy 2.4 has it no longer
    monkeypatch.chdir(tmp_path)  # where it writes matches.json
    return modules[0], modules[1]


def random_ids(generator: np.random.Generator, labels: list[int]) -> np.ndarray:
    """What `*_instanceIds.png` holds: patches of stuff, of nothing, and boxes of objects."""
    stuff = [*UNSCORED, *(c for c in CLASSES.category_ids if c not in THINGS.category_ids)]
    coarse = generator.choice(stuff, (8, 6))
    ids = np.kron(coarse, np.ones((5, 10), int))
    for number in range(generator.integers(0, 10)):
        label = int(generator.choice(labels))
        height, width = generator.integers([4, 4], [20, 30])
        top, left = generator.integers(0, [SIZE[0] - height + 1, SIZE[1] - width + 1])
        value = label if generator.random() < 0.2 else label * 1000 + number
        ids[top : top + height, left : left + width] = value
    return ids


def write_truth(folder: Path, name: str, ids: np.ndarray) -> SegmentMap:
    """Write both files of an image, and read it as the package does."""
    labels = np.where(ids < 1000, ids, ids // 1000)
    Image.fromarray(labels.astype(np.uint8)).save(folder / f"{name}_labelIds.png")
    path = folder / f"{name}_instanceIds.png"
    Image.fromarray(ids.astype(np.uint16)).save(path)
    return decode(Record(name, path, ("instanceIds.png", str(path))))


def random_labels(generator: np.random.Generator, ids: np.ndarray) -> np.ndarray:
    """Predicted labels, partly right; 0 for a class that the data set lacks."""
    labels = np.where(ids < 1000, ids, ids // 1000)
    shifted = np.roll(labels, generator.integers(-2, 3, 2), (0, 1))
    others = generator.choice([0, *CLASSES.category_ids], (8, 6))
    others = np.kron(others, np.ones((5, 10), int))
    is_other = np.kron(generator.random((8, 6)) < 0.4, np.ones((5, 10), bool))
    mixed = np.where(is_other, others, shifted)
    return np.where(np.isin(mixed, CLASSES.category_ids), mixed, 0)


def random_mask(generator: np.random.Generator, ids: np.ndarray) -> np.ndarray:
    """Mostly a segment, moved, cut or mixed with what lies elsewhere."""
    mask = ids == generator.choice(np.unique(ids))
    kind = generator.integers(5)
    if kind == 0:
        mask = np.roll(mask, generator.integers(-3, 4, 2), (0, 1))
    elif kind == 1:
        # so many twentieths of it that the overlap meets a threshold exactly
        inside = np.flatnonzero(mask)
        kept = inside[: len(inside) * generator.integers(8, 21) // 20]
        mask = np.isin(np.arange(mask.size), kept).reshape(mask.shape)
    elif kind == 2:
        mask = mask | np.roll(mask, generator.integers(-20, 21, 2), (0, 1))
    elif kind == 3:
        rows, columns = np.sort(generator.integers(0, 41, 2)), np.sort(generator.integers(0, 61, 2))
        mask = np.zeros_like(mask)
        mask[slice(*rows), slice(*columns)] = True
    return mask


def random_objects(
    generator: np.random.Generator, ids: np.ndarray, labels: list[int]
) -> list[tuple[np.ndarray, int, float]]:
    """(mask, label, score) of some predictions; scores repeat, and so do masks."""
    objects = []
    for _ in range(generator.integers(0, 16)):
        mask = random_mask(generator, ids)
        values = ids[mask]
        label = int(generator.choice(labels))
        if len(values) and generator.random() < 0.8:
            value = int(np.bincount(values).argmax())
            label = value if value < 1000 else value // 1000
        if label in THINGS.category_ids:
            copies = 2 if generator.random() < 0.2 else 1
            scores = generator.integers(1, 6, copies) / 8
            objects += [(mask, label, float(score)) for score in scores]
    return objects


def as_result(size: tuple[int, int], objects: list[tuple[np.ndarray, int, float]]):
    class_ids = THINGS.class_id_by_category()
    rles = [encode_mask(mask) for mask, _, _ in objects]
    segments = [
        Segment(i, class_ids[label], score, rle_area(rle), rle_box(rle))
        for i, (rle, (_, label, score)) in enumerate(zip(rles, objects, strict=True))
    ]
    return InstanceResult(*size, rles, segments)


def write_objects(folder: Path, name: str, objects: list[tuple[np.ndarray, int, float]]) -> str:
    lines = []
    for i, (mask, label, score) in enumerate(objects):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}_{i}.png")
        lines.append(f"{name}_{i}.png {label} {score!r}\n")
    (folder / f"{name}.txt").write_text("".join(lines))
    return str(folder / f"{name}.txt")


def their_pixels(module: Any, folder: Path, names: list[str]) -> dict[str, Any]:
    args = copy.copy(module.args)
    args.quiet, args.JSONOutput = True, False
    predicted = [str(folder / f"{name}_predicted.png") for name in names]
    truths = [str(folder / f"{name}_labelIds.png") for name in names]
    return module.evaluateImgLists(predicted, truths, args)


def their_objects(module: Any, folder: Path, names: list[str]) -> dict[str, Any]:
    """Its averages; where it fails because all predictions of a class are ignored, AP is 0."""
    args = copy.copy(module.args)
    args.quiet, args.gtInstancesFile = True, str(folder / "objects.json")
    args.predictionPath = str(folder)
    module.setInstanceLabels(args)
    truths = [str(folder / f"{name}_instanceIds.png") for name in names]
    predicted = [str(folder / f"{name}.txt") for name in names]
    found = module.getGtInstances(truths, args)
    matches = module.matchGtWithPreds(predicted, truths, found, args)
    precision = np.zeros((1, len(args.instLabels), len(args.overlaps)))
    for i, name in enumerate(args.instLabels):
        for j, overlap in enumerate(args.overlaps):
            one = copy.copy(args)
            one.instLabels, one.overlaps = [name], np.array([overlap])
            with contextlib.suppress(IndexError):
                precision[0, i, j] = module.evaluateMatches(matches, one).item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing
        return module.computeAverages(precision, args)


def assert_equal_pixels(metrics: CityscapesPixels, theirs: dict[str, Any]) -> int:
    """Every number that both have; how many are defined."""
    overall, per_class = metrics.compute()
    table = metrics.per_category()
    pairs = [
        (overall["IoU"], theirs["averageScoreClasses"]),
        (overall["iIoU"], theirs["averageScoreInstClasses"]),
        (overall["IoU_sup"], theirs["averageScoreCategories"]),
        (overall["iIoU_sup"], theirs["averageScoreInstCategories"]),
        *((of["iIoU"], theirs["classInstScores"][name]) for name, of in per_class.items()),
        *((of["IoU"], theirs["categoryScores"][name]) for name, of in table.items()),
        *((table[n]["iIoU"], theirs["categoryInstScores"][n]) for n in ("human", "vehicle")),
    ]
    return assert_all_close(pairs)


def assert_equal_objects(metrics: CityscapesObjects, theirs: dict[str, Any]) -> int:
    overall, per_class = metrics.compute()
    pairs = [
        (overall["AP"], theirs["allAp"]),
        (overall["AP50"], theirs["allAp50%"]),
        *((per_class[name]["AP"], of["ap"]) for name, of in theirs["classes"].items()),
        *((per_class[name]["AP50"], of["ap50%"]) for name, of in theirs["classes"].items()),
    ]
    assert per_class.keys() == theirs["classes"].keys()
    return assert_all_close(pairs)


def assert_all_close(pairs: list[tuple[float, float]]) -> int:
    ours, theirs = np.array(pairs).T
    np.testing.assert_allclose(ours, 100 * theirs, rtol=0, atol=TOLERANCE)
    return int(np.isfinite(ours).sum())


@pytest.mark.parametrize("seed", range(80))
def test_pixels_equal_the_benchmark(seed: int, reference, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    metrics = CityscapesPixels(CLASSES)
    names = [f"a_{i}" for i in range(generator.integers(1, 5))]
    for name in names:
        ids = random_ids(generator, LABELS_WITH_OBJECTS)
        truth = write_truth(tmp_path, name, ids)
        labels = random_labels(generator, ids)
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"{name}_predicted.png")
        metrics.update(CLASS_OF[labels], truth)
    assert assert_equal_pixels(metrics, their_pixels(reference[0], tmp_path, names)) > 4


@pytest.mark.parametrize("seed", range(160))
def test_objects_equal_the_benchmark(seed: int, reference, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    metrics = CityscapesObjects(THINGS)
    # few classes, so that objects of one class lie side by side
    labels = generator.choice(LABELS_WITH_OBJECTS, 3).tolist()
    names = [f"a_{i}" for i in range(generator.integers(1, 5))]
    for name in names:
        ids = random_ids(generator, labels)
        truth = write_truth(tmp_path, name, ids)
        objects = random_objects(generator, ids, labels)
        write_objects(tmp_path, name, objects)
        metrics.update(as_result(SIZE, objects), truth, CLASSES)
    assert_equal_objects(metrics, their_objects(reference[1], tmp_path, names))


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real sample data are not beside this checkout")
def test_a_real_image_equals_the_benchmark(reference, tmp_path: Path) -> None:
    path = next(SAMPLE.rglob("*_instanceIds.png"))
    ids = np.asarray(Image.open(path)).astype(np.int64)
    truth = write_truth(tmp_path, "a_0", ids)
    shifted = np.roll(ids, (3, 5), (0, 1))
    labels = np.where(shifted < 1000, shifted, shifted // 1000)
    labels = np.where(np.isin(labels, CLASSES.category_ids), labels, 0)
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "a_0_predicted.png")
    pixels, objects = CityscapesPixels(CLASSES), CityscapesObjects(THINGS)
    pixels.update(CLASS_OF[labels], truth)
    values = [int(v) for v in np.unique(ids) if v // 1000 in THINGS.category_ids]
    predicted = [(shifted == v, v // 1000, (v % 7 + 1) / 8) for v in values]
    write_objects(tmp_path, "a_0", predicted)
    objects.update(as_result(ids.shape, predicted), truth, CLASSES)
    assert assert_equal_pixels(pixels, their_pixels(reference[0], tmp_path, ["a_0"])) > 10
    assert (
        assert_equal_objects(objects, their_objects(reference[1], tmp_path, ["a_0"])) == 4
    )  # cars
