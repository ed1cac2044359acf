from itertools import islice

import pytest

from mask2former.data.sampling import TrainingBatches


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


def test_ranks_share_one_sequence() -> None:
    whole = [r for b in take(TrainingBatches(7, batch_size=1, seed=3), 12) for r in b]
    for rank in range(3):
        batches = TrainingBatches(7, batch_size=2, seed=3, rank=rank, world_size=3)
        own = [request for batch in take(batches, 2) for request in batch]
        assert own == whole[rank::3]


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
    options = {"batch_size": 3, "seed": 2, "rank": 1, "world_size": 2, "is_landscape": is_landscape}
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
