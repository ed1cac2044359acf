"""`mask2former plot` on folders as runs leave them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mask2former.cli.main import BAD_INPUT, OK, main


def write_run(folder: Path, *, layers: bool = False) -> Path:
    folder.mkdir(parents=True)
    more = {"loss_mask_layer0": 3.0} if layers else {}
    lines = [{"step": 10 * i, "loss": 9.0 - i, "lr": 1e-4} | more for i in range(1, 4)]
    lines.append({"step": 30, "PQ": 40.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text("preset: tiny\ntask: panoptic\n")
    return folder


def test_a_run_is_drawn_into_its_folder(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "nuts-1")
    assert main(["plot", str(run)]) == OK
    names = {path.name for path in (run / "plots").iterdir()}
    assert names == {"losses.png", "metrics.png", "learning_rate.png", "run.html"}
    shown = capsys.readouterr().out
    assert str(run / "plots" / "run.html") in shown
    assert "nuts-1  panoptic    30  6.00  PQ 40.0 at 30" in shown
    assert shown.endswith(f"mask2former predict IMAGES --weights {run} --output predictions\n")


def test_several_runs_are_compared(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [str(write_run(tmp_path / name)) for name in ("a", "b")]
    assert main(["plot", *runs]) == OK
    assert (tmp_path / "plots" / "run.html").is_file()
    assert main(["plot", *runs, "--output", "else/where"]) == OK
    assert (tmp_path / "else" / "where" / "losses.png").is_file()
    capsys.readouterr()


def test_json_has_the_final_and_best_values(tmp_path: Path, capsys) -> None:
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    output = tmp_path / "out"
    assert main(["plot", *map(str, runs), "--output", str(output), "--json"]) == OK
    answer = json.loads(capsys.readouterr().out)
    assert [run["run"] for run in answer["runs"]] == list(map(str, runs))
    assert answer["runs"][0]["values"] == {
        "loss": {"final": 6.0, "best": 6.0, "best_step": 30},
        "lr": {"final": 1e-4},
        "PQ": {"final": 40.0, "best": 40.0, "best_step": 30},
    }
    assert all(Path(path).is_file() for path in (answer["page"], *answer["pictures"]))


def test_layers_are_drawn_on_demand(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "a", layers=True)
    assert main(["plot", str(run), "--layers"]) == OK
    assert (run / "plots" / "layers.png").is_file()
    assert main(["plot", str(write_run(tmp_path / "b")), "--layers"]) == BAD_INPUT
    assert "--set training.log_layers=true" in capsys.readouterr().err


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys, is_there: bool) -> None:
    folder = tmp_path / "empty"
    if is_there:
        folder.mkdir()
    assert main(["plot", str(folder)]) == BAD_INPUT
    assert "give a run's folder: one that `mask2former train` writes to" in capsys.readouterr().err
    assert main(["plot"]) == BAD_INPUT


def test_drawing_needs_no_torch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    code = (
        "import sys; from mask2former.cli.main import main; "
        f"main(['plot', {str(run)!r}]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
