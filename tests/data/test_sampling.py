import math
from collections import Counter
from itertools import islice

import pytest

from mask2former.data.sampling import (
    Epochs,
    TrainingBatches,
    class_repeats,
    epoch_length,
    scale_to_shares,
)


def take(batches: TrainingBatches, count: int) -> list[list[tuple[int, int]]]:
    return list(islice(batches, count))


def indices(batches: list[list[tuple[int, int]]]) -> list[int]:
    return [index for batch in batches for index, _ in batch]


def test_every_epoch_has_every_image_once_in_another_order() -> None:
    # 3 epochs of 10 images are 6 batches of 5
    drawn = indices(take(TrainingBatches(10, batch_size=5, seed=1), 6))
    epochs = [drawn[i : i + 10] for i in (0, 10, 20)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_batches_go_on_over_the_end_of_an_epoch() -> None:
    batches = take(TrainingBatches(3, batch_size=4, seed=0), 3)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert sorted(indices(batches)[:3]) == [0, 1, 2]


@pytest.mark.parametrize("is_landscape", [None, [i % 3 == 0 for i in range(7)]])
def test_ranks_share_out_the_batches_of_one_process(is_landscape: list[bool] | None) -> None:
    options = {"batch_size": 6, "seed": 3, "is_landscape": is_landscape}
    alone = take(TrainingBatches(7, **options), 5)
    for world_size in (2, 3):
        ranks = [
            take(TrainingBatches(7, **options, rank=rank, world_size=world_size), 5)
            for rank in range(world_size)
        ]
        for batch, *shares in zip(alone, *ranks, strict=True):
            assert [len(share) for share in shares] == [6 // world_size] * world_size
            assert [r for rank in zip(*shares, strict=True) for r in rank] == batch


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="batch of 5 images cannot be shared out equally among 2"):
        TrainingBatches(7, batch_size=5, seed=0, world_size=2)


def test_no_two_requests_share_a_seed() -> None:
    seeds = [s for b in take(TrainingBatches(5, batch_size=4, seed=0), 50) for _, s in b]
    assert len(set(seeds)) == 200


def test_another_seed_gives_another_order_and_other_seeds() -> None:
    first, second = (take(TrainingBatches(20, batch_size=20, seed=s), 1)[0] for s in (0, 1))
    assert [i for i, _ in first] != [i for i, _ in second]
    assert not {s for _, s in first} & {s for _, s in second}


LANDSCAPE = [i % 3 == 0 for i in range(13)]


@pytest.mark.parametrize("is_landscape", [None, LANDSCAPE], ids=["mixed", "grouped"])
@pytest.mark.parametrize("start", [1, 4, 9])
def test_starting_late_equals_skipping(is_landscape: list[bool] | None, start: int) -> None:
    options = {"batch_size": 6, "seed": 2, "rank": 1, "world_size": 2, "is_landscape": is_landscape}
    whole = take(TrainingBatches(13, **options), 15)
    late = take(TrainingBatches(13, **options, start=start), 15 - start)
    assert late == whole[start:]


def test_grouped_batches_have_one_orientation_and_lose_no_image() -> None:
    batches = take(TrainingBatches(13, batch_size=4, seed=5, is_landscape=LANDSCAPE), 60)
    for batch in batches:
        assert len({LANDSCAPE[index] for index, _ in batch}) == 1
    drawn = indices(batches)
    # 240 draws of 13 images are 18 epochs and a half; what waits in a queue is at most 3
    assert all(18 - 3 <= drawn.count(i) <= 19 + 3 for i in range(13))


def test_grouped_requests_are_those_of_the_mixed_sequence() -> None:
    mixed = {r for b in take(TrainingBatches(13, batch_size=4, seed=5), 60) for r in b}
    grouped = take(TrainingBatches(13, batch_size=4, seed=5, is_landscape=LANDSCAPE), 50)
    assert {r for b in grouped for r in b} <= mixed


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="0 images to train on; give at least one"):
        TrainingBatches(0, batch_size=2, seed=0)


def test_flags_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="13 orientation flags for 12 images"):
        TrainingBatches(12, batch_size=2, seed=0, is_landscape=LANDSCAPE)


# 20 images of which a few come more often, and one in a third of the epochs
REPEATS = [1.0] * 14 + [2.5, 3.0, 1.25, 1.0, 4.9, 1 / 3]
# their sum is 27 - 1/60
LENGTH = 27


def test_an_image_occurs_its_repeats_rounded_up_or_down() -> None:
    epochs = Epochs(len(REPEATS), seed=3, repeats=REPEATS)
    assert epochs.length == LENGTH == epoch_length(REPEATS)
    totals: Counter[int] = Counter()
    for epoch in range(1000):
        counts = Counter(epochs.order(epoch).tolist())
        assert sum(counts.values()) == LENGTH
        assert all(math.floor(r) <= counts[i] <= math.ceil(r + 0.01) for i, r in enumerate(REPEATS))
        totals += counts
    # the mean of 1000 draws of a share has a standard deviation of 0.016 at most
    for i, repeat in enumerate(REPEATS):
        assert totals[i] / 1000 == pytest.approx(repeat * LENGTH / sum(REPEATS), abs=0.05)


def test_repeats_of_1_show_every_image_once() -> None:
    epochs = Epochs(7, seed=0, repeats=[1.0] * 7)
    assert [sorted(epochs.order(e).tolist()) for e in range(5)] == [list(range(7))] * 5


def test_repetitions_are_spread_over_the_epoch() -> None:
    # ten images, the first of them ten times: side by side it would fill half of the epoch
    order = Epochs(10, seed=1, repeats=[10.0] + [1.0] * 9).order(0).tolist()
    runs = "".join("x" if i == 0 else " " for i in order).split()
    assert max(map(len, runs)) < 6


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("is_landscape", [None, [i % 3 == 0 for i in range(20)]])
def test_ranks_take_equal_steps_and_share_repetitions(world_size, is_landscape) -> None:
    drawn: Counter[int] = Counter()
    for rank in range(world_size):
        batches = TrainingBatches(
            20, batch_size=3 * world_size, seed=1, rank=rank, world_size=world_size,
            repeats=REPEATS, is_landscape=is_landscape,
        )  # fmt: skip
        whole = take(batches, 27)
        assert [len(batch) for batch in whole] == [3] * 27
        drawn.update(indices(whole))
        late = TrainingBatches(
            20, batch_size=3 * world_size, seed=1, rank=rank, world_size=world_size, start=20,
            repeats=REPEATS, is_landscape=is_landscape,
        )  # fmt: skip
        assert take(late, 7) == whole[20:]
    if is_landscape is None:
        # 81 images a rank are 3 whole epochs for each
        for i, repeat in enumerate(REPEATS):
            epochs = 3 * world_size
            assert epochs * math.floor(repeat) <= drawn[i] <= epochs * math.ceil(repeat + 0.01)


def test_images_of_rare_classes_repeat_by_the_lvis_rule() -> None:
    # class 0 is everywhere, class 1 in 2 of 8 images, class 2 in 1 of 8
    present = [{0}, {0}, {0}, {0}, {0, 1}, {0, 1}, {0, 2}, ()]
    repeats = class_repeats(present, 0.5)
    # sqrt(0.5 / 0.25), sqrt(0.5 / 0.125); 7/8 is no rarer than the threshold
    expected = [1, 1, 1, 1, math.sqrt(2), math.sqrt(2), 2, 1]
    assert repeats == pytest.approx(expected)
    # an image of two rare classes is shown for the rarer
    assert class_repeats([{1, 2}, {1}, {0}, {0}], 1.0)[0] == pytest.approx(2)


def test_shares_give_every_data_set_its_part_of_the_draws() -> None:
    repeats = scale_to_shares([1.0] * 8, [6, 2], [1.0, 1.0])
    assert repeats == pytest.approx([4 / 6] * 6 + [2.0] * 2)
    assert scale_to_shares([1.0] * 8, [6, 2], [3.0, 1.0]) == pytest.approx([1.0] * 8)


def test_shares_are_exact_whatever_repeats_inside() -> None:
    repeats = scale_to_shares([1.0, 3.0, 1.0, 1.0, 2.0], [2, 3], [3.0, 1.0])
    # 8 draws: 6 of the first data set, whose images stay 1 to 3, and 2 of the second
    assert repeats == pytest.approx([1.5, 4.5, 0.5, 0.5, 1.0])


def test_repeats_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="2 repeats for 3 images"):
        Epochs(3, seed=0, repeats=[1.0, 2.0])
