"""`mask2former data shard`, on real files."""

import json
from pathlib import Path

import pytest
import typer

from mask2former.cli.data_shard import parse_size, shard
from mask2former.data.formats import tfrecord, webdataset
from mask2former.data.formats.format import WHOLE, Format, Reading
from mask2former.data.synthetic import write_synthetic

FORMATS: dict[str, Format] = {"webdataset": webdataset.FORMAT, "tfrecord": tfrecord.FORMAT}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic(path, train_images=4, val_images=2, size=(32, 48), seed=0)
    return path


def run(*words: object) -> None:
    app = typer.Typer()
    app.command()(shard)
    app([str(word) for word in words], standalone_mode=False)


@pytest.mark.parametrize("kind", ["webdataset", "tfrecord"])
def test_every_split_is_packed(
    folder: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(folder, out, "--to", kind, "--shards", 2, "--workers", 0, "--verify", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["format"] == kind
    assert answer["tasks"] == ["panoptic", "semantic", "instance"]
    assert {name: split["images"] for name, split in answer["splits"].items()} == {
        "train": 4,
        "val": 2,
    }
    found = FORMATS[kind].find(out)
    assert found is not None
    assert len(FORMATS[kind].read(out, "train", found, Reading())) == 4
    names = answer["splits"]["train"]["shards"]
    assert len(names) == 2
    assert answer["splits"]["train"]["bytes"] == sum((out / name).stat().st_size for name in names)


def test_a_task_and_a_size_may_be_chosen(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(folder, out, "--task", "semantic", "--shard-size", "1KB", "--workers", 1)
    shown = capsys.readouterr().out
    assert "webdataset, semantic, 7 classes" in shown
    assert shown.endswith(f"next: mask2former train --data {out}\n")
    found = webdataset.find(out)
    assert found is not None
    assert found.tasks == ("semantic",)
    assert len(list(out.glob("train-*.tar"))) == 4


def test_a_folder_without_splits_is_packed_whole_or_divided(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, tmp_path / "shards", "--workers", 1)
    source = tmp_path / "whole"
    source.mkdir()
    # a shard without its split's name and index is a data set without splits
    for path in (tmp_path / "shards").glob("train-*.tar"):
        (source / path.name.removeprefix("train-")).write_bytes(path.read_bytes())
    run(source, tmp_path / "one", "--workers", 1)
    run(source, tmp_path / "two", "--workers", 1, "--split", "0.5/0.5")
    for out, splits in (("one", {WHOLE}), ("two", {"train", "val"})):
        found = webdataset.find(tmp_path / out)
        assert found is not None
        assert set(found.splits) == splits


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "tf-record"], "no kind of shards tf-record; did you mean tfrecord?"),
        (["--shards", "2", "--shard-size", "1GB"], "contradict each other; give one of them"),
        (["--shard-size", "much"], "--shard-size much is no size; write for example 256MB"),
        (["--shards", "0"], "0 shards cannot hold anything; give 1 or more"),
    ],
)
def test_wrong_options_are_named(
    folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        run(folder, tmp_path / "out", *words)
    assert message in str(raised.value)


def test_sizes_have_units() -> None:
    assert parse_size("4096") == 4096
    assert parse_size("256MB") == 256_000_000
    assert parse_size("1.5 GiB") == 1_610_612_736
