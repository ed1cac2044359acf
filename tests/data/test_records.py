import pickle
from pathlib import Path

import pytest

from mask2former.data.dataset import Record
from mask2former.data.records import PackedRecords, SelectedRecords

RECORDS = [
    Record(f"id{i}", Path(f"images/{i}.jpg"), ((i, [1.5] * i),), height=i, width=7)
    for i in range(5)
]


def test_records_come_back_as_they_were() -> None:
    packed = PackedRecords(iter(RECORDS))
    assert len(packed) == 5
    assert list(packed) == RECORDS
    assert packed[-1] == RECORDS[-1]


def test_no_records_are_an_empty_sequence() -> None:
    assert list(PackedRecords([])) == []


@pytest.mark.parametrize("index", [5, -6])
def test_index_beyond_the_records_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match="of 5"):
        PackedRecords(RECORDS)[index]


def test_packed_records_hold_two_arrays_and_no_objects_per_record() -> None:
    packed = PackedRecords(RECORDS * 1000)
    held = vars(packed)
    assert {name: array.ndim for name, array in held.items()} == {"_ends": 1, "_buffer": 1}
    # 5000 records of about 150 bytes, and 8 bytes each for where they end
    assert sum(array.nbytes for array in held.values()) < 5000 * 300


def test_packed_records_can_be_sent_to_another_process() -> None:
    assert list(pickle.loads(pickle.dumps(PackedRecords(RECORDS)))) == RECORDS  # noqa: S301


def test_selection_keeps_its_order() -> None:
    selected = SelectedRecords(PackedRecords(RECORDS), [3, 0, 4])
    assert list(selected) == [RECORDS[3], RECORDS[0], RECORDS[4]]


def test_slices_are_selections() -> None:
    packed = PackedRecords(RECORDS)
    assert list(packed[1:4]) == RECORDS[1:4]
    assert list(packed[::-2]) == RECORDS[::-2]
    assert list(SelectedRecords(packed, [3, 0, 4])[1:]) == [RECORDS[0], RECORDS[4]]
