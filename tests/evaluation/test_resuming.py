"""Evaluations that are interrupted, shared among processes, or made of given results."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mask2former.config_io import compose_run
from mask2former.data.open import open_dataset
from mask2former.data.synthetic import write_synthetic
from mask2former.evaluation.evaluate import evaluate, score_results
from mask2former.evaluation.given.predictions import count_kept
from mask2former.evaluation.given.results import open_results
from mask2former.evaluation.kept.predictions import identity
from mask2former.evaluation.truth import scored_images
from mask2former.inference.results import ResultsWriter
from mask2former.inference.segmenter import Segmenter
from mask2former.model.mask2former import Mask2Former
from mask2former.weights.build import build_model
from mask2former.weights.native import save

pytestmark = pytest.mark.runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five drawn images, and a small model that has learnt nothing."""
    import torch

    folder = tmp_path_factory.mktemp("evaluated")
    write_synthetic(folder / "data", train_images=1, val_images=5, size=(64, 64), seed=0)
    changes = {
        "preset": "tiny",
        "data": {"path": folder / "data", "test_size": {"short_side": 64, "max_long_side": 64}},
        "inference": {"panoptic_score_threshold": 0.0, "panoptic_overlap_threshold": 0.0},
    }
    run = compose_run(changes, lambda: ("panoptic",))
    classes = open_dataset(folder / "data", "val").classes
    torch.manual_seed(0)
    model = build_model(run.model, len(classes))
    assert isinstance(model, Mask2Former)
    save(folder / "model.safetensors", model.state_dict(), run, classes)
    return folder


@pytest.fixture
def segmenter(folder: Path) -> Segmenter:
    return Segmenter.load(folder / "model.safetensors", device="cpu")


def scores(evaluation) -> str:
    """Every bit of them."""
    return repr((evaluation.metrics, evaluation.per_class))


def test_an_interrupted_evaluation_goes_on_and_gives_the_same(
    folder: Path, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(folder / "data", "val")
    whole = evaluate(segmenter, dataset, "panoptic")

    def stop(index, _):
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(segmenter, dataset, keep_in=tmp_path, on_prediction=stop)
    [kept] = tmp_path.glob("*.jsonl")
    with kept.open("ab") as file:  # as a process leaves it that was killed
        file.write(b'{"image_id": 3, "resul')
    passes = []
    forward = segmenter.forward
    monkeypatch.setattr(segmenter, "forward", lambda p: passes.append(1) or forward(p))
    assert count_kept(tmp_path) == 3
    told = []
    resumed = evaluate(segmenter, dataset, keep_in=tmp_path, on_resume=told.append)
    assert told == [3]
    assert len(passes) == 2
    assert scores(resumed) == scores(whole)
    again = evaluate(segmenter, dataset, keep_in=tmp_path)
    assert len(passes) == 2
    assert scores(again) == scores(whole)
    assert again.speed == {}
    assert again.confusion is not None
    assert np.array_equal(again.confusion.pixels, whole.confusion.pixels)


def test_what_was_kept_is_scored_without_the_model(
    folder: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    dataset = open_dataset(folder / "data", "val")
    whole = evaluate(segmenter, dataset, keep_in=tmp_path)
    images = scored_images(dataset, "panoptic")
    given = open_results(tmp_path, dataset.classes)
    assert scores(score_results([given], images)) == scores(whole)
    semantic = score_results([given], scored_images(dataset, "semantic"))
    assert semantic.metrics["mIoU"] == whole.metrics["mIoU"]


def test_predictions_of_another_model_are_not_mixed_in(
    folder: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    dataset = open_dataset(folder / "data", "val")
    evaluate(segmenter, dataset, keep_in=tmp_path)
    with pytest.raises(ValueError, match=r"predictions of something else: .*task is 'panoptic'"):
        evaluate(segmenter, dataset, "semantic", keep_in=tmp_path)
    last = list(segmenter.model.parameters())[-1]
    last.data.view(-1)[-1] += 1e-3
    with pytest.raises(
        ValueError, match=r"predictions of another model: .* not the same; give another"
    ):
        evaluate(segmenter, dataset, keep_in=tmp_path)


def test_predictions_are_of_a_model_and_of_the_files_of_images(
    folder: Path, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "data", tmp_path / "data")

    def found() -> dict:
        dataset = open_dataset(tmp_path / "data", "val")
        return identity(segmenter, scored_images(dataset, "panoptic"))

    before = found()
    assert found() == before
    monkeypatch.chdir(tmp_path)
    relative = scored_images(open_dataset(Path("data"), "val"), "panoptic")
    assert identity(segmenter, relative) == before
    for tensor in list(segmenter.model.state_dict().values())[::40]:
        if tensor.is_floating_point() and tensor.numel():
            value = tensor.view(-1)[-1].clone()
            tensor.view(-1)[-1] += 1
            assert found()["model"] != before["model"]
            tensor.view(-1)[-1] = value
    assert found() == before
    record = open_dataset(tmp_path / "data", "val").records[2]
    assert isinstance(record.image, Path)
    status = record.image.stat()
    os.utime(record.image, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    changed = found()
    assert {name for name in before if changed[name] != before[name]} == {"images"}


def test_two_evaluations_cannot_share_a_folder(
    folder: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    dataset = open_dataset(folder / "data", "val")
    refused = []

    def begin_another(*_: object) -> None:
        with pytest.raises(ValueError, match=r"another evaluation is writing to .*predictions-0"):
            evaluate(segmenter, dataset, keep_in=tmp_path)
        refused.append(1)

    whole = evaluate(segmenter, dataset, keep_in=tmp_path, on_prediction=begin_another)
    assert len(refused) == 5
    assert scores(evaluate(segmenter, dataset, keep_in=tmp_path)) == scores(whole)


def test_keeping_takes_time_and_what_was_kept_does_not(
    folder: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    dataset = open_dataset(folder / "data", "val")
    assert "keeping" in evaluate(segmenter, dataset, keep_in=tmp_path).speed
    [kept] = tmp_path.glob("*.jsonl")
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join(lines[:-1]))
    again = evaluate(segmenter, dataset, keep_in=tmp_path).speed
    # of one image, not of the five that are scored
    shares = {name: share for name, share in again.items() if name != "images_per_second"}
    assert set(shares) == {"loading", "model", "postprocess", "metric", "keeping"}
    assert sum(shares.values()) == pytest.approx(1)


def test_files_of_predict_are_scored_as_the_model_is(
    folder: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    dataset = open_dataset(folder / "data", "val")
    tasks = ["panoptic", "instance", "semantic"]
    with ResultsWriter(tmp_path, segmenter.classes, ["masks", "coco", "panoptic"]) as writer:
        for record in dataset.records:
            assert isinstance(record.image, Path)
            writer.write(
                segmenter.predict_tasks(record.image, tasks),
                name=record.image.stem,
                image_id=record.image_id,
                file_name=record.image.name,
                overlay_task="panoptic",
            )
    given = open_results(tmp_path, dataset.classes)
    found = score_results([given], scored_images(dataset, "panoptic"))
    assert scores(found) == scores(evaluate(segmenter, dataset))


def test_results_of_no_scored_task_are_refused(folder: Path, tmp_path: Path) -> None:
    dataset = open_dataset(folder / "data", "val")
    (tmp_path / "found.json").write_text(
        json.dumps(
            [
                {
                    "image_id": dataset.records[0].image_id,
                    "category_id": dataset.classes.category_ids[0],
                    "score": 0.5,
                    "segmentation": [[0, 0, 9, 0, 9, 9]],
                }
            ]
        )
    )
    given = open_results(tmp_path / "found.json", dataset.classes)
    message = "results for instance were given, but semantic segmentation is scored"
    with pytest.raises(ValueError, match=message):
        score_results([given], scored_images(dataset, "semantic"))


def run_evaluate(folder: Path, *words: str, devices: int) -> dict:
    command = [sys.executable, "-m", "mask2former", "evaluate", "--data", str(folder / "data")]
    command += ["--weights", str(folder / "model.safetensors"), "--device", "cpu", "--json"]
    done = subprocess.run(
        [*command, "--devices", str(devices), *words],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    del answer["speed"]
    return answer


def test_two_processes_score_as_one_does_and_go_on_where_they_were(
    folder: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    dataset = open_dataset(folder / "data", "val")
    alone = evaluate(segmenter, dataset).as_json()
    del alone["speed"]
    assert run_evaluate(folder, "--output", str(tmp_path), devices=2) == alone
    files = sorted(tmp_path.glob("*.jsonl"))
    # the header, then every other image
    assert [len(file.read_text().splitlines()) for file in files] == [4, 3]
    lines = files[0].read_text().splitlines(keepends=True)
    files[0].write_text("".join(lines[:2]))
    resumed = evaluate(segmenter, dataset, keep_in=tmp_path).as_json()
    del resumed["speed"]
    assert resumed == alone
    assert {path.name for path in tmp_path.iterdir()} >= {"metrics.json", "per_class.csv"}
