"""What a path holds is found out, and our own results come back as they were."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.data.dataset import Record
from mask2former.evaluation.given.results import GivenResults, open_results, tasks_of
from mask2former.evaluation.kept.file import PredictionsFile
from mask2former.inference.prediction import Prediction
from mask2former.inference.results import ResultsWriter
from mask2former.masks.rle import encode_mask
from mask2former.types import Classes, InstanceResult, PanopticResult, Segment, SemanticResult

CLASSES = Classes(("sky", "road", "car"), (23, 7, 26), (False, False, True))
MASK = np.zeros((5, 9), bool)
MASK[1:4, 2:6] = True


def record(image_id: int | str, file_name: str | None = None) -> Record:
    return Record(image_id, Path("images") / (file_name or f"{image_id}.jpg"), None)


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def found_object(image_id: Any = 1, **changes: Any) -> dict[str, Any]:
    rle = encode_mask(MASK)
    segmentation = {"size": [5, 9], "counts": rle["counts"].decode()}
    entry = {"image_id": image_id, "category_id": 26, "segmentation": segmentation, "score": 0.5}
    return {key: value for key, value in (entry | changes).items() if value is not ...}


def save_png(path: Path, values: Any, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)


def labels(given: GivenResults, image: Record, height: int, width: int) -> list[list[int]]:
    result = given.find(image, height, width, ["semantic"])["semantic"]
    assert isinstance(result, SemanticResult)
    assert result.label_map.dtype == torch.int64
    return result.label_map.tolist()


def objects(given: GivenResults, image: Record, height: int = 5, width: int = 9) -> InstanceResult:
    result = given.find(image, height, width, ["instance"])["instance"]
    assert isinstance(result, InstanceResult)
    return result


def predictions(classes: Classes = CLASSES) -> dict[Any, Prediction]:
    image = np.full((5, 9, 3), 128, np.uint8)
    box, whole = (2.0, 1.0, 4.0, 3.0), (0.0, 0.0, 9.0, 5.0)
    segments = [Segment(1, 2, 0.9, 12, box), Segment(2, 1, 0.8, 33, whole)]
    results = {
        "panoptic": PanopticResult(torch.from_numpy(np.where(MASK, 1, 2)), segments),
        "instance": InstanceResult(5, 9, [encode_mask(MASK)], [Segment(0, 2, 0.25, 12, box)]),
        "semantic": SemanticResult(torch.from_numpy(np.where(MASK, 2, 1))),
    }
    return {task: Prediction(image, classes, task, result) for task, result in results.items()}


def write_ours(folder: Path, kinds: list[str], classes: Classes = CLASSES) -> None:
    with ResultsWriter(folder, classes, kinds) as writer:
        for i in range(2):
            writer.write(
                predictions(classes),
                name=f"photo{i}",
                image_id=f"photo{i}",
                file_name=f"photo{i}.jpg",
                overlay_task="panoptic",
            )


@pytest.mark.parametrize(
    ("kinds", "tasks"),
    [
        (["coco"], ["instance"]),
        (["panoptic"], ["panoptic"]),
        (["masks"], ["semantic"]),
        (["overlay", "masks", "coco", "panoptic"], ["panoptic", "instance", "semantic"]),
    ],
)
@pytest.mark.parametrize("has_same_ids", [True, False])
def test_what_predict_saved_is_read_as_it_was(tmp_path, kinds, tasks, has_same_ids) -> None:
    classes = CLASSES
    if not has_same_ids and kinds != ["coco"]:  # whose file has no names of classes
        classes = Classes(("sky", "road", "car", "pear"), (1, 2, 3, 4), (False,) * 2 + (True,) * 2)
    write_ours(tmp_path, kinds, classes)
    given = open_results(tmp_path, CLASSES)
    assert list(given.tasks) == tasks
    assert sorted(tasks_of(tmp_path)) == sorted(tasks)
    assert given.classes.names == classes.names
    wanted = predictions(classes)
    for i in range(2):
        results = given.find(record(10 + i, f"photo{i}.png"), 5, 9, tasks)
        assert list(results) == tasks
        for task, result in results.items():
            if isinstance(result, SemanticResult):
                np.testing.assert_array_equal(result.label_map, wanted[task].label_map)
                continue
            assert result.segments == wanted[task].segments
            if isinstance(result, PanopticResult):
                np.testing.assert_array_equal(result.segment_map, wanted[task].segment_map)
            else:
                assert isinstance(result, InstanceResult)
                assert result.rles == wanted[task].rles
    given.check_all_found()


def test_only_the_tasks_that_are_wanted_are_read(tmp_path: Path) -> None:
    write_ours(tmp_path, ["masks", "coco"])
    given = open_results(tmp_path, CLASSES)
    (tmp_path / "semantic" / "photo0.png").write_bytes(b"damaged")
    assert list(given.find(record("photo0"), 5, 9, ["instance"])) == ["instance"]
    assert given.unused() == ["image id photo1"]
    with pytest.raises(ValueError, match=r"cannot read .*photo0.png"):
        given.find(record("photo0"), 5, 9, ["semantic"])


def test_a_class_list_without_category_ids_counts_by_its_names(tmp_path: Path) -> None:
    save_png(tmp_path / "results" / "a.png", [[0, 1]])
    write_json(tmp_path / "classes.json", {"classes": ["car", "tree"]})
    given = open_results(tmp_path / "results", Classes(("tree", "car"), (0, 1), (False, True)))
    assert given.classes.names == ("car", "tree")
    assert labels(given, record("a"), 1, 2) == [[0, 1]]
    write_json(tmp_path / "classes.json", {"classes": ["car", "tree"], "category_ids": [1]})
    with pytest.raises(ValueError, match=r"category_ids \[1\] are not one whole number for each"):
        open_results(tmp_path / "results", CLASSES)


def keep(path: Path, image_ids: list[int | str], fingerprint: str = "x") -> None:
    with PredictionsFile(path, CLASSES, {"weights": fingerprint}) as file:
        for image_id in image_ids:
            results = {task: p.result for task, p in predictions().items() if task != "panoptic"}
            file.append(image_id, results)


def test_what_an_evaluation_kept_is_read_from_all_its_files(tmp_path: Path) -> None:
    keep(tmp_path / "predictions-0.jsonl", [1, "b"])
    keep(tmp_path / "predictions-1.jsonl", [])
    keep(tmp_path / "predictions-2.jsonl", [2])
    (tmp_path / "predictions-3.jsonl").write_text('{"format": "mask2f')
    write_json(tmp_path / "metrics.json", {"mIoU": 1})
    assert tasks_of(tmp_path) == ("instance", "semantic")
    given = open_results(tmp_path, Classes((), (), ()))
    assert (given.tasks, given.classes) == (("instance", "semantic"), CLASSES)
    for image in (record(1), record(2), record(3, "b.jpg")):
        results = given.find(image, 5, 9, given.tasks)
        assert objects(given, image) == predictions()["instance"].result
        np.testing.assert_array_equal(
            results["semantic"].label_map, predictions()["semantic"].label_map
        )
    given.check_all_found()
    with pytest.raises(
        ValueError, match=r"has no result for image .*\(id 4\), only for image id 1"
    ):
        given.find(record(4), 5, 9, given.tasks)
    with pytest.raises(
        ValueError, match=r"result of size \(h, w\) = \(5, 9\) for image .* \(9, 5\)"
    ):
        given.find(record(1), 9, 5, given.tasks)
    alone = open_results(tmp_path / "predictions-2.jsonl", CLASSES)
    assert alone.find(record(2), 5, 9, ["semantic"])


def test_files_of_two_evaluations_are_not_mixed(tmp_path: Path) -> None:
    keep(tmp_path / "predictions-0.jsonl", [1])
    keep(tmp_path / "predictions-1.jsonl", [2], fingerprint="y")
    with pytest.raises(ValueError, match=r"fingerprint\.weights is 'y' there and 'x' now"):
        open_results(tmp_path, CLASSES)
    (tmp_path / "predictions-1.jsonl").unlink()
    keep(tmp_path / "predictions-1.jsonl", [1])
    with pytest.raises(ValueError, match=r"image id 1 is in .*-0.jsonl and in .*-1.jsonl; keep"):
        open_results(tmp_path, CLASSES)


def test_an_evaluation_without_an_image_is_told(tmp_path: Path) -> None:
    keep(tmp_path / "predictions-0.jsonl", [])
    for look in (tasks_of, lambda path: open_results(path, CLASSES)):
        with pytest.raises(ValueError, match="holds no image yet"):
            look(tmp_path)


def test_paths_without_results_are_refused_with_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no results are at .*; accepted are COCO results"):
        open_results(tmp_path / "gone", CLASSES)
    with pytest.raises(ValueError, match=r"holds no results; accepted are COCO results"):
        open_results(tmp_path, CLASSES)
    annotations = {"images": [], "annotations": [{"segmentation": []}], "categories": []}
    with pytest.raises(ValueError, match=r"is no list of results but an object .*annotated is no"):
        open_results(write_json(tmp_path / "r.json", annotations), CLASSES)
    (tmp_path / "r.json").write_text("")
    with pytest.raises(ValueError, match=r"r.json does not begin with a list"):
        open_results(tmp_path / "r.json", CLASSES)


def test_two_results_of_one_task_are_refused(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_json(tmp_path / name, [found_object()])
    with pytest.raises(ValueError, match="holds several instance results; give one of the files"):
        open_results(tmp_path, CLASSES)


def test_only_results_of_the_tasks_that_are_scored_are_opened(tmp_path: Path) -> None:
    write_json(tmp_path / "coco_instances_results.json", [])
    rle = encode_mask(np.ones((5, 9), bool))
    mask = {"size": [5, 9], "counts": rle["counts"].decode()}
    entries = [{"file_name": "a.jpg", "category_id": 99, "segmentation": mask}]
    write_json(tmp_path / "sem_seg_predictions.json", entries)
    assert set(tasks_of(tmp_path)) == {"instance", "semantic"}
    given = open_results(tmp_path, CLASSES, ["instance"])
    assert objects(given, record("a")).segments == []
    with pytest.raises(ValueError, match=r"has the value 99, which is no class"):
        open_results(tmp_path, CLASSES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"score": 1}\n{"score": 2}\n', "an object on each line; put all of them in one list"),
        (b'{"results": [{"score": 1}]}', r'an object {"results": \[...\]}; write the list alone'),
        (b'{"results": [{"score"', r'an object {"results": \[...\]}; write the list alone'),
        (b"\x1f\x8b\x08", "r.json is compressed by gzip; unpack it first: gunzip -k .*r.json"),
    ],
)
def test_other_forms_of_results_are_told_by_what_they_are(tmp_path, content, message) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_results(tmp_path / "r.json", CLASSES)
