"""Reading, overriding, completing and writing configurations, and every message."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mask2former.config import Run
from mask2former.config_io import (
    compose_run,
    merge,
    parse_overrides,
    parse_run,
    read_changes,
    read_run,
    without_none,
    write_run,
)
from mask2former.presets import all_presets, find_preset
from mask2former.tasks import Task


def compose(*pairs: str, tasks: Sequence[Task] = ("panoptic",)) -> Run:
    return compose_run(parse_overrides(pairs), lambda: tasks)


@pytest.mark.parametrize("name", list(all_presets()))
def test_every_preset_survives_writing_and_reading(name: str, tmp_path: Path) -> None:
    for task in find_preset(name).tasks:
        run = find_preset(name).run(task)
        write_run(run, tmp_path / "config.yaml")
        assert read_run(tmp_path / "config.yaml") == run


def test_a_written_run_composes_to_itself_without_looking_at_data(tmp_path: Path) -> None:
    def refuse() -> Sequence[Task]:
        raise AssertionError("the data was opened")

    run = compose(
        "preset=tiny", "task=instance", "training.epochs=7", "model.backbone.name=resnet18",
        "data.path=images", "data.augmentation={kind: large_scale_jitter, crop: [96, 64]}",
    )  # fmt: skip
    write_run(run, tmp_path / "config.yaml")
    assert compose_run(read_changes(tmp_path / "config.yaml"), refuse) == run


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E3", 1000.0), ("2.5e-05", 2.5e-5), ("-3e+2", -300.0), ("5e-1", 0.5)],
)
def test_numbers_with_an_exponent_are_numbers(text: str, value: float) -> None:
    changes = parse_overrides([f"a.b={text}"])
    assert changes == {"a": {"b": value}}
    assert isinstance(changes["a"]["b"], float)


def test_words_that_look_like_exponents_stay_words() -> None:
    assert parse_overrides(["a=e3", "b=resnet50", "c=1e", "d=v1e5"]) == {
        "a": "e3", "b": "resnet50", "c": "1e", "d": "v1e5",
    }  # fmt: skip


def test_an_override_reaches_its_field_and_nothing_else() -> None:
    changed = compose("preset=tiny", "data.workers=2", "optimizer.learning_rate=1e-4")
    base = find_preset("tiny").run("panoptic")
    assert changed.data.workers == 2
    assert changed.optimizer.learning_rate == 1e-4
    assert changed.data.model_copy(update={"workers": base.data.workers}) == base.data
    assert changed.model == base.model


def test_data_are_one_folder_or_several_under_either_name() -> None:
    for pair in ("data.path=a", "data.paths=a", "data.paths=[a]"):
        assert compose(pair).data.paths == (Path("a"),)
    assert compose("data.paths=[a, b]").data.paths == (Path("a"), Path("b"))
    assert compose("data.path=null").data.paths == ()


def test_the_newer_name_of_the_folders_replaces_the_older_one() -> None:
    older = {"data": {"path": "a", "workers": 2}}
    assert merge(older, {"data": {"paths": ["b"]}}) == {"data": {"paths": ["b"], "workers": 2}}
    # and an old configuration can be read on top of a preset, which knows the newer name
    assert compose_run({"preset": "tiny", **older}, lambda: ("semantic",)).data.paths == (
        Path("a"),
    )


def test_how_data_are_drawn_is_kept(tmp_path: Path) -> None:
    run = compose(
        "preset=tiny", "task=semantic", "data.paths=[a, b]", "data.shares=[1, 0.5]",
        "data.split_fractions=[0.8, 0.2]", "data.repeat_threshold=1e-3", "data.format=yolo",
    )  # fmt: skip
    write_run(run, tmp_path / "config.yaml")
    assert read_run(tmp_path / "config.yaml") == run
    assert run.data.shares == (1, 0.5)


def test_a_later_override_wins() -> None:
    assert parse_overrides(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


def test_steps_and_epochs_replace_each_other() -> None:
    assert find_preset("tiny").run().training.steps is not None
    run = compose("preset=tiny", "training.epochs=3")
    assert (run.training.steps, run.training.epochs) == (None, 3)
    later = merge({"training": {"epochs": 3}}, {"training": {"steps": 9}})
    assert later == {"training": {"epochs": None, "steps": 9}}


def test_an_augmentation_of_another_kind_starts_from_its_own_defaults() -> None:
    assert find_preset("tiny").run().data.augmentation.kind == "shortest_edge_crop"
    run = compose("preset=tiny", "data.augmentation.kind=large_scale_jitter")
    assert run.data.augmentation.kind == "large_scale_jitter"
    assert run.data.augmentation.crop == (1024, 1024)


def test_without_a_preset_the_data_chooses() -> None:
    assert compose(tasks=("semantic",)).preset == "semantic"
    assert compose(tasks=("panoptic", "instance")).preset == "panoptic"
    assert compose("task=instance", tasks=("panoptic", "instance")).preset == "instance"


def test_a_preset_for_all_tasks_takes_the_natural_one_of_the_data() -> None:
    run = compose("preset=tiny", tasks=("instance", "semantic"))
    assert (run.preset, run.task) == ("tiny", "instance")


def test_a_backbone_brings_its_published_settings_and_keeps_what_is_said() -> None:
    assert compose("model.backbone.name=swin_small").model.backbone.drop_path == 0.3
    said = compose("model.backbone.name=swin_small", "model.backbone.drop_path=0.1")
    assert said.model.backbone.drop_path == 0.1
    assert compose("preset=tiny", "model.backbone.name=convnext_tiny").model.backbone.pretrained


def test_without_none_drops_what_nobody_said() -> None:
    said = {"a": None, "b": {"c": None}, "d": {"e": 0, "f": None}, "g": False}
    assert without_none(said) == {"d": {"e": 0}, "g": False}


MESSAGES = {
    "model.num_querys=50": r"^model\.num_querys: not a key of model; did you mean num_queries\?$",
    "dta.workers=2": r"^dta: not a key of a configuration; did you mean data\?$",
    "model.backbone.pretained=true": (
        r"^model\.backbone\.pretained: not a key of model\.backbone; did you mean pretrained\?$"
    ),
    "preset=coco-instance-resnet5": (
        r"^no preset coco-instance-resnet5; did you mean coco-instance-resnet50\?$"
    ),
    "preset=zzz": r"^no preset zzz; accepted: instance, panoptic, semantic, tiny, coco-",
    "task=semantik": r"^task = semantik: did you mean semantic\?$",
    "training.batch_size=0": r"^training\.batch_size = 0: must be greater than 0$",
    "training.batch_size=many": r"^training\.batch_size = many: must be a valid integer",
    "training.precision=bf16": r"^training\.precision = bf16: did you mean bf16-mixed\?$",
    "data.augmentation.kind=large_scale_jittr": (
        r"^data\.augmentation\.kind = large_scale_jittr: did you mean large_scale_jitter\?$"
    ),
    "data.augmentation.crp=64": (
        r"^data\.augmentation\.crp: not a key of data\.augmentation; did you mean crop\?$"
    ),
    "data.augmentation.crop=[64]": r"^data\.augmentation\.crop\.1: missing; give a value$",
    "data.test_size.short_side=-3": r"^data\.test_size\.short_side = -3: must be greater than 0$",
    "model=3": r"^model = 3: must be a mapping; its keys: backbone, num_queries, hidden_dim, ",
    "training={steps: 3, epochs: 4}": (
        r"^training: steps = 3 and epochs = 4; give exactly one of the two$"
    ),
    "data.workers": r"^'data\.workers' is not key=value; write for example data\.workers=2$",
    "data..workers=2": r"is not key=value",
    "data.paths=3": r"^data\.paths: 3 is no folder; give a folder, or a list of folders$",
    "data={paths: a, path: b}": r"^data\.path: not a key of data; did you mean paths\?$",
    "data={paths: [a, b], shares: [1]}": r"^data: 1 shares for 2 folders; give one for each$",
    "data={paths: a, shares: [0]}": r"^data\.shares\.0 = 0: must be greater than 0$",
    "data.split_fractions=[0.9]": r"^data: split 0\.9: the shares of the images .* sum to 1; write",
    "data.repeat_threshold=2": r"^data\.repeat_threshold = 2: must be less than or equal to 1$",
    "data.path=[1": r"^value of data\.path: while parsing a flow sequence",
    "data={workers: 1, workers: 2}": r"^value of data: workers twice in the block of line 1; keep",
}  # fmt: skip


@pytest.mark.parametrize("pair", list(MESSAGES))
def test_a_mistake_is_named_with_its_mend(pair: str) -> None:
    with pytest.raises(ValueError, match=MESSAGES[pair]) as caught:
        compose(pair)
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="4 mistakes in the configuration:") as caught:
        compose("model.num_heads=0", "schedule.kind=polly", "data.augmentation.crp=1", "x=1")
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert sorted(line.strip().split(" ")[0].rstrip(":") for line in lines[1:]) == [
        "data.augmentation.crp", "model.num_heads", "schedule.kind", "x",
    ]  # fmt: skip


def test_missing_parts_are_named() -> None:
    with pytest.raises(ValueError, match=r"data: missing; give a value"):
        parse_run({"preset": "tiny", "task": "semantic"})


def test_a_task_that_a_preset_does_not_train_is_refused() -> None:
    message = r"^preset coco-instance-resnet50 trains instance, not semantic; see `mask2former pre"
    with pytest.raises(ValueError, match=message):
        compose("preset=coco-instance-resnet50", "task=semantic")


def test_a_file_that_is_no_configuration_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(FileNotFoundError, match=r"no configuration at .*run\.yaml"):
        read_changes(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(ValueError, match=r"run\.yaml: a list; a configuration is `key: value`"):
        read_changes(path)
    path.write_text("model: {num_queries: [}\n")
    with pytest.raises(ValueError, match=r"run\.yaml: while parsing"):
        read_changes(path)
    path.write_text("model:\n  num_heads: 2\n  num_heads: 4\n")
    with pytest.raises(ValueError, match=r"run\.yaml: num_heads twice in the block of line 2"):
        read_changes(path)
    path.write_text("")
    assert read_changes(path) == {}
