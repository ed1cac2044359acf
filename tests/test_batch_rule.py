"""Learning rate and length of a run whose batch is not the preset's."""

import pytest

from mask2former.batch_rule import follow_batch, rate_for_batch, tell_epochs
from mask2former.config_io import Changes, compose_run, parse_batch
from mask2former.presets import find_preset

PRESET = "coco-panoptic-resnet50"  # batches of 16 at 1e-4, 368750 steps


def followed(changes: Changes) -> tuple[float, list[str]]:
    changes = {"preset": PRESET, **changes}
    run, lines = follow_batch(compose_run(changes, lambda: ("panoptic",)), changes)
    return run.optimizer.learning_rate, lines


def test_a_quarter_of_the_batch_takes_half_the_rate() -> None:
    assert rate_for_batch(1e-4, 16, 4) == pytest.approx(5e-5)
    rate, lines = followed({"training": {"batch_size": 4}})
    assert rate == pytest.approx(5e-5)
    assert lines == [
        "learning rate 0.0001 x sqrt(4 / 16) = 5e-05, since the preset's is for batches of 16",
        "368750 steps of 4 images show 1475000 images, where the preset's of 16 show 5900000; "
        "--steps 1475000 shows as many",
    ]


def test_the_presets_own_batch_changes_nothing() -> None:
    assert followed({"training": {"batch_size": 16}}) == (1e-4, [])
    assert followed({"training": {"fit_memory": "auto"}}) == (1e-4, [])


def test_a_rate_that_was_given_stays_and_the_rule_is_told() -> None:
    changes = {"training": {"batch_size": 4, "epochs": 2}, "optimizer": {"learning_rate": 3e-4}}
    told = "learning rate 0.0003 as given (the rule: learning rate 0.0001 x sqrt(4 / 16) = 5e-05)"
    assert followed(changes) == (3e-4, [told])


def test_other_settings_of_the_optimizer_are_no_rate() -> None:
    changes = {"training": {"batch_size": 64}, "optimizer": {"weight_decay": 0.1}}
    assert followed(changes)[0] == pytest.approx(2e-4)


def test_a_written_run_keeps_its_rate_without_a_word() -> None:
    changes = {"preset": PRESET, "training": {"batch_size": 4}}
    run, _ = follow_batch(compose_run(changes, lambda: ("panoptic",)), changes)
    values = run.model_dump()
    again = compose_run(values, lambda: ("panoptic",))
    assert follow_batch(again, values) == (again, [])


@pytest.mark.parametrize("length", [{"steps": 100}, {"epochs": 3}])
def test_a_length_that_was_given_is_not_judged(length: dict[str, int]) -> None:
    _, lines = followed({"training": {"batch_size": 4, **length}})
    assert len(lines) == 1


def test_epochs_follow_from_steps() -> None:
    run = find_preset("tiny").run("panoptic")
    told = tell_epochs(run, num_steps=25, epoch_length=40)
    assert told == "25 steps of 4 images show 100 images: 2.5 epochs of 40"


def test_options_say_batch_and_limit() -> None:
    assert parse_batch(None, None) == {}
    assert parse_batch("8", None) == {"batch_size": 8}
    assert parse_batch("auto", None) == {"fit_memory": "auto"}
    assert parse_batch("auto", "6GiB") == {"fit_memory": 6 * 2**30}
    assert parse_batch("8", "6GB") == {"batch_size": 8, "fit_memory": 6 * 10**9}


@pytest.mark.parametrize("text", ["0", "-4", "many", "4.5"])
def test_a_batch_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no number of images; give one such as 8, or auto"):
        parse_batch(text, None)


@pytest.mark.parametrize("limit", [0, -5, True, "much"])
def test_a_limit_that_is_none_is_refused(limit: object) -> None:
    changes = {"preset": PRESET, "training": {"fit_memory": limit}}
    with pytest.raises(ValueError, match=r"training.fit_memory: .* (is no limit|is no size)"):
        compose_run(changes, lambda: ("panoptic",))


def test_a_limit_in_a_file_may_have_a_unit() -> None:
    changes = {"preset": PRESET, "training": {"fit_memory": "6GiB"}}
    assert compose_run(changes, lambda: ("panoptic",)).training.fit_memory == 6 * 2**30
