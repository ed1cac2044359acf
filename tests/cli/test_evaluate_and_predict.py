"""What `evaluate`, `predict` and `quickstart` ask of the parts below, which are fakes."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mask2former.cli.evaluate import show_evaluation
from mask2former.cli.main import BAD_INPUT, OK, main
from mask2former.cli.predict import parse_kinds
from mask2former.cli.report import Report
from mask2former.evaluation.evaluate import Evaluation
from mask2former.inference.segmenter import TrainedOn

EVALUATION = Evaluation(
    task="instance",
    images=6,
    metrics={"AP": 43.67, "APs": float("nan")},
    per_class={"hazelnut": {"AP": 40.04, "AP50": 60.0}, "fig (id 2)": {"AP": float("nan")}},
    speed={"images_per_second": 2.5},
)
TRAINED_ON = TrainedOn((Path("sets/nuts"),))


@dataclass
class Calls:
    """Which function of a part was called, with what."""

    made: list[tuple[str, tuple, dict[str, Any]]] = field(default_factory=list)

    def recorder(self, name: str, returned: Any):
        def function(*arguments, **keywords):
            print("a library prints")
            self.made.append((name, arguments, keywords))
            return returned

        return function


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """Fakes of everything that computes, and an empty working directory."""
    calls = Calls()
    segmenter = SimpleNamespace(
        task="instance", trained_on=TRAINED_ON, describe_passes=lambda: "12 passes"
    )
    records = [SimpleNamespace(image=Path("in/a.png"))]
    dataset = SimpleNamespace(records=records, notes=("255 is ignored",), folder=Path("d"))
    images = SimpleNamespace(main=SimpleNamespace(**vars(dataset), classes="classes of d"))
    given = SimpleNamespace(notes=("values are category ids",))
    written = SimpleNamespace(paths=[Path("out/metrics.json")], notes=("no pictures",))
    kinds = ("overlay", "masks", "coco", "panoptic")

    fakes: dict[str, dict[str, Any]] = {
        "data.open": {"open_dataset": calls.recorder("open", dataset)},
        "data.synthetic": {"write_synthetic": calls.recorder("draw", None)},
        "evaluation.scored_data": {"open_scored_data": calls.recorder("open", images)},
        "evaluation.evaluate": {
            "evaluate": calls.recorder("evaluate", EVALUATION),
            "score_results": calls.recorder("score", EVALUATION),
        },
        "evaluation.given.results": {
            "open_results": calls.recorder("results", given),
            "tasks_of": lambda _: ("semantic", "panoptic"),
        },
        "evaluation.report.files": {"write_report": calls.recorder("write", written)},
        "inference.predict_files": {"predict_files": calls.recorder("predict", [1, 2])},
        "inference.results": {"KINDS": kinds},
        "inference.segmenter": {
            "Segmenter": SimpleNamespace(load=calls.recorder("load", segmenter)),
            "TrainedOn": TrainedOn,
        },
        "inference.sources": {"find_images": calls.recorder("find", [Path("a"), Path("b")])},
        "training.train": {"train": calls.recorder("train", None)},
    }
    for name, functions in fakes.items():
        monkeypatch.setitem(sys.modules, f"mask2former.{name}", SimpleNamespace(**functions))
    monkeypatch.chdir(tmp_path)
    return calls


def test_evaluate_uses_what_the_model_was_trained_for(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", "runs/nuts", "--data", "nuts", "--device", "cpu"]) == OK
    (load, opened, evaluated) = calls.made
    assert load == ("load", ("runs/nuts",), {"device": "cpu", "preset": None, "tta": False})
    assert opened == ("open", ([Path("nuts")], None, TRAINED_ON, "instance", None), {})
    on_resume = evaluated[2].pop("on_resume")
    assert callable(on_resume)
    assert evaluated[2] == {"progress": True, "keep_in": None}
    lines = capsys.readouterr().out.splitlines()
    assert "instance, 6 images" in lines
    assert "hazelnut  40.0  60.0" in lines
    assert not any(line.startswith("fig (id 2)") for line in lines)
    assert "1 class without a value: neither true nor predicted anywhere" in lines
    assert lines[-1] == "next: mask2former predict in --weights runs/nuts --output predictions"


def test_evaluate_takes_other_data_a_split_a_task_and_a_format(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--weights", "w", "--data", "a", "--data", "b", "--split", "test"]
    assert main([*words, "--task", "semantic", "--format", "voc"]) == OK
    folders = [Path("a"), Path("b")]
    assert calls.made[1][1] == (folders, "test", TRAINED_ON, "semantic", "voc")
    assert "note: 255 is ignored" in capsys.readouterr().out


def test_evaluate_gives_the_documented_json(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", "w", "--data", "d", "--json"]) == OK
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "task": "instance",
        "images": 6,
        "metrics": {"AP": 43.67, "APs": None},
        "per_class": {"hazelnut": {"AP": 40.04, "AP50": 60.0}, "fig (id 2)": {"AP": None}},
        "speed": {"images_per_second": 2.5},
    }
    assert "a library prints" in captured.err
    assert "note: 255 is ignored" in captured.err
    assert "hazelnut" not in captured.err


def test_evaluate_averages_and_keeps_what_is_asked_for(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", "w", "--data", "d", "--tta", "--output", "out"]) == OK
    load, _, evaluated, write = calls.made
    assert load[2]["tta"] is True
    assert evaluated[2]["keep_in"] == Path("out")
    assert write == ("write", (Path("out"), EVALUATION), {})
    text = capsys.readouterr().out
    assert "12 passes" in text
    assert "written to out: metrics.json\nnote: no pictures\n" in text


def test_evaluate_scores_results_from_elsewhere_for_their_task(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--predictions", "a.json", "--predictions", "b", "--data", "d"]
    assert main(words) == OK
    opened, first, second, score = calls.made
    assert opened == ("open", ([Path("d")], None, TrainedOn(), "panoptic", None), {})
    scored = ("panoptic", "instance", "semantic")
    assert first[1] == (Path("a.json"), "classes of d", scored)
    assert second[1] == (Path("b"), "classes of d", scored)
    assert score[2] == {"progress": True}
    text = capsys.readouterr().out
    assert "note: values are category ids" in text
    assert text.endswith("next: mask2former data check d\n")


def test_an_interrupted_evaluation_says_what_is_kept(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Images(list):
        main = SimpleNamespace(notes=(), records=[])

    def interrupted(*_, on_resume, **__):
        on_resume(3)
        raise KeyboardInterrupt

    scored_data = sys.modules["mask2former.evaluation.scored_data"]
    monkeypatch.setattr(scored_data, "open_scored_data", lambda *_: Images([1] * 9))
    monkeypatch.setattr(sys.modules["mask2former.evaluation.evaluate"], "evaluate", interrupted)
    kept = SimpleNamespace(count_kept=lambda _: 5)
    monkeypatch.setitem(sys.modules, "mask2former.evaluation.given.predictions", kept)
    main(["evaluate", "--weights", "w", "--data", "d", "--output", "out"])
    lines = capsys.readouterr().out.splitlines()
    assert "3 of 9 predictions were there" in lines
    assert "5 of 9 predictions are kept in out; the same command goes on" in lines


def test_evaluate_shows_groups_of_classes_and_where_the_time_went(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Evaluation(
        "semantic", 1, {"IoU": 50.0}, {"car": {"IoU": 50.0}},
        {"images_per_second": 2.0, "model": 0.75, "metric": 0.25}, {"vehicle": {"IoU": 40.0}},
    )  # fmt: skip
    show_evaluation(Report(as_json=False), result)
    text = capsys.readouterr().out
    assert "semantic, 1 image\n" in text
    assert "category   IoU\nvehicle   40.0" in text
    assert text.endswith("2 images/s: model 75 %, metric 25 %\n")
    assert result.as_json()["per_category"] == {"vehicle": {"IoU": 40.0}}


def test_predict_passes_on_what_is_wanted(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", "a", "b*", "--weights", "w", "--output", "out", "--threshold", "0.3"]
    assert main([*words, "--save", "coco, overlay", "--task", "panoptic", "--json"]) == OK
    found, load, predicted = calls.made
    assert found == ("find", (["a", "b*"],), {})
    assert load == ("load", ("w",), {"device": "auto", "preset": None, "tta": False})
    assert predicted[1][1:] == ([Path("a"), Path("b")], Path("out"), ["overlay", "coco"])
    assert predicted[2] == {"task": "panoptic", "score_threshold": 0.3}
    answer = json.loads(capsys.readouterr().out)
    assert answer.pop("seconds") >= 0
    assert answer == {
        "task": "panoptic", "images": 2, "output": "out", "saved": ["overlay", "coco"],
    }  # fmt: skip


def test_an_unknown_kind_of_file_is_refused_before_anything_else(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "a", "--weights", "w", "--output", "out", "--save", "overlay,panoptik"]
    assert main(words) == BAD_INPUT
    assert not calls.made
    message = "error: --save has no kind 'panoptik'; did you mean panoptic?\n"
    assert capsys.readouterr().err == message


def test_saving_nothing_is_refused(calls: Calls) -> None:
    with pytest.raises(ValueError, match="no kind ','; accepted: overlay, masks, coco, panoptic"):
        parse_kinds(",")


@pytest.mark.parametrize("threshold", ["1.5", "-0.1"])
def test_a_threshold_is_a_probability(
    threshold: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "a", "--weights", "w", "--output", "out", "--threshold", threshold]
    assert main(words) == BAD_INPUT
    assert "Invalid value for '--threshold'" in capsys.readouterr().err


def test_quickstart_goes_through_the_whole_pipeline(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quickstart", "--seed", "5", "--json"]) == OK
    made = {name: (arguments, keywords) for name, arguments, keywords in calls.made}
    order = [name for name, _, _ in calls.made]
    assert order == ["draw", "train", "load", "open", "evaluate", "predict"]
    output = Path("runs/quickstart-1")
    assert made["draw"][0] == (output / "data",)
    assert made["draw"][1]["seed"] == 5
    run, run_folder = made["train"][0]
    assert (run.preset, run.task, run.training.seed) == ("tiny", "panoptic", 5)
    assert run.data.paths == (output / "data",)
    assert made["load"][0] == (run_folder,)
    assert made["predict"][0][1:] == ([Path("in/a.png")], output / "predictions", ["overlay"])
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "output": "runs/quickstart-1",
        "weights": "runs/quickstart-1/run",
        "metrics": {"AP": 43.67, "APs": None},
        "pictures": "runs/quickstart-1/predictions/overlay",
    }
    assert "a library prints" in captured.err
