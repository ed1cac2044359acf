"""Given results are compared with the images of a split before anything is scored."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.data.open import open_dataset
from mask2former.data.synthetic import write_synthetic
from mask2former.evaluation.evaluate import score_results
from mask2former.evaluation.given.results import open_results
from mask2former.evaluation.scores import Scores
from mask2former.evaluation.truth import ScoredImages, scored_images
from mask2former.tasks import Task
from mask2former.types import InstanceResult, PanopticResult, SemanticResult

EVALUATION_PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn images of split val, and one of train."""
    folder = tmp_path_factory.mktemp("scored") / "data"
    write_synthetic(folder, train_images=1, val_images=3, size=(32, 40), seed=0)
    return folder


def opened(data: Path, task: Task) -> ScoredImages:
    return scored_images(open_dataset(data, "val"), task)


def score(path: Path, images: ScoredImages):
    given = open_results(path, images.main.classes)
    return score_results([given], images), given


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def found_object(images: ScoredImages, index: int) -> dict[str, Any]:
    box = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0]]
    image_id, category_id = images.main.records[index].image_id, images.main.classes.category_ids[0]
    return {
        "image_id": image_id, "category_id": category_id, "segmentation": box, "score": 0.5,
    }  # fmt: skip


@pytest.fixture
def unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be scored."""
    monkeypatch.setattr(Scores, "update", lambda *_: pytest.fail("an image was scored"))


@pytest.mark.usefixtures("unscored")
def test_two_results_of_one_task_are_refused_with_both_paths(data: Path, tmp_path: Path) -> None:
    images = opened(data, "instance")
    paths = [write_json(tmp_path / name, []) for name in ("a.json", "b.json")]
    given = [open_results(path, images.main.classes) for path in paths]
    with pytest.raises(ValueError, match=r"a.json and .*b.json both hold instance results; give"):
        score_results(given, images)


def test_images_without_an_entry_are_counted(data: Path, tmp_path: Path) -> None:
    images = opened(data, "instance")
    path = tmp_path / "r.json"
    nothing, given = score(write_json(path, []), images)
    assert nothing.metrics["AP"] == 0
    no_entry = "images have no entry; nothing counts as found there"
    assert given.notes == (f"{path}: 3 of 3 {no_entry}",)
    _, given = score(write_json(path, [found_object(images, 1)]), images)
    assert given.notes == (f"{path}: 2 of 3 {no_entry}",)
    _, given = score(write_json(path, [found_object(images, i) for i in range(3)]), images)
    assert given.notes == ()


@pytest.mark.usefixtures("unscored")
def test_results_of_other_images_are_refused_before_anything_is_scored(
    data: Path, tmp_path: Path
) -> None:
    images = opened(data, "instance")
    entries = [found_object(images, 0), {**found_object(images, 0), "image_id": 999}]
    with pytest.raises(ValueError, match=r"r.json has results for are not among .*image id 999"):
        score(write_json(tmp_path / "r.json", entries), images)
    for record in images.main.records[1:]:
        (tmp_path / "maps").mkdir(exist_ok=True)
        Image.new("L", (40, 32)).save(tmp_path / "maps" / f"{Path(record.image.name).stem}.png")
    semantic = opened(data, "semantic")
    with pytest.raises(ValueError, match=r"has no result for image .*, only for"):
        score(tmp_path / "maps", semantic)


@pytest.mark.usefixtures("unscored")
@pytest.mark.parametrize("split", ["val", "train"])
def test_annotations_of_the_data_set_are_no_results(data: Path, split: str) -> None:
    images = opened(data, "panoptic")
    [path] = data.rglob(f"*panoptic*{split}*.json")
    with pytest.raises(ValueError, match=r"is an annotation file of the data set in .*, without"):
        score(path, images)


def test_results_without_scores_elsewhere_are_scored(data: Path, tmp_path: Path) -> None:
    images = opened(data, "panoptic")
    [path] = data.rglob("*panoptic*val*.json")
    content = json.loads(path.read_text())
    for png in path.with_suffix("").iterdir():
        (tmp_path / png.name).write_bytes(png.read_bytes())
    found, given = score(write_json(tmp_path / "r.json", content), images)
    assert found.metrics["PQ"] == 100
    assert given.notes == ()


def test_pixels_without_a_class_are_wrong_where_a_class_is_true(data: Path, tmp_path: Path) -> None:
    images = opened(data, "semantic")
    right = pixels = 0
    for index, record in enumerate(images.main.records):
        truth = images.truth(index).semantic_map
        category_ids = np.array([*images.main.classes.category_ids, 255])
        values = category_ids[truth]  # -1, which is not scored: the last
        values[:10] = 255
        right += int((truth[10:] >= 0).sum())
        pixels += int((truth >= 0).sum())
        Image.fromarray(values.astype(np.uint8)).save(
            tmp_path / f"{Path(record.image.name).stem}.png"
        )
    found, given = score(tmp_path, images)
    assert found.metrics["pACC"] == pytest.approx(100 * right / pixels, rel=1e-12)
    assert any("pixels have the value 255, which is no class" in note for note in given.notes)


@pytest.mark.parametrize("task", get_args(Task))
def test_the_documented_metrics_are_those_that_are_computed(data: Path, task: Task) -> None:
    images = opened(data, task)
    scores = Scores(images, images.classes)
    truth = images.truth(0)
    height, width = truth.size
    empty = {
        "semantic": SemanticResult(torch.zeros(height, width, dtype=torch.int64)),
        "instance": InstanceResult(height, width, [], []),
        "panoptic": PanopticResult(torch.zeros(height, width, dtype=torch.int64), []),
    }
    scores.update({t: empty[t] for t in scores.tasks}, truth)
    found = scores.compute()
    in_total, of_each = documented(task)
    assert set(found.metrics) == in_total
    assert {name for row in found.per_class.values() for name in row} == of_each


def documented(task: Task) -> tuple[set[str], set[str]]:
    """Names in the page's table; panoptic has those of the other tasks besides, but for some."""
    rows = [line.split("|")[1:-1] for line in EVALUATION_PAGE.read_text().splitlines()]
    named = {
        row[0].strip(): [set(" ".join(re.findall("`([^`]+)`", cell)).split()) for cell in row[1:]]
        for row in rows
        if len(row) == 3 and row[0].strip() in get_args(Task)
    }
    in_total, of_each = named[task]
    if task == "panoptic":
        only_alone = {"mBoundaryIoU", "boundaryIoU"}
        for other in ("instance", "semantic"):
            in_total |= named[other][0] - only_alone
            of_each |= named[other][1] - only_alone
    return in_total, of_each
