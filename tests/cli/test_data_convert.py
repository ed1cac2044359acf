"""`mask2former data convert`."""

import json
from pathlib import Path

import pytest

from mask2former.cli.main import BAD_INPUT, OK, main
from mask2former.data.open import list_splits, open_dataset
from mask2former.data.synthetic import write_synthetic


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    write_synthetic(folder, train_images=3, val_images=1, size=(36, 48), seed=2)
    return folder


def test_convert_says_what_is_lost_and_what_to_type_next(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "yolo"
    words = ["data", "convert", str(drawn), str(output), "--to", "yolo", "--workers", "0"]
    assert main([*words, "--task", "instance"]) == OK
    shown = capsys.readouterr().out
    assert f"{output}: yolo from coco-panoptic, instance, 4 classes" in shown
    assert "images: train 3, val 1" in shown
    assert "  stuff: 3 classes of stuff are left out, as the task asks" in shown
    assert shown.endswith(f"next: mask2former data check {output}\n")
    assert open_dataset(output, "val").format == "yolo"


def test_json_has_every_loss(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "coco"
    words = ["data", "convert", str(drawn), str(output), "--to", "coco-instance", "--json"]
    assert main([*words, "--images", "link"]) == OK
    answer = json.loads(capsys.readouterr().out)
    assert (answer["from"], answer["to"], answer["task"]) == (
        "coco-panoptic",
        "coco-instance",
        "panoptic",
    )
    assert answer["images"] == {"train": 3, "val": 1}
    kinds = {loss["kind"]: loss["count"] for loss in answer["losses"]}
    assert kinds["stuff"] == 3
    assert all(loss["sentence"] for loss in answer["losses"])
    assert open_dataset(output, "train").format == "coco-instance"


def test_a_data_set_without_splits_is_divided_when_asked(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, divided = tmp_path / "whole", tmp_path / "divided"
    words = ["data", "convert", str(drawn), str(whole), "--to", "labelme", "--task", "instance"]
    assert main(words) == OK
    for path in (whole / "train").iterdir():
        path.rename(whole / path.name)
    for path in (whole / "val").iterdir():
        path.rename(whole / f"val-{path.name}") if path.suffix == ".jpg" else path.unlink()
    (whole / "train").rmdir()
    (whole / "val").rmdir()
    words = ["data", "convert", str(whole), str(divided), "--to", "yolo", "--format", "labelme"]
    assert main([*words, "--split", "0.67/0.33"]) == OK
    assert list_splits(divided) == ["train", "val"]
    assert (len(open_dataset(divided, "train")), len(open_dataset(divided, "val"))) == (2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "voc2"], "no format voc2 to convert to; did you mean voc?"),
        (["--to", "voc", "--images", "hardlink"], "no --images hardlink; did you mean link?"),
        (["--to", "youtube-vis"], "is no frame of a video"),
        (["--to", "png-masks", "--task", "panoptic"], "it holds semantic annotations"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert main(["data", "convert", str(drawn), str(tmp_path / "out"), *options]) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
