"""A run that is killed again and again ends where one that was left alone ends."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mask2former.data.synthetic import write_synthetic
from mask2former.training.log.metrics_file import read_entries
from mask2former.weights.open import read

pytestmark = [
    pytest.mark.runs,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks"),
]

# Runs commands in copies of itself, which have imported what takes seconds to import. Of those
# that are to be killed, some die at once and some after having saved a few states more.
SERVER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
from mask2former.cli import main as cli
import mask2former.data.shards.pack
import mask2former.training.train

arguments = json.loads(sys.argv[1])
draw = random.Random(arguments["seed"])
log = open(arguments["log"], "a", buffering=1)
TIME_TO_START, TIME_TO_SAVE = 2.0, 0.4

def start(words):
    print("$", *words, file=log)
    child = os.fork()
    if child == 0:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        code = 1
        try:
            code = cli.main(words)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child

def has_ended(child):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended and status:
        sys.exit(f"failed with {status}: see the log")
    return bool(ended)

def last_state(output):
    try:
        status = (output / "checkpoints/last.ckpt").stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino

def survives(child, output):
    # False: it was killed
    states_more = draw.choice([0, 1, 1, 2, 3])
    while states_more:
        before = last_state(output)
        while last_state(output) == before:
            if has_ended(child):
                return True
            time.sleep(0.002)
        states_more -= 1
    end = time.monotonic() + draw.uniform(0, TIME_TO_SAVE if last_state(output) else TIME_TO_START)
    while time.monotonic() < end:
        if has_ended(child):
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", file=log)
    return False

def run_killed(words, output, kills):
    killed, steps_saved = 0, []
    while True:
        is_begun = (output / "config.yaml").exists()
        if not is_begun:
            shutil.rmtree(output, ignore_errors=True)
        child = start([*words, "--output", str(output), *(["--resume"] if is_begun else [])])
        if killed == kills:
            while not has_ended(child):
                time.sleep(0.01)
            return killed
        if survives(child, output):
            return killed
        killed += 1

print(json.dumps([
    run_killed(words, Path(output), kills) if output else os.waitpid(start(words), 0)[1]
    for words, output, kills in arguments["commands"]
]))
"""
CONFIGURATION = {
    "data.augmentation": "{crop: [64, 64], short_sides: [64, 80]}",
    "data.test_size.short_side": 64,
    "model.decoder_layers": 2,
    "model.encoder_layers": 1,
    "model.num_queries": 8,
    "loss.num_points": 64,
    "training.eval_every": 4,
    "training.save_every": 1,
    "training.log_every": 3,
    "training.images_per_pass": 1,
}


def train(data: Path, workers: int, steps: int) -> list[str]:
    changes = {**CONFIGURATION, "data.workers": workers}
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    sizes = ["--batch", "2", "--steps", str(steps), "--device", "cpu"]
    return [
        "train",
        "--data",
        str(data),
        "--preset",
        "tiny",
        "--task",
        "panoptic",
        *sizes,
        *settings,
    ]


Command = tuple[list[str], str | None, int]
"""Words, the run's folder if it is one, and how often it is to be killed."""


def serve(folder: Path, commands: Sequence[Command], seed: int = 0) -> list[int]:
    """How often each was killed."""
    log = folder / "log.txt"
    arguments = {"seed": seed, "log": str(log), "commands": commands}
    result = subprocess.run(
        [sys.executable, "-c", SERVER, json.dumps(arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, f"{result.stderr}\n{log.read_text()[-4000:]}"
    return json.loads(result.stdout)


def logged(run: Path) -> list[dict[str, float | None]]:
    """What a run has logged, but for times."""
    return [
        {
            name: value
            for name, value in entry.items()
            if not any(part in name for part in ("second", "memory"))
        }
        for entry in read_entries(run / "metrics.jsonl")
    ]


def scores_of(run: Path) -> dict[str, object]:
    scores = json.loads((run / "metrics.json").read_text())
    del scores["speed"]
    return scores


def assert_same_runs(killed: Path, whole: Path) -> None:
    for name in ("last", "best"):
        of_killed, of_whole = (read(run / f"weights/{name}.safetensors") for run in (killed, whole))
        assert of_killed.weights.keys() == of_whole.weights.keys()
        for key, tensor in of_whole.weights.items():
            assert torch.equal(of_killed.weights[key], tensor), (name, key)
    assert logged(killed) == logged(whole)
    assert scores_of(killed) == scores_of(whole)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(folder, train_images=7, val_images=2, size=(64, 80), seed=0)
    return folder


def test_three_kills_change_nothing(data: Path, tmp_path: Path) -> None:
    words = train(data, workers=0, steps=10)
    runs = [str(tmp_path / name) for name in ("whole", "killed")]
    kills = serve(tmp_path, [(words, runs[0], 0), (words, runs[1], 3)])
    assert kills == [0, 3]
    assert_same_runs(Path(runs[1]), Path(runs[0]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["loose", "shards"])
def test_twenty_kills_change_nothing(data: Path, tmp_path: Path, kind: str) -> None:
    commands: list[Command] = []
    if kind == "shards":
        shards = tmp_path / "shards"
        commands.append((["data", "shard", str(data), str(shards), "--shards", "2"], None, 0))
        data = shards
    commands.append((train(data, workers=0, steps=32), str(tmp_path / "whole"), 0))
    for workers in (0, 2):
        commands.append((train(data, workers, steps=32), str(tmp_path / f"killed{workers}"), 20))
    kills = serve(tmp_path, commands, seed=1)
    assert kills[-3:] == [0, 20, 20]
    for workers in (0, 2):
        assert_same_runs(tmp_path / f"killed{workers}", tmp_path / "whole")
