"""What `data check` proposes for a data set: right numbers, and a configuration that composes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mask2former.check.check_folder import Check, check_folder
from mask2former.check.facts import ImageFacts
from mask2former.check.needs import Needs, Proposal, as_word, measure, shown
from mask2former.check.objects import OBJECT
from mask2former.check.proposals import (
    propose,
    propose_batch,
    propose_copies,
    propose_frozen_stages,
    propose_length,
    propose_queries,
    propose_repeats,
    train_command,
    with_proposals,
)
from mask2former.check.proposed_sizes import propose_sizes, short_side
from mask2former.check.report import as_json, proposed_command, write_report
from mask2former.check.survey import Split
from mask2former.config import Data, Run
from mask2former.config_io import compose_run, parse_overrides
from mask2former.data.dataset import Record, TaskDataset
from mask2former.data.sampling import class_repeats
from mask2former.data.synthetic import write_synthetic
from mask2former.fractions import parse_fractions
from mask2former.presets import all_presets
from mask2former.tasks import Task
from mask2former.types import Classes

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


def run_of(task: Task = "instance", preset: str | None = None, **parts: object) -> Run:
    named = {"task": task, **({} if preset is None else {"preset": preset}), **parts}
    return compose_run(named, lambda: (task,))


def needs_of(
    *,
    num_images: int = 5000,
    short_sides: Sequence[int] = (640,) * 100,
    objects: Sequence[float] = (100.0,),
    counts: Sequence[int] = (10,) * 100,
    num_things: int = 50_000,
    shares: Sequence[float] = (0.5, 0.5),
) -> Needs:
    """Of images of one short side, with objects of these sides in pixels."""
    return Needs(
        num_images=num_images,
        short_sides=np.array(short_sides, np.int64),
        relative_sides=np.array(objects, float) / short_sides[0],
        counts=np.array(counts, np.int64),
        num_things=num_things,
        class_shares=np.array(shares, float),
    )


def image(
    index: int, *sides: float, size: tuple[int, int] | None = (480, 640), class_id: int = 0
) -> ImageFacts:
    """With a square object of each side in pixels."""
    table = np.zeros(len(sides), OBJECT)
    table["area"] = np.square(sides)
    table["class_id"] = class_id
    return ImageFacts(
        split="train",
        index=index,
        image_id=index,
        file=f"{index}.jpg",
        group=None,
        size=size,
        digest=None,
        thumbnail=None,
        is_annotated=True,
        objects=table,
        overlap=0,
        unlabelled=0,
        findings=(),
    )


def unread(record: Record) -> None:
    raise AssertionError(record)


def splits_of(
    *images: ImageFacts, name: str = "train", task: Task = "instance", num_classes: int = 1
) -> dict[str, Split]:
    names = tuple(f"class {i}" for i in range(num_classes))
    classes = Classes(names, tuple(range(num_classes)), (True,) * num_classes)
    dataset = TaskDataset("coco-instance", Path("d"), name, classes, (task,), (), unread)
    return {name: Split(dataset, dataset, images)}


def values(proposals: Sequence[Proposal]) -> dict[str, object]:
    return {proposal.key: proposal.value for proposal in proposals}


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


@pytest.mark.parametrize("name", [n for n, p in all_presets().items() if p.num_images])
def test_the_authors_recipes_are_long_enough_for_their_data(name: str) -> None:
    preset = all_presets()[name]
    needs = needs_of(num_images=preset.num_images or 0)
    assert not list(propose_length(needs, preset.run()))
    assert not list(propose_batch(needs, preset.run()))
    assert not list(propose_frozen_stages(needs, preset.run()))


def test_data_as_the_preset_is_made_for_get_no_proposal() -> None:
    # like ADE20K: 20210 images of about 640 x 512, 8 epochs of which would be few
    needs = needs_of(num_images=10_000, short_sides=(512,) * 100, objects=(20.0, 60.0, 200.0))
    for rule in (propose_sizes, propose_queries, propose_batch, propose_length, propose_repeats):
        assert not list(rule(needs, run_of())), rule


@pytest.mark.parametrize(
    ("native", "small", "expected"),
    [
        # 10 px of 480 are 10 * 640 / 480 = 13.3 when the short side is 640; 16 / (10 / 480) = 768
        (480, 10.0, 768),
        # 12.1 px of 480 are 16.1 already
        (480, 12.1, 640),
        # 8 px of 5000 would need 16 / (8 / 5000) = 10000
        (5000, 8.0, 2048),
        # 1 px of 200 would need 3200, but 4 * 200 shows every pixel of the image by one of a mask
        (200, 1.0, 800),
        # 300 px are smaller than 640, and 60 of them large: 320 is the next multiple of 32
        (300, 60.0, 320),
        # 24 px of 300 would be 25.6 at 320, so they ask for 32 / (24 / 300) = 400, rounded up
        (300, 24.0, 416),
        # 100 px are blown up to what backbones are pretrained at, about
        (100, 80.0, 256),
        # large images are shrunk as the preset has it
        (3000, 300.0, 640),
    ],
)
def test_images_are_as_large_as_small_objects_need(native, small, expected) -> None:
    # nine large objects for a small one, which is the tenth that decides
    needs = needs_of(short_sides=(native,) * 20, objects=[small] * 20 + [native / 2] * 80)
    assert short_side(needs, 640) == expected


def test_all_sizes_keep_their_proportion() -> None:
    needs = needs_of(short_sides=(100,) * 20, objects=[80.0] * 9)
    proposed = values(list(propose_sizes(needs, run_of("semantic"))))
    assert proposed == {
        "data.test_size.short_side": 256,
        "data.test_size.max_long_side": 1024,
        "data.augmentation.short_sides": [
            round(side / 2) for side in run_of("semantic").data.augmentation.short_sides
        ],
        "data.augmentation.max_long_side": 1024,
        "data.augmentation.crop": [256, 256],
        # a quarter of the pixels
        "loss.num_points": 12544 // 4,
    }


def test_crops_stop_at_the_authors_sizes_and_points_at_theirs() -> None:
    needs = needs_of(short_sides=(5000,) * 20, objects=[20.0] * 9)
    proposed = values(list(propose_sizes(needs, run_of())))
    assert proposed["data.test_size.short_side"] == 2048
    assert proposed["data.augmentation.crop"] == [1024, 1024]
    assert max(proposed["data.augmentation.short_sides"]) == 4096
    assert "loss.num_points" not in proposed  # 12544 already
    (first, *_) = propose_sizes(needs, run_of())
    assert "tiles of the images would show them larger" in first.reason


def test_jittered_scales_follow_their_crop() -> None:
    run = run_of("instance", "coco-instance-resnet50")
    needs = needs_of(short_sides=(200,) * 20, objects=[100.0] * 9)
    proposed = values(list(propose_sizes(needs, run)))
    # 256 instead of 800: 0.32 of 1024 is 327.7, and 10 * 32 the nearest multiple
    assert proposed["data.augmentation.crop"] == [320, 320]
    assert "data.augmentation.short_sides" not in proposed
    assert proposed["loss.num_points"] == round(12544 * (320 / 1024) ** 2)


def test_test_time_augmentation_keeps_its_proportion() -> None:
    needs = needs_of(short_sides=(500,) * 20, objects=[16.0] * 9)
    proposed = values(list(propose_sizes(needs, run_of("semantic", "tiny"))))
    # 16 px of 500 have 16 px at 500, rounded up to 512: 4 times as many
    assert proposed["data.tta.short_sides"] == [448, 512, 576, 640]


def test_queries_have_headroom_above_the_fullest_image() -> None:
    run = run_of()
    for fullest, expected in ((66, None), (67, 150), (100, 150), (101, 200), (2000, 900)):
        proposals = list(propose_queries(needs_of(counts=[3, fullest]), run))
        assert values(proposals).get("model.num_queries") == expected
    assert "tiles" in proposals[0].reason
    # one of 3000 images is no rule
    assert not list(propose_queries(needs_of(counts=[20] * 2999 + [500]), run))


def test_all_objects_of_full_images_are_predicted() -> None:
    full = needs_of(counts=[180])
    assert values(list(propose_queries(full, run_of())))["inference.max_instances"] == 300
    assert "inference.max_instances" not in values(list(propose_queries(full, run_of("semantic"))))


def test_small_data_get_small_batches() -> None:
    run = run_of()
    for count, expected in ((1, 1), (2, 2), (3, 2), (7, 4), (8, None), (900, None)):
        proposed = values(list(propose_batch(needs_of(num_images=count), run)))
        assert proposed.get("training.batch_size") == expected


def test_images_are_seen_often_but_not_absurdly() -> None:
    run = run_of()  # 20000 steps of 8
    for count, expected in (
        (12, 2500),  # 500 times would be 750 steps
        (100, 6300),  # 500 * 100 / 8 = 6250
        (300, None),  # 18750, which is about the same
        (5000, None),
        (13_333, None),  # 12 times
        (118_287, 180_000),  # 12 * 118287 / 8 = 177430.5
    ):
        proposed = values(list(propose_length(needs_of(num_images=count), run)))
        assert proposed.get("training.steps") == expected
    assert not list(propose_length(needs_of(num_images=12), run_of(training={"epochs": 9})))
    assert not list(propose_length(needs_of(num_images=2), run_of("instance", "tiny")))


def test_a_shorter_run_is_still_scored() -> None:
    run = run_of("instance", "coco-instance-resnet50")  # every 5000 of 368750 steps
    proposed = values(list(propose_length(needs_of(num_images=100), run)))
    assert proposed == {"training.steps": 3200, "training.eval_every": 320}


def test_a_pretrained_backbone_keeps_its_first_stages_for_a_few_images() -> None:
    few, many = needs_of(num_images=199), needs_of(num_images=200)
    assert values(list(propose_frozen_stages(few, run_of()))) == {"model.backbone.freeze": 2}
    assert not list(propose_frozen_stages(many, run_of()))
    assert not list(propose_frozen_stages(few, run_of("instance", "tiny")))  # starts at random


def test_copies_are_pasted_where_objects_are_few_and_can_be() -> None:
    few = needs_of(num_images=40, num_things=90)
    knows = "copy_paste" in Data.model_fields
    for task in ("instance", "panoptic"):
        assert values(list(propose_copies(few, run_of(task)))) == (
            {"data.copy_paste": 0.5} if knows else {}
        )
    assert not list(propose_copies(few, run_of("semantic")))
    for other in ({"num_things": 0}, {"num_things": 10_000}, {"num_images": 1}):
        assert not list(propose_copies(needs_of(**{"num_images": 40, **other}), run_of()))


def test_a_long_tail_is_repeated_as_in_lvis() -> None:
    # 1000 images, each with one of 20 classes: one in 1, nine in 5, nine in 20, one in all others
    counts = [1] + [5] * 9 + [20] * 9
    counts.append(1000 - sum(counts))
    needs = replace(needs_of(shares=np.array(counts) / 1000), short_sides=np.ones(1000, np.int64))
    (proposal,) = propose_repeats(needs, run_of())
    present = [[c] for c, count in enumerate(counts) for _ in range(count)]
    repeats = class_repeats(present, proposal.value)
    assert 2 <= max(repeats) <= 10
    assert repeats[0] == max(repeats)
    # the median of the shares is (0.005 + 0.02) / 2 or one of the two, and commoner ones stay
    assert repeats[50:] == [1.0] * 950
    assert "rarest class is in 1 of 1000 images and the most frequent in 774" in proposal.reason


def test_even_classes_are_not_repeated() -> None:
    for shares in ((0.4,), (0.02, 0.5, 0.6), (0.009, 0.0091, 0.95)):
        assert not list(propose_repeats(needs_of(shares=shares), run_of()))


def test_needs_are_those_of_the_training_images() -> None:
    small = image(0, 12.0, 24.0, size=(120, 300))
    crowd = image(1, 60.0, size=(600, 400), class_id=1)
    crowd.objects["is_crowd"] = True
    splits = splits_of(small, crowd, image(2, 50.0, size=(100, 100)), num_classes=2)
    more = splits_of(image(0, *[5.0] * 7), name="val", num_classes=2)
    needs = measure({**splits, **more}, "instance")
    assert needs.num_images == 2  # of crowds nothing is learnt
    assert sorted(needs.relative_sides.tolist()) == pytest.approx([0.1, 0.2, 0.5])
    assert needs.short_sides.tolist() == [120, 100]
    assert sorted(needs.counts.tolist()) == [0, 1, 2, 7]
    assert needs.num_things == 3
    assert needs.class_shares.tolist() == [1.0]
    assert measure(splits, "panoptic").num_images == 3


def test_what_is_held_out_is_not_trained_on() -> None:
    images = [image(i, 9.0) for i in range(20)]
    assert measure(splits_of(*images, name="all"), "instance").num_images == 18
    assert measure(splits_of(*images, name="training"), "instance").num_images == 20
    assert measure(splits_of(images[0], name="all"), "instance").num_images == 1


@pytest.mark.parametrize("value", [3, 0.012, [1, 2, 3], True, 1e-7])
def test_values_come_back_as_they_were_written(value: object) -> None:
    assert parse_overrides([f"a.b={as_word(value)}"]) == {"a": {"b": value}}
    assert " " not in as_word(value)


def test_long_lists_are_shown_by_their_ends() -> None:
    assert shown(list(range(16))) == "[0,1,...,15]"
    assert shown([512, 1024]) == "[512,1024]"


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
