"""Text for people, JSON for programs."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from mask2former.cli.report import Report, as_plain, percent


@dataclass(frozen=True)
class Point:
    x: float
    path: Path


def test_json_alone_reaches_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(as_json=True)
    with report.working():
        print("a library prints")
    report.text("progress")
    report.table(["metric", "%"], [["AP", "43.7"]])
    report.finish({"AP": 43.7}, ["mask2former", "doctor"])
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"AP": 43.7}
    for line in ("a library prints", "progress", "AP", "next: mask2former doctor"):
        assert line in captured.err


def test_people_get_text_and_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(as_json=False)
    report.text("progress")
    report.finish({"AP": 43.7}, ["mask2former", "predict", "--data", "my images"])
    captured = capsys.readouterr()
    assert captured.out == "progress\n\nnext: mask2former predict --data 'my images'\n"
    assert captured.err == ""


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/".join(["folder"] * 40)
    Report(as_json=False).text(path)
    assert capsys.readouterr().out == path + "\n"


def test_brackets_are_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Report(as_json=False).text("pip install 'mask2former[train]' :smile:")
    assert capsys.readouterr().out == "pip install 'mask2former[train]' :smile:\n"


def test_tables_fit_eighty_columns_and_keep_names_whole(capsys: pytest.CaptureFixture[str]) -> None:
    name = "coco-instance-swin-large"
    Report(as_json=False).table(["class", "note"], [[name, "words " * 40]])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any(name in line for line in lines)


def test_a_very_long_name_does_not_push_the_numbers_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = ["class", "PQ", "SQ", "RQ", "IoU", "ACC", "AP", "AP50"]
    Report(as_json=False).table(columns, [["long " * 30, *(["100.0"] * 7)]])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.count("100.0") for line in lines) == 7


def test_numbers_are_aligned_right(capsys: pytest.CaptureFixture[str]) -> None:
    Report(as_json=False).table(["metric", "%"], [["AP", "3.7"], ["AP50", "100.0"], ["x", "-"]])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "AP        3.7",
        "AP50    100.0",
        "x           -",
    ]


def test_what_json_lacks_is_made_plain() -> None:
    value = {"a": Point(float("nan"), Path("x/y")), 3: (1, float("inf")), "s": [None, True]}
    plain = {"a": {"x": None, "path": "x/y"}, "3": [1, None], "s": [None, True]}
    assert as_plain(value) == plain


def test_percent_has_one_decimal_and_a_dash_for_nothing() -> None:
    assert [percent(43.67), percent(0.0), percent(float("nan")), percent(None)] == [
        "43.7", "0.0", "-", "-",
    ]  # fmt: skip


@pytest.mark.parametrize("as_json", [True, False])
def test_of_several_processes_the_main_one_prints(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        report = Report(as_json)
        report.text("progress")
        report.table(["metric", "%"], [["AP", "43.7"]])
        captured = capsys.readouterr()
        assert ("progress" in captured.out + captured.err) is (rank == "0")
        assert ("43.7" in captured.out + captured.err) is (rank == "0")
