"""Runs of equal pixels, against a walk from pixel to pixel."""

from itertools import groupby

import numpy as np

from mask2former.masks.runs import find_runs


def test_runs_are_those_of_a_walk_over_the_pixels_of_all_maps() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        size = generator.integers(0, 9, generator.integers(1, 3))
        maps = [generator.integers(0, 3, size) for _ in range(generator.integers(1, 4))]
        starts, lengths = find_runs(*maps)
        pixels = zip(*(a_map.ravel().tolist() for a_map in maps), strict=True)
        expected = [len(list(run)) for _, run in groupby(pixels)]
        assert lengths.tolist() == expected
        assert starts.tolist() == np.cumsum([0, *expected])[:-1].tolist()


def test_rows_are_gone_through_in_any_order_in_memory() -> None:
    ids = np.array([[1, 1, 2], [2, 2, 2]])
    for layout in (ids, np.asfortranarray(ids)):
        starts, lengths = find_runs(layout)
        assert (starts.tolist(), lengths.tolist()) == ([0, 2], [2, 4])
