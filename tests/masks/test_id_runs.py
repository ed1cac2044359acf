import numpy as np

from mask2former.masks.id_runs import id_map_rles
from mask2former.masks.rle import encode_mask


def test_run_lengths_are_those_of_masks_encoded_one_by_one() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        ids = generator.integers(0, generator.integers(1, 5), generator.integers(1, 9, 2)) * 5
        ids = ids.astype(np.int32)
        # in no order, one that no pixel has, and the highest
        segment_ids = [15, 0, 10, 7, 5, 2**24 - 1]
        expected = [encode_mask(ids == segment_id) for segment_id in segment_ids]
        assert id_map_rles(ids, segment_ids) == expected


def test_no_segments_have_no_run_lengths() -> None:
    assert id_map_rles(np.ones((3, 4), np.int32), []) == []
