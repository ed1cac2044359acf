"""`mask2former data check` and `data synthesize`."""

import json
from pathlib import Path

import pytest

from mask2former.cli.main import BAD_INPUT, OK, main


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    words = ["data", "synthesize", str(folder), "--images", "4", "--val", "2"]
    assert main([*words, "--size", "48", "64", "--seed", "3"]) == OK
    return folder


def check(folder: Path, *options: str) -> int:
    words = ["data", "check", str(folder), "--workers", "0", "--preset", "tiny"]
    return main([*words, "--output", str(folder.parent / "report"), *options])


def test_synthesized_data_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = tmp_path / "set"
    words = ["data", "synthesize", str(drawn), "--images", "2", "--val", "1", "--size", "32", "40"]
    assert main(words) == OK
    assert capsys.readouterr().out.endswith(f"next: mask2former data check {drawn}\n")
    assert check(drawn) == OK
    shown = capsys.readouterr().out
    assert f"{drawn}: coco-panoptic, panoptic, 7 classes" in shown
    assert f"report: {drawn.parent / 'report' / 'report.html'}" in shown
    command = f"mask2former train --data {drawn} --task panoptic --preset tiny"
    assert shown.endswith(f"next: {command}\n")


def test_json_has_what_programs_need(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert check(drawn, "--json", "--task", "semantic") == OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["format"] == "coco-panoptic"
    assert answer["task"] == "semantic"
    assert {name: split["images"] for name, split in answer["splits"].items()} == {
        "train": 4,
        "val": 2,
    }
    assert len(answer["classes"]) == 7
    assert answer["errors"] == []
    assert Path(answer["report"]).is_file()
    for problem in answer["warnings"]:
        assert {"kind", "file", "message", "count"} <= set(problem)


def test_proposals_are_shown_with_a_command_and_not_applied(
    drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "check", str(drawn), "--workers", "0", "--output", str(drawn.parent / "r")]
    capsys.readouterr()
    assert main(words) == OK
    shown = capsys.readouterr().out
    assert "  training.batch_size: 4 instead of 8\n    4 images to train on" in shown
    (command,) = [line for line in shown.splitlines() if line.startswith("with all of them: ")]
    assert "--set training.batch_size=4" in command
    assert shown.endswith(f"next: mask2former train --data {drawn} --task panoptic\n")
    assert main([*words, "--json"]) == OK
    answer = json.loads(capsys.readouterr().out)
    assert command == f"with all of them: {answer['proposed_command']}"
    by_key = {proposal["key"]: proposal for proposal in answer["proposals"]}
    assert (by_key["training.batch_size"]["value"], by_key["training.batch_size"]["now"]) == (4, 8)


def test_errors_exit_with_2_and_one_line(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = drawn / "images" / "train" / "000000.jpg"
    image.write_bytes(image.read_bytes()[:500])
    assert check(drawn) == BAD_INPUT
    captured = capsys.readouterr()
    assert "error: unreadable image (1)" in captured.out
    assert captured.err.splitlines()[-1].startswith(f"error: {drawn} has 1 error (unreadable im")
    assert check(drawn, "--json") == BAD_INPUT
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["kind"] == "unreadable image"
    assert error["file"] == str(image)
    assert "replace it or take it out" in error["message"]


def test_warnings_fail_only_when_asked_to(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = drawn / "images" / "train"
    (train / "000001.jpg").write_bytes((train / "000000.jpg").read_bytes())
    assert check(drawn) == OK
    assert "warning: duplicate image (1)" in capsys.readouterr().out
    assert check(drawn, "--strict") == BAD_INPUT
    assert "duplicate image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no data set folder at nowhere"),
        ([".", "--preset", "tinny"], "no preset tinny; did you mean tiny?"),
        ([".", "--format", "coco-instanse"], "no format coco-instanse; did you mean coco-instance"),
        ([".", "--split", "most"], "split most"),
        ([".", "--workers", "-1"], "--workers"),
    ],
)
def test_wrong_calls_are_bad_input(
    words: list[str], message: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", *words]) == BAD_INPUT
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nothing"])
def test_an_output_that_cannot_be_written_to_is_told_before_anything_is_read(
    drawn: Path, place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_everything(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("mask2former.check.check_folder.read_everything", read_everything)
    (drawn.parent / "file").write_text("")
    assert check(drawn, "--output", str(drawn.parent / place)) == BAD_INPUT
    assert f"{place.rpartition('/')[2]}" in capsys.readouterr().err


def test_a_folder_to_draw_in_must_be_empty(drawn: Path, capsys) -> None:
    assert main(["data", "synthesize", str(drawn)]) == BAD_INPUT
    assert "is not empty; give a new folder" in capsys.readouterr().err
