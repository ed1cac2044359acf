"""Where values and pictures of a run arrive."""

import csv
import json
import logging
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from mask2former.config import Run
from mask2former.presets import find_preset
from mask2former.training.log import loggers
from mask2former.training.log.loggers import Csv, RunLoggers, check_loggers
from mask2former.training.log.services import Mlflow, Wandb

WITH_PACKAGES = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def run() -> Run:
    return find_preset("tiny").run()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), (200, 10, 10)).save(path)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_call_is_a_line(tmp_path: Path) -> None:
    places = RunLoggers(tmp_path, ())
    places.log(5, {"loss": 2.5})
    places.log(5, {"PQ": 40.0, "APl": math.nan})
    places.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 5, "loss": 2.5}, {"step": 5, "PQ": 40.0, "APl": None}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_table_gets_columns_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = Csv(path)
    table.log(1, {"loss": 0.1, "lr": 1e-5})
    table.log(1, {"PQ": 40.0, "APl": math.nan})
    table.log(2, {"loss": 0.25})
    assert rows(path) == [
        {"step": "1", "loss": "0.1", "lr": "1e-05", "PQ": "", "APl": ""},
        {"step": "1", "loss": "", "lr": "", "PQ": "40.0", "APl": ""},
        {"step": "2", "loss": "0.25", "lr": "", "PQ": "", "APl": ""},
    ]


def test_a_table_of_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = Csv(path)
    for step in range(1, 6):
        first.log(step, {"loss": float(step)})
    with path.open("a") as file:
        file.write("6,6.")  # killed while it wrote
    second = Csv(path)
    second.log(4, {"loss": 40.0})
    second.log(5, {"loss": 50.0})
    assert [(row["step"], row["loss"]) for row in rows(path)] == [
        ("1", "1.0"), ("2", "2.0"), ("3", "3.0"), ("4", "40.0"), ("5", "50.0"),
    ]  # fmt: skip


@WITH_PACKAGES
def test_tensorboard_has_values_pictures_and_the_configuration(
    tmp_path: Path, run: Run, picture: Path
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    for steps in ((1, 2, 3), (3, 4)):  # the second life goes on after step 2
        places = RunLoggers(tmp_path, ("tensorboard",))
        places.log_config(run)
        for step in steps:
            places.log(step, {"loss": 10.0 * len(steps) + step, "AP": math.nan})
        places.log_picture("validation/0", steps[-1], picture)
        places.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(1, 31.0), (2, 32.0), (3, 23.0), (4, 24.0)]
    tags = events.Tags()
    assert tags["images"] == ["validation/0"]
    assert (tags["scalars"], tags["tensors"]) == (["loss"], ["configuration/text_summary"])


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_missing_package_is_said_before_the_run(monkeypatch, name: str) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    install = "mask2former.train" if name == "tensorboard" else name
    with pytest.raises(ValueError, match=rf"names {name}, which .* run: pip install '?{install}"):
        check_loggers(("csv", name))
    check_loggers(("csv",))


def test_a_place_that_fails_does_not_end_the_run(tmp_path: Path, monkeypatch, caplog) -> None:
    asked = []

    class Unreachable:
        def log(self, step: int, _: dict[str, float]) -> None:
            asked.append(step)
            raise ConnectionError("no route to host")

    monkeypatch.setattr(
        loggers, "OPEN", {"wandb": lambda _: Unreachable(), "csv": lambda o: Csv(o / "t")}
    )
    monkeypatch.setattr(loggers, "check_loggers", lambda _: None)
    places = RunLoggers(tmp_path, ("wandb", "csv"))
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            places.log(step, {"loss": 1.0})
    assert asked == [1]
    assert [record.getMessage() for record in caplog.records] == [
        "wandb failed and gets nothing more of this run: no route to host"
    ]
    assert len(rows(tmp_path / "t")) == 2


def test_a_full_disk_costs_lines_and_not_the_run(tmp_path: Path, caplog) -> None:
    places = RunLoggers(tmp_path, ())
    (tmp_path / "metrics.jsonl").mkdir()
    places.log(1, {"loss": 1.0})
    (tmp_path / "metrics.jsonl").rmdir()
    places.log(2, {"loss": 2.0})
    assert "metrics.jsonl cannot be written" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 2, "loss": 2.0}\n'


class FakeWandb(ModuleType):
    """Takes down what it is asked."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.asked: list[tuple[str, Any]] = []
        self.Image = lambda path: ("image", path)
        self.config = SimpleNamespace(update=lambda v, **_: self.asked.append(("config", v)))

    def init(self, **settings: Any) -> "FakeWandb":
        self.asked.append(("init", settings))
        return self

    def define_metric(self, name: str, **settings: Any) -> None:
        self.asked.append(("metric", (name, settings)))

    def log(self, values: dict[str, Any]) -> None:
        self.asked.append(("log", values))

    def finish(self) -> None:
        self.asked.append(("finish", None))


def test_wandb_goes_on_with_the_run_of_the_folder(
    tmp_path: Path, run: Run, picture: Path, monkeypatch
) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    lives = []
    for _ in range(2):
        fake = FakeWandb()
        monkeypatch.setitem(sys.modules, "wandb", fake)
        place = Wandb(tmp_path)
        place.log_config(run)
        place.log(20, {"loss": 1.0, "AP": math.nan})
        place.log_picture("validation/0", 20, picture)
        place.close()
        lives.append(fake.asked)
    first, second = (next(value for kind, value in asked if kind == "init") for asked in lives)
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == (
        "mask2former",
        tmp_path.name,
        "allow",
    )
    logged = [value for kind, value in lives[0] if kind == "log"]
    assert logged == [
        {"loss": 1.0, "step": 20},
        {"validation/0": ("image", str(picture)), "step": 20},
    ]
    assert ("metric", ("*", {"step_metric": "step"})) in lives[0]
    assert dict(lives[0])["config"]["training"]["loggers"] == ["tensorboard"]
    assert lives[0][-1] == ("finish", None)


@WITH_PACKAGES
def test_wandb_itself_keeps_a_run_offline(
    tmp_path: Path, run: Run, picture: Path, monkeypatch
) -> None:
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for step in (1, 2):
        place = Wandb(tmp_path)
        place.log_config(run)
        place.log(step, {"loss": 1.0})
        place.log_picture("validation/0", step, picture)
        place.close()
    kept = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert kept
    assert {path.stem.removeprefix("run-") for path in kept} == {
        (tmp_path / "wandb_id.txt").read_text().strip()
    }


@WITH_PACKAGES
def test_mlflow_itself_keeps_a_run_in_its_folder(
    tmp_path: Path, run: Run, picture: Path, monkeypatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for steps in ((1, 2), (3,)):
        place = Mlflow(tmp_path)
        place.log_config(run)
        for step in steps:
            place.log(step, {"loss": 10.0 - step, "AP": math.nan})
        place.log_picture("validation/0", steps[-1], picture)
        place.close()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = (tmp_path / "mlflow_id.txt").read_text().strip()
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["training.batch_size"] == str(run.training.batch_size)
    history = [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")]
    assert history == [(1, 9.0), (2, 8.0), (3, 7.0)]
    assert len(list(tmp_path.glob("mlflow_artifacts/**/validation/0/step_*/picture.png"))) == 2


class FakeClient:
    """A tracking server that remembers its runs."""

    runs: dict[str, list[tuple[str, Any]]]

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def get_experiment_by_name(self, name: str) -> Any:
        return None if not self.runs else SimpleNamespace(experiment_id=name)

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        self.place = artifact_location
        return name

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        run_id = f"{experiment_id}-{len(self.runs)}"
        self.runs[run_id] = [("name", run_name)]
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].append(("status", status))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100
        self.runs[run_id] += [("metric", metric[:2] + metric[3:]) for metric in metrics]
        self.runs[run_id] += [("parameter", parameter) for parameter in params]

    def log_artifact(self, run_id: str, path: str, place: str) -> None:
        self.runs[run_id].append(("picture", (Path(path).name, place)))

    def set_terminated(self, run_id: str) -> None:
        self.runs[run_id].append(("status", "FINISHED"))


def test_mlflow_goes_on_with_the_run_of_the_folder(
    tmp_path: Path, run: Run, picture: Path, monkeypatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    FakeClient.runs = {}
    entities = SimpleNamespace(Metric=lambda *parts: parts, Param=lambda *parts: parts)
    fake = SimpleNamespace(MlflowClient=FakeClient, entities=entities)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    for step in (1, 2):
        place = Mlflow(tmp_path)
        place.log_config(run)
        place.log(step, {"loss": 1.0, "AP": math.nan})
        place.log_picture("validation/0", step, picture)
        place.close()
    ((run_id, told),) = FakeClient.runs.items()
    assert run_id == "mask2former-0"
    assert ("parameter", ("training.batch_size", str(run.training.batch_size))) in told
    assert [entry for entry in told if entry[0] != "parameter"] == [
        ("name", tmp_path.name),
        ("metric", ("loss", 1.0, 1)),
        ("picture", ("picture.png", "validation/0/step_0000001")),
        ("status", "FINISHED"),
        ("status", "RUNNING"),
        ("metric", ("loss", 1.0, 2)),
        ("picture", ("picture.png", "validation/0/step_0000002")),
        ("status", "FINISHED"),
    ]


def test_a_configuration_names_its_loggers(run: Run) -> None:
    assert run.training.loggers == ("tensorboard",)
    with pytest.raises(ValueError, match="'tensorboard', 'csv', 'wandb' or 'mlflow'"):
        Run.model_validate(
            run.model_dump() | {"training": run.training.model_dump() | {"loggers": ("wandbb",)}}
        )
