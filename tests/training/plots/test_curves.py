"""Reading, smoothing and thinning what runs logged."""

import json
from pathlib import Path

import numpy as np
import pytest

from mask2former.training.plots.curves import Extreme, highest, lowest, read_curves, smooth, thin


def write(path: Path, entries: list[dict], torn: str = "") -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + torn)
    return path


def test_a_resumed_run_counts_its_later_values(tmp_path: Path) -> None:
    entries = [
        {"step": 10, "loss": 3.0},
        {"step": 10, "AP": None, "mIoU": 40.0},
        {"step": 20, "loss": 2.0},
        {"step": 20, "loss": 1.5},
    ]
    path = write(tmp_path / "metrics.jsonl", entries)
    assert read_curves(path) == {"loss": ([10, 20], [3.0, 1.5]), "mIoU": ([10], [40.0])}


def test_what_came_after_the_state_that_a_run_resumed_from_is_forgotten(tmp_path: Path) -> None:
    entries = [{"step": step, "loss": 1.0, "PQ": 5.0} for step in (10, 20, 30, 40)]
    entries += [{"step": 25, "loss": 2.0}, {"step": 50, "loss": 3.0}]
    path = write(tmp_path / "metrics.jsonl", entries)
    assert read_curves(path) == {
        "loss": ([10, 20, 25, 50], [1.0, 1.0, 2.0, 3.0]),
        "PQ": ([10, 20], [5.0, 5.0]),
    }


@pytest.mark.parametrize(
    "torn", ['{"step": 20, "lo', '{"step"', "{", "\0\0\0", '{"step": 20}\n17\n']
)
def test_a_torn_line_is_left_out(tmp_path: Path, torn: str) -> None:
    path = write(tmp_path / "metrics.jsonl", [{"step": 10, "loss": 3.0}], torn)
    assert read_curves(path) == {"loss": ([10], [3.0])}


def test_a_run_that_went_on_behind_a_torn_line_is_read_on(tmp_path: Path) -> None:
    after = '{"step": 20, "lo{"step": 20, "loss": 1.0}\n{"step": 30, "loss": 0.5}\n'
    path = write(tmp_path / "metrics.jsonl", [{"step": 10, "loss": 3.0}], after)
    assert read_curves(path) == {"loss": ([10, 30], [3.0, 0.5])}


def test_what_is_no_number_is_no_value(tmp_path: Path) -> None:
    text = '{"step": 1, "a": NaN, "b": Infinity, "c": "x", "d": true, "e": 2}\n'
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    assert read_curves(path) == {"e": ([1], [2.0])}


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("PNG\n\n{}")
    with pytest.raises(ValueError, match=r"holds no logged values; give the folder of a run"):
        read_curves(path)
    path.write_text("")
    assert read_curves(path) == {}


@pytest.mark.parametrize("count", [20, 60, 101, 5000])
def test_smoothing_keeps_what_is_constant_and_follows_what_is_not(count: int) -> None:
    assert smooth([3.0] * count) == pytest.approx([3.0] * count)
    step = smooth([0.0] * count + [1.0] * count)
    assert step[count - 1] == 0
    assert 0 < step[count] < 0.6
    assert step == sorted(step)
    assert step[-1] > 0.99


def test_smoothing_is_a_debiased_moving_average() -> None:
    values = np.random.default_rng(0).normal(size=40).tolist()
    # of 40 values each weighs half of the one after it
    weights = [[0.5 ** (i - j) for j in range(i + 1)] for i in range(40)]
    expected = [np.average(values[: i + 1], weights=weights[i]) for i in range(40)]
    assert smooth(values) == pytest.approx(expected)


def test_few_values_are_not_smoothed() -> None:
    assert smooth([1.0, 5.0, 2.0]) == [1.0, 5.0, 2.0]


def test_thinning_keeps_ends_and_extremes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = int(rng.integers(1, 400))
        steps = np.cumsum(rng.integers(1, 30, size=count))
        values = rng.normal(size=count)
        most = int(rng.integers(4, 60))
        kept = thin(steps, values, most)
        assert len(kept) <= max(most, 4)
        assert (np.diff(kept) > 0).all()
        assert {0, count - 1} <= set(kept.tolist())
        assert {values.argmin(), values.argmax()} <= set(kept.tolist())
        if count <= most:
            assert len(kept) == count


def test_thinning_keeps_the_extremes_of_every_span() -> None:
    steps, values = np.arange(1000), np.zeros(1000)
    values[[105, 333, 801]] = (5.0, -4.0, 3.0)
    assert {105, 333, 801} <= set(thin(steps, values, 42).tolist())


def test_extremes_are_those_reached_first() -> None:
    curve = ([1, 2, 3, 4], [2.0, 1.0, 1.0, 2.0])
    assert (lowest(curve), highest(curve)) == (Extreme(2, 1.0), Extreme(1, 2.0))
