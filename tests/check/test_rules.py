"""What each rule but that of the sizes proposes."""

from dataclasses import replace

import numpy as np
import pytest

from mask2former.batch_rule import follow_batch
from mask2former.check.proposals import (
    propose_batch,
    propose_copies,
    propose_frozen_stages,
    propose_length,
    propose_queries,
    propose_repeats,
    with_proposals,
)
from mask2former.data.sampling import class_repeats
from mask2former.presets import all_presets
from surveyed import needs_of, run_of, values


@pytest.mark.parametrize("name", [n for n, p in all_presets().items() if p.num_images])
def test_the_authors_recipes_are_long_enough_for_their_data(name: str) -> None:
    preset = all_presets()[name]
    needs = needs_of(num_images=preset.num_images or 0)
    assert not list(propose_length(needs, preset.run()))
    assert not list(propose_batch(needs, preset.run()))
    assert not list(propose_frozen_stages(needs, preset.run()))


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


@pytest.mark.parametrize("preset", [None, "tiny", "coco-instance-resnet50"])
def test_the_rate_that_follows_a_small_batch_is_told(preset: str | None) -> None:
    run = run_of("instance", preset)
    (proposal,) = propose_batch(needs_of(num_images=3), run)
    trained, _ = follow_batch(with_proposals(run, [proposal]), {})
    assert trained.optimizer.learning_rate < run.optimizer.learning_rate
    assert proposal.reason.endswith(f" = {trained.optimizer.learning_rate:.3g}")


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
    for task in ("instance", "panoptic"):
        (proposal,) = propose_copies(few, run_of(task))
        assert proposal.override == "data.copy_paste=0.5"
        assert proposal.reason.startswith("90 objects of countable classes; ")
    assert not list(propose_copies(few, run_of("semantic")))
    assert not list(propose_copies(few, run_of(data={"copy_paste": 0.2})))
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
