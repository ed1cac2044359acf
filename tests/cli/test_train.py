"""What `train` asks of the parts below, and what it says; the training itself is a fake."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mask2former.cli.main import BAD_INPUT, OK, main
from mask2former.cli.train import free_folder
from mask2former.config import Backbone, Model
from mask2former.config_io import write_run
from mask2former.presets import find_preset


@dataclass(frozen=True)
class Result:
    """As `training.train.TrainResult`."""

    output: Path
    steps: int
    seconds: float
    metrics: dict[str, float]
    best_weights: Path
    ended_early: str = ""


@dataclass
class Calls:
    """What was asked for."""

    train: list[tuple[tuple, dict[str, Any]]] = field(default_factory=list)
    opened: list[Path] = field(default_factory=list)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """An empty working directory, and a training that takes no time."""
    calls = Calls()

    def train(*arguments, **keywords):
        print("a library prints")
        calls.train.append((arguments, keywords))
        run, output = arguments
        return Result(
            output=output,
            steps=run.training.steps or 77,
            seconds=12.4,
            metrics={"AP": 43.67, "APs": float("nan")},
            best_weights=output / "weights" / "best.safetensors",
        )

    def natural_tasks(folder: Path, data_format: str | None) -> tuple[str, ...]:
        calls.opened.append(folder)
        if folder.name == "masks":
            return ("semantic",)
        return ("panoptic", "semantic", "instance")

    def model_to_start_from(weights: str) -> Model | None:
        backbone = Backbone(name="swin_small", pretrained=True, drop_path=0.1)
        return Model(backbone=backbone, num_queries=33) if weights == "model.pkl" else None

    fakes = {
        "inference.device": {"find_device": lambda _: SimpleNamespace(type="cpu")},
        "training.train": {"train": train},
        "data.open": {"natural_tasks": natural_tasks},
        "weights.start": {"model_to_start_from": model_to_start_from},
    }
    for name, functions in fakes.items():
        monkeypatch.setitem(sys.modules, f"mask2former.{name}", SimpleNamespace(**functions))
    monkeypatch.chdir(tmp_path)
    return calls


def trained(calls: Calls) -> tuple[Any, Path, dict[str, Any]]:
    [((run, output), keywords)] = calls.train
    return run, output, keywords


def test_a_folder_is_enough(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "sets/nuts"]) == OK
    run, output, keywords = trained(calls)
    assert (run.preset, run.task) == ("panoptic", "panoptic")
    assert run.data.paths == (Path("sets/nuts"),)
    assert calls.opened == [Path("sets/nuts")]
    assert output == Path("runs/nuts-1")
    assert keywords == {"device": "auto", "resume": False}
    shown = capsys.readouterr().out
    assert "AP      43.7" in shown
    assert shown.endswith("next: mask2former evaluate --weights runs/nuts-1 --data sets/nuts\n")


def test_the_next_command_is_one_that_works(calls: Calls, monkeypatch, capsys) -> None:
    assert main(["train", "--data", "d", "--set", "data.val_split=test"]) == OK
    shown = capsys.readouterr().out
    assert shown.endswith("evaluate --weights runs/d-1 --data d --split test\n")

    def train(run, output: Path, **_) -> Result:
        return Result(output, 1, 1.0, metrics={}, best_weights=output)

    monkeypatch.setattr(sys.modules["mask2former.training.train"], "train", train)
    assert main(["train", "--data", "d"]) == OK
    shown = capsys.readouterr().out
    assert shown.endswith("predict IMAGES --weights runs/d-1 --output predictions\n")


def test_a_folder_that_is_none_is_refused(calls: Calls, capsys) -> None:
    for task in ([], ["--task", "semantic"]):
        assert main(["train", "--set", "data.paths=3", *task]) == BAD_INPUT
        assert "3 is no folder; give a folder, or a list of folders" in capsys.readouterr().err


def test_every_option_reaches_the_run(calls: Calls) -> None:
    words = ["train", "--data", "d", "--task", "instance", "--preset", "tiny", "--backbone"]
    words += ["swin_tiny", "--weights", "other/run", "--output", "here", "--epochs", "3"]
    words += ["--batch", "6", "--device", "cuda:1", "--set", "data.workers=2"]
    words += ["--set", "optimizer.learning_rate=1e-5"]
    assert main(words) == OK
    run, output, keywords = trained(calls)
    assert (run.task, run.preset, run.model.backbone.drop_path) == ("instance", "tiny", 0.3)
    assert (run.training.epochs, run.training.steps, run.training.batch_size) == (3, None, 6)
    assert (run.data.workers, run.optimizer.learning_rate) == (2, 1e-5)
    assert output == Path("here")
    assert run.weights == "other/run"
    assert keywords == {"device": "cuda:1", "resume": False}
    assert not calls.opened  # the task is known


def test_the_rate_follows_the_batch_unless_it_is_given(calls: Calls, capsys) -> None:
    assert main(["train", "--data", "d", "--preset", "tiny", "--batch", "1"]) == OK
    run, _, _ = trained(calls)
    assert (run.training.batch_size, run.optimizer.learning_rate) == (1, 5e-4)
    shown = capsys.readouterr().out
    assert "learning rate 0.001 x sqrt(1 / 4) = 0.0005, since the preset's is for" in shown
    assert "--steps 4800 shows as many" in shown


def test_memory_is_planned_for_where_it_is_asked(calls: Calls, capsys) -> None:
    words = ["train", "--data", "d", "--preset", "tiny", "--on-oom", "shrink"]
    assert main([*words, "--batch", "auto", "--memory-limit", "6GiB"]) == OK
    run, _, _ = trained(calls)
    assert (run.training.fit_memory, run.training.batch_size) == (6 * 2**30, 4)
    assert run.training.on_oom == "shrink"
    assert main([*words, "--batch", "some"]) == BAD_INPUT
    assert "--batch some: no number of images; give one such as 8, or auto" in (
        capsys.readouterr().err
    )


def test_data_are_divided_and_read_as_the_options_say(calls: Calls) -> None:
    words = ["train", "--data", "d", "--split", "80/20", "--format", "yolo"]
    assert main(words) == OK
    run, _, _ = trained(calls)
    assert (run.data.split_fractions, run.data.format) == ((0.8, 0.2), "yolo")


def test_several_folders_are_one_run_of_a_task_that_all_serve(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", "sets/nuts", "--data", "masks", "--set", "data.shares=[1, 1]"]
    assert main(words) == OK
    run, output, _ = trained(calls)
    assert (run.task, run.data.shares) == ("semantic", (1, 1))
    assert run.data.paths == (Path("sets/nuts"), Path("masks"))
    assert output == Path("runs/nuts+masks-1")
    assert capsys.readouterr().out.endswith("--data sets/nuts --data masks\n")


def test_folders_without_a_task_in_common_are_refused(calls: Calls, monkeypatch, capsys) -> None:
    tasks = {"a": ("semantic",), "b": ("instance",)}
    opening = sys.modules["mask2former.data.open"]
    monkeypatch.setattr(opening, "natural_tasks", lambda folder, _: tasks[folder.name])
    assert main(["train", "--data", "a", "--data", "b"]) == BAD_INPUT
    message = "error: the data have no task in common: a semantic; b instance; train them one by"
    assert capsys.readouterr().err.startswith(message)


def test_shares_of_another_number_than_folders_are_refused(calls: Calls, capsys) -> None:
    assert main(["train", "--data", "a", "--set", "data.shares=[1, 2]"]) == BAD_INPUT
    assert capsys.readouterr().err == "error: data: 2 shares for 1 folders; give one for each\n"


def test_fractions_that_are_none_are_refused(calls: Calls, capsys) -> None:
    assert main(["train", "--data", "a", "--split", "val"]) == BAD_INPUT
    assert "split val: not numbers with a / between them; write" in capsys.readouterr().err


def test_a_model_to_start_from_brings_its_sizes(calls: Calls) -> None:
    assert main(["train", "--data", "d", "--weights", "model.pkl"]) == OK
    run, _, _ = trained(calls)
    assert (run.model.backbone.name, run.model.num_queries) == ("swin_small", 33)
    assert run.model.backbone.drop_path == 0.3  # of the recipe, not of the weights
    assert run.weights == "model.pkl"


def test_what_is_asked_for_wins_over_the_sizes_of_the_weights(calls: Calls) -> None:
    words = ["train", "--data", "d", "--weights", "model.pkl", "--set", "model.num_queries=50"]
    assert main(words) == OK
    run, _, _ = trained(calls)
    assert (run.model.backbone.name, run.model.num_queries) == ("swin_small", 50)


def test_an_override_wins_over_an_option_and_that_over_a_file(calls: Calls) -> None:
    Path("mine.yaml").write_text("preset: tiny\ntask: semantic\ndata: {path: d, workers: 5}\n")
    words = ["train", "--config", "mine.yaml", "--steps", "5", "--set", "training.steps=7"]
    assert main([*words, "--data", "e"]) == OK
    run, _, _ = trained(calls)
    assert (run.task, run.training.steps, run.data.paths, run.data.workers) == (
        "semantic", 7, (Path("e"),), 5,
    )  # fmt: skip


def test_the_configuration_of_a_run_repeats_it(calls: Calls) -> None:
    run = find_preset("tiny").run("instance")
    run = run.model_copy(update={"data": run.data.model_copy(update={"paths": (Path("d"),)})})
    write_run(run, Path("config.yaml"))
    assert main(["train", "--config", "config.yaml"]) == OK
    assert trained(calls)[0] == run


def test_no_weights_means_random_ones_with_statistics_that_move(calls: Calls) -> None:
    assert main(["train", "--data", "d", "--preset", "semantic", "--weights", "none"]) == OK
    run, _, _ = trained(calls)
    assert (run.model.backbone.pretrained, run.model.backbone.norm) == (False, "sync")
    assert run.weights is None


def test_resuming_takes_the_configuration_of_the_run(calls: Calls) -> None:
    run = find_preset("tiny").run("semantic")
    run = run.model_copy(update={"data": run.data.model_copy(update={"paths": (Path("d"),)})})
    Path("runs/d-1").mkdir(parents=True)
    write_run(run, Path("runs/d-1/config.yaml"))
    assert main(["train", "--resume", "--output", "runs/d-1"]) == OK
    resumed, output, keywords = trained(calls)
    assert resumed == run
    assert output == Path("runs/d-1")
    assert keywords["resume"] is True


def test_json_is_one_object_and_nothing_else(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", "d", "--preset", "tiny", "--task", "instance", "--json"]) == OK
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "task": "instance",
        "preset": "tiny",
        "output": "runs/d-1",
        "steps": find_preset("tiny").run().training.steps,
        "seconds": 12.4,
        "metrics": {"AP": 43.67, "APs": None},
        "best_weights": "runs/d-1/weights/best.safetensors",
        "ended_early": "",
    }
    assert "a library prints" in captured.err
    assert "next: mask2former evaluate" in captured.err


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    for n in (1, 2):
        assert free_folder(tmp_path / "nuts") == tmp_path / f"nuts-{n}"
        (tmp_path / f"nuts-{n}").mkdir()


def test_steps_and_epochs_together_are_refused(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", "d", "--steps", "3", "--epochs", "4"]) == BAD_INPUT
    assert not calls.train
    assert capsys.readouterr().err == (
        "error: training: steps = 3 and epochs = 4; give exactly one of the two\n"
    )


def test_an_interrupted_run_says_how_to_go_on(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["mask2former.training.train"], "train", interrupted)
    assert main(["train", "--data", "d", "--output", "here"]) == 130
    assert "stopped before the run began; give the same command again" in capsys.readouterr().out
    for made, words in (
        ("config.yaml", "from the beginning"),
        ("checkpoints/last.ckpt", "state on"),
    ):
        (Path("here") / made).parent.mkdir(parents=True, exist_ok=True)
        (Path("here") / made).touch()
        assert main(["train", "--data", "d", "--output", "here"]) == 130
        said = capsys.readouterr().out
        assert f"{words}, go on with: mask2former train --output here --resume" in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], (1, True)),
        (["--batch", "auto"], (None, False)),
        (["--memory-limit", "6GiB"], (None, False)),
        (["--set", "training.fit_memory=6GiB"], (None, False)),
        (["--batch", "auto", "--set", "training.images_per_pass=2"], (2, False)),
    ],
)
def test_a_resumed_run_keeps_its_plan_unless_it_asks_for_another(
    calls: Calls, tmp_path: Path, options: list[str], expected: tuple
) -> None:
    run = find_preset("tiny").run("panoptic")
    planned = {"images_per_pass": 1, "checkpoint_activations": True}
    run = run.model_copy(
        update={
            "data": run.data.model_copy(update={"paths": (Path("d"),)}),
            "training": run.training.model_copy(update=planned),
        }
    )
    (tmp_path / "here").mkdir()
    write_run(run, tmp_path / "here/config.yaml")
    assert main(["train", "--output", "here", "--resume", *options]) == OK
    training = trained(calls)[0].training
    assert (training.images_per_pass, training.checkpoint_activations) == expected


def test_a_resumed_run_takes_no_other_weights(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    run = find_preset("tiny").run("semantic")
    Path("here").mkdir()
    write_run(run, Path("here/config.yaml"))
    assert main(["train", "--output", "here", "--resume", "--weights", "w"]) == BAD_INPUT
    assert "--resume goes on with the weights of the run" in capsys.readouterr().err
