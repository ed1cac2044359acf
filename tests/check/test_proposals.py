"""What `data check` proposes for a data set: a configuration that composes, and is shown."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mask2former.check.check_folder import Check, check_folder
from mask2former.check.proposals import (
    propose,
    propose_batch,
    propose_length,
    propose_queries,
    propose_repeats,
    train_command,
    with_proposals,
)
from mask2former.check.proposed_sizes import propose_sizes
from mask2former.check.report import as_json, proposed_command, write_report
from mask2former.config import Run
from mask2former.config_io import compose_run, parse_overrides
from mask2former.data.synthetic import write_synthetic
from mask2former.fractions import parse_fractions
from mask2former.tasks import Task
from surveyed import image, needs_of, run_of, splits_of, values

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "data"
FOLDERS = (
    "ade20k_sample",
    "camvid",
    "caps_video",
    "cityscapes_sample",
    "coco_instances",
    "coco_panoptic",
    "davis_video",
    "labelme_instances/data_annotated",
    "labelme_video",
    "mapillary_sample",
    "nuts_coco",
    "pan_clips",
    "panopticapi_sample",
    "penn_fudan",
)


def composed(words: Sequence[str]) -> Run:
    """The run that the words of a command stand for, as `train` reads them."""
    given: dict[str, list[str]] = {}
    assert words[:2] == ["mask2former", "train"]
    for option, value in zip(words[2::2], words[3::2], strict=True):
        given.setdefault(option.removeprefix("--"), []).append(value)
    changes = parse_overrides(given.get("set", []))
    data = changes.setdefault("data", {})
    data["paths"] = given["data"]
    for option, key, read in (
        ("format", "format", str),
        ("split", "split_fractions", parse_fractions),
    ):
        if option in given:
            data[key] = read(given[option][0])
    for option in ("task", "preset"):
        if option in given:
            changes[option] = given[option][0]
    return compose_run(changes, lambda: pytest.fail("the command names the task"))


def check_whole(found: Check) -> None:
    """All proposals compose, and are what the page, the file and the command say."""
    words = train_command(found.run, found.proposals)
    run = composed(words)
    assert run == with_proposals(found.run, found.proposals)
    keys = [proposal.key for proposal in found.proposals]
    assert len(keys) == len(set(keys))
    dump = run.model_dump(mode="json")
    for proposal in found.proposals:
        value = dump
        for name in proposal.key.split("."):
            value = value[name]
        assert value == proposal.value != proposal.now
        assert proposal.reason


@pytest.mark.parity
@pytest.mark.parametrize("folder", FOLDERS)
def test_proposals_for_real_data_compose(folder: str) -> None:
    path = SAMPLES / folder
    if not path.is_dir():
        pytest.skip("the real sample data are absent")
    found = check_folder(path, workers=0)
    assert "training.steps" in values(found.proposals)  # all samples are of few images
    check_whole(found)
    for preset in ("tiny", f"coco-{found.run.task}-swin-large"):
        run = run_of(found.run.task, preset, data={"paths": [path]})
        check_whole(replace(found, run=run))


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
@pytest.mark.parametrize("preset", [None, "tiny"])
def test_proposals_for_drawn_data_compose(tmp_path: Path, task: Task, preset: str | None) -> None:
    folder = tmp_path / "a folder"
    write_synthetic(folder, train_images=3, val_images=1, size=(64, 80), seed=0)
    found = check_folder(folder, task=task, preset=preset, workers=0)
    check_whole(found)
    proposed = values(found.proposals)
    assert proposed["training.batch_size"] == 2
    if preset is None:
        # not below what backbones are pretrained at
        assert proposed["data.test_size.short_side"] in range(256, 449)


EDGES = {
    "one image": [image(0, 50.0)],
    "no object": [image(0)],
    "no image": [],
    "an image that cannot be read": [image(0, size=None), image(1, 30.0)],
    "only images that cannot be read": [image(0, 30.0, size=None)],
    "one pixel": [image(0, 1.0, size=(1, 1)), image(1, 1.0, size=(1, 1))],
    "1000 objects": [image(0, *[9.0] * 1000), image(1, 5.0)],
    "5000 px": [image(i, 40.0, 60.0, size=(5000, 5000)) for i in range(3)],
    "5000 px and an object of a pixel": [image(0, 1.0, size=(5000, 5000))],
    "a strip": [image(0, 4.0, size=(5, 5000))],
    "an object without area": [image(0, 0.0)],
}


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
@pytest.mark.parametrize("preset", ["tiny", None, "cityscapes", "coco"])
@pytest.mark.parametrize("case", EDGES)
def test_proposals_for_odd_data_compose(case: str, preset: str | None, task: Task) -> None:
    name = f"{preset}-{task}-resnet50" if preset in ("cityscapes", "coco") else preset
    run = run_of(task, name, data={"paths": ["d"]})
    splits = splits_of(*EDGES[case], task=task)
    check_whole(Check(Path("d"), run, splits, ()))
    after = with_proposals(run, propose(splits, run))
    assert max(after.data.augmentation.crop) <= 1024
    assert after.data.test_size.short_side <= 2048
    assert after.model.num_queries <= 900


def test_nothing_is_proposed_for_nothing() -> None:
    run = run_of()
    for case in ("no object", "no image", "only images that cannot be read"):
        assert propose(splits_of(*EDGES[case]), run) == []


def test_data_as_the_preset_is_made_for_get_no_proposal() -> None:
    # like ADE20K: 20210 images of about 640 x 512, 8 epochs of which would be few
    needs = needs_of(num_images=10_000, short_sides=(512,) * 100, objects=(20.0, 60.0, 200.0))
    for rule in (propose_sizes, propose_queries, propose_batch, propose_length, propose_repeats):
        assert not list(rule(needs, run_of())), rule


def test_a_command_says_what_was_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    write_synthetic(folder, train_images=4, val_images=1, size=(64, 80), seed=0)
    (folder / "annotations/panoptic_val.json").unlink()
    found = check_folder(
        folder, preset="tiny", format="coco-panoptic", fractions=(0.75, 0.25), workers=0
    )
    check_whole(found)
    assert train_command(found.run) == [
        *("mask2former", "train", "--data", str(folder), "--task", "panoptic"),
        *("--preset", "tiny", "--format", "coco-panoptic", "--split", "0.75/0.25"),
    ]
    command = proposed_command(found)
    assert command is not None
    assert f"--data '{folder}'" in command


def test_page_and_files_have_the_proposals(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_synthetic(folder, train_images=3, val_images=1, size=(64, 80), seed=0)
    found = check_folder(folder, workers=0)
    listed = as_json(found)["proposals"]
    assert {tuple(entry) for entry in listed} == {("key", "value", "now", "reason")}
    page = write_report(found, tmp_path)
    text = page.read_text(encoding="utf-8")
    for entry in listed:
        assert f"<code>{entry['key']}</code>" in text
    assert "mask2former train --data" in text
    assert json.loads((tmp_path / "report.json").read_text())["proposals"] == listed
    none = replace(found, splits=splits_of(image(0)))
    assert as_json(none)["proposals"] == []
    assert as_json(none)["proposed_command"] is None
