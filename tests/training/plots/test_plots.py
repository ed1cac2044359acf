"""Charts of runs, as pictures, as a page and in numbers."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.training.plots.curves import Extreme
from mask2former.training.plots.plots import MOST_PANELS, draw_charts, number, plot_run
from mask2former.training.plots.run_charts import LoggedRun, make_charts, open_runs
from mask2former.training.plots.run_page import render
from mask2former.training.plots.run_summary import SUMMARY_COLUMNS, summarize, summary_row

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
METRICS = {"panoptic": ("PQ", "SQ", "RQ", "AP"), "instance": ("AP", "AP50"), "semantic": ("mIoU",)}


def write_run(
    folder: Path,
    *,
    steps: int = 60,
    task: str | None = "panoptic",
    is_scored: bool = True,
    layers: int = 0,
    seed: int = 0,
) -> Path:
    """As a run of so many logged steps leaves it."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = []
    for step in range(1, steps + 1):
        parts = dict(
            zip(("class", "mask", "dice"), rng.uniform(1, 2, size=3) + 9 / step, strict=True)
        )
        values = {"step": step, "loss": sum(parts.values())}
        values |= {f"loss_{name}": value for name, value in parts.items()}
        values |= {
            f"loss_{name}_layer{layer}": value / layers
            for layer in range(layers)
            for name, value in parts.items()
        }
        values |= {"lr": 1e-4 * (1 - step / (steps + 1)), "seconds_per_step": 0.5}
        values |= {"seconds_data": 0.1, "seconds_compute": 0.4, "images_per_second": 32.0}
        lines.append(values | {"memory_gib": 3.5})
        if is_scored and task is not None and step % 20 == 0:
            lines.append({"step": step} | dict.fromkeys(METRICS[task], 40 - abs(40 - step) / 2))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if task is not None:
        (folder / "config.yaml").write_text(f"preset: tiny\ntask: {task}\nof_the_future: 3\n")
    return folder


def panel_titles(runs: list[LoggedRun], layers: bool = False) -> dict[str, list[str]]:
    charts = make_charts(runs, layers=layers)
    return {chart.name: [panel.title for panel in chart.panels] for chart in charts}


def test_all_that_was_logged_is_on_a_chart(tmp_path: Path) -> None:
    runs = open_runs([write_run(tmp_path / "a", layers=3)])
    titles = panel_titles(runs, layers=True)
    assert titles["losses"] == ["Total loss", "Class loss", "Mask loss", "Dice loss"]
    assert [title.partition(":")[0] for title in titles["metrics"]] == ["PQ", "AP", "SQ", "RQ"]
    assert titles["learning_rate"] == ["Learning rate"]
    assert len(titles["speed"]) == 5
    assert titles["layers"] == ["Class loss", "Mask loss", "Dice loss"]
    assert "layers" not in panel_titles(runs)


def test_values_that_nobody_knows_are_shown_by_their_names(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", steps=2)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "gradient_norm": 2.5, "PQ_ema": 12.0}\n')
    titles = panel_titles(open_runs([folder]))
    assert titles["others"] == ["gradient_norm"]
    assert titles["metrics"] == ["PQ_ema"]


def test_runs_of_all_tasks_and_lengths_are_compared(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "panoptic", layers=10),
        write_run(tmp_path / "semantic", task="semantic", steps=25),
        write_run(tmp_path / "unscored", task="instance", is_scored=False, steps=7),
        write_run(tmp_path / "no config", task=None, steps=1),
    ]
    runs = open_runs(folders)
    assert [run.main_metric for run in runs] == ["PQ", "mIoU", None, None]
    charts = make_charts(runs, layers=True)
    losses = next(chart for chart in charts if chart.name == "losses")
    assert [series.color for series in losses.panels[0].series] == [0, 1, 2, 3]
    for path in draw_charts(charts, tmp_path / "plots"):
        with Image.open(path) as picture:
            picture.load()
    page = render(runs, charts)
    assert all(f">{folder.name}</button>" in page for folder in folders)
    assert [row[:3] for row in map(summary_row, runs)][-1] == ["no config", "-", "1"]
    assert all(len(summary_row(run)) == len(SUMMARY_COLUMNS) for run in runs)


def test_the_best_value_is_marked_where_it_was_reached(tmp_path: Path) -> None:
    (run,) = open_runs([write_run(tmp_path / "a")])
    charts = {chart.name: chart for chart in make_charts([run])}
    # scored 30, 40 and 30 after 20, 40 and 60 steps
    assert charts["metrics"].panels[0].series[0].best == Extreme(40, 40.0)
    loss = charts["losses"].panels[0].series[0]
    assert loss.smoothed is not None
    assert loss.best is not None
    assert loss.best.value == min(loss.smoothed)
    assert charts["speed"].panels[0].series[0].best is None


def test_nothing_is_best_where_all_is_zero(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", steps=1, is_scored=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "PQ": 0.0}\n')
    charts = {chart.name: chart for chart in make_charts(open_runs([folder]))}
    assert charts["metrics"].panels[0].series[0].best is None


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name / "run", steps=1) for name in ("a", "b")]
    assert [run.name for run in open_runs(folders)] == ["a/run", "b/run"]
    assert [run.name for run in open_runs(folders[:1])] == ["run"]


@pytest.mark.runs
def test_names_of_any_script_and_length_are_written(tmp_path: Path) -> None:
    names = ["kreuzförmige Muttern " * 4, "螺母", "гайки", "a" * 80]
    runs = open_runs([write_run(tmp_path / name, layers=1) for name in names])
    draw_charts(make_charts(runs, layers=True), tmp_path / "plots")  # a warning would be an error


def test_folders_without_a_run_are_refused(tmp_path: Path) -> None:
    inner = write_run(tmp_path / "quickstart" / "run", steps=1)
    with pytest.raises(FileNotFoundError, match=re.escape(f"give a run's folder: {inner}")):
        open_runs([inner.parent])
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent; give a run's folder"):
        open_runs([tmp_path / "absent"])
    with pytest.raises(ValueError, match="are the same run; give each run once"):
        open_runs([inner, inner.parent / ".." / "quickstart" / "run"])
    (inner / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="is empty so far; wait for the run's first logged step"):
        open_runs([inner])


def test_a_training_ends_with_its_losses_and_scores(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    plot_run(folder)
    assert {path.name for path in (folder / "plots").iterdir()} == {"losses.png", "metrics.png"}


@pytest.mark.runs
def test_pictures_have_room_for_many_scores(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", steps=1)
    scores = {f"AP{i}": 1.0 + i for i in range(MOST_PANELS + 3)}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1} | scores) + "\n")
    runs = open_runs([folder])
    charts = make_charts(runs)
    draw_charts(charts, tmp_path / "plots")
    assert "<summary>7 more</summary>" in render(runs, charts)


def test_numbers_in_a_summary_are_the_final_and_the_best(tmp_path: Path) -> None:
    (run,) = open_runs([write_run(tmp_path / "a")])
    summary = summarize(run)
    assert (summary["task"], summary["preset"], summary["steps"]) == ("panoptic", "tiny", 60)
    assert summary["values"]["PQ"] == {"final": 30.0, "best": 40.0, "best_step": 40}
    assert summary["values"]["memory_gib"] == {"final": 3.5, "median": 3.5}
    assert set(summary["values"]["loss"]) == {"final", "best", "best_step"}
    assert summary["values"]["lr"] == {"final": pytest.approx(1e-4 / 61)}
    assert summary_row(run)[4:] == ["PQ 40.0 at 40", "0.50", "32.0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (43.678, "43.7"), (0.05, "0.0500"), (123.4, "123"), (1e-4, "1.00e-04")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.runs
def test_a_long_run_makes_a_small_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    steps = list(range(1, 100_001))
    names = ["loss", "loss_class", "loss_mask", "loss_dice", "lr", "seconds_per_step"]
    names += [f"loss_{part}_layer{i}" for part in ("class", "mask", "dice") for i in range(10)]
    values = rng.normal(20, 3, size=len(steps))
    values[70_000] = 123.5
    run = LoggedRun(
        "long", tmp_path, "panoptic", "tiny", dict.fromkeys(names, (steps, values.tolist()))
    )
    page = render([run], make_charts([run], layers=True))
    assert len(page.encode()) < 1_000_000
    assert page.count("123.5") == len(names)


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    run = open_runs([write_run(tmp_path / "</script><b>&", steps=1)])
    page = render(run, make_charts(run))
    assert "</script><b>" not in page
    assert page.count("</script>") == 2


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    run = open_runs([write_run(tmp_path / "a", steps=30)])
    page = render(run, make_charts(run))
    addresses = set(re.findall(r"https?://[^\"' )]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")
def test_chromium_draws_the_curves_and_tells_their_values(tmp_path: Path) -> None:
    runs = open_runs([write_run(tmp_path / "a", layers=2), write_run(tmp_path / "b", seed=1)])
    page = tmp_path / "page.html"
    hover = (
        '<script>const drawn = document.querySelector("figure.panel svg");'
        "const place = drawn.getBoundingClientRect();"
        'drawn.dispatchEvent(new PointerEvent("pointermove", '
        "{ clientX: place.left + place.width / 2, clientY: place.top + 50 }));</script></body>"
    )
    page.write_text(render(runs, make_charts(runs, layers=True)).replace("</body>", hover))
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") == done.stdout.count('class="panel"')
    shown = re.search(r'<div id="values"[^>]*>(.*?)</div>', done.stdout)
    assert shown is not None
    found = re.fullmatch(r"step (\d+)a: ([\d.]+) \(.*", re.sub(r"<[^>]+>", "", shown[1]))
    assert found is not None
    # the value that is told is that of the smoothed curve
    loss = make_charts(runs)[0].panels[0].series[0]
    assert loss.smoothed is not None
    at = loss.raw[0].index(int(found[1]))
    assert math.isclose(float(found[2]), loss.smoothed[at], abs_tol=0.01)
