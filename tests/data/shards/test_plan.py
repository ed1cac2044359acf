from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mask2former.data.annotations import Instances
from mask2former.data.dataset import Dataset
from mask2former.data.shards.plan import _share_out, make_plan, packing_order
from mask2former.types import Classes

Make = Callable[..., Dataset]
EMPTY = Instances(9, 13, ())


@pytest.mark.parametrize(
    ("sizes", "num_shards", "ends"),
    [
        # thirds of 6 bytes end after 2, 4 and 6
        ([1, 1, 1, 1, 1, 1], 3, [2, 4, 6]),
        # one heavy unit takes a shard of its own, and none is empty
        ([100, 1, 1], 3, [1, 2, 3]),
        ([1, 1, 100], 3, [1, 2, 3]),
        ([1, 1, 100], 2, [2, 3]),
        ([5], 1, [1]),
    ],
)
def test_shards_get_about_equal_bytes(sizes: list[int], num_shards: int, ends: list[int]) -> None:
    assert _share_out(np.array(sizes), num_shards) == ends


def test_plans_are_the_same_every_time(make: Make) -> None:
    dataset = make(*[EMPTY] * 6)
    plans = [make_plan({"train": dataset}, "tfrecord", num_shards=3) for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0].splits["train"].ends == (2, 4, 6)
    assert plans[0].splits["train"].names[1] == "train-00001-of-00003.tfrecord"


def test_a_size_decides_the_number_of_shards(make: Make) -> None:
    dataset = make(*[EMPTY] * 6)
    total = sum(Path(str(record.image)).stat().st_size for record in dataset.records)
    plan = make_plan({"train": dataset}, "webdataset", shard_bytes=total)
    # annotations count too
    assert plan.splits["train"].names == ("train-000000.tar", "train-000001.tar")
    assert (
        len(make_plan({"train": dataset}, "webdataset", shard_bytes=1).splits["train"].names) == 6
    )


def test_frames_stay_together_in_order(make: Make) -> None:
    video = (("b", 2), ("a", 0), ("b", 0), ("b", 1), ("a", 1))
    assert packing_order(make(*[EMPTY] * 5, video=video).records) == [[2, 3, 0], [1, 4]]
    assert packing_order(make(EMPTY, EMPTY).records) == [[0], [1]]


def test_images_that_would_share_a_name_in_a_shard_are_refused(make: Make) -> None:
    dataset = make(EMPTY, EMPTY)
    records = [replace(r, image_id=i) for r, i in zip(dataset.records, (1, "1"), strict=True)]
    with pytest.raises(
        ValueError, match=r"Bild 0\.ü\.png and .*Bild 1\.ü\.png would both be called 1"
    ):
        make_plan({"train": replace(dataset, records=records)}, "webdataset", num_shards=1)


def test_impossible_plans_are_refused(make: Make) -> None:
    dataset = make(EMPTY)
    with pytest.raises(ValueError, match="either a number of shards or a size"):
        make_plan({"train": dataset}, "webdataset")
    with pytest.raises(ValueError, match="0 shards cannot hold anything"):
        make_plan({"train": dataset}, "webdataset", num_shards=0)
    with pytest.raises(ValueError, match="shards of 0 bytes cannot hold anything"):
        make_plan({"train": dataset}, "webdataset", shard_bytes=0)
    empty = replace(dataset, records=[])
    with pytest.raises(ValueError, match="split val has no images"):
        make_plan({"train": dataset, "val": empty}, "webdataset", num_shards=1)
    other = replace(dataset, classes=Classes(("x",), (1,), (True,)))
    with pytest.raises(ValueError, match="splits train and val have different classes"):
        make_plan({"train": dataset, "val": other}, "webdataset", num_shards=1)
