"""What a survey says about the needs of a data set, and how values are written."""

import pytest

from mask2former.check.needs import as_word, measure, shown, value_of
from mask2former.config_io import parse_overrides
from surveyed import image, run_of, splits_of


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


def test_a_key_that_no_configuration_has_is_an_error() -> None:
    run = run_of()
    assert value_of(run, "data.tta.short_sides") is None  # the general preset has no such part
    with pytest.raises(KeyError, match="copypaste"):
        value_of(run, "data.copypaste")
