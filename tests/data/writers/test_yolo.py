import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.data.annotations import Instance
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.yolo import as_shares, one_polygon
from mask2former.masks.polygons import rasterize_polygons
from mask2former.masks.rle import encode_mask

tenths = st.integers(0, 600).map(lambda i: i / 10)


@given(
    points=st.lists(st.tuples(tenths, tenths), min_size=3, max_size=8),
    height=st.integers(60, 700),
    width=st.integers(60, 700),
)
@settings(max_examples=400, deadline=None)
def test_shares_written_and_multiplied_again_fill_the_same_pixels(
    points: list[tuple[float, float]], height: int, width: int
) -> None:
    polygon = np.array(points)
    text = [repr(value) for value in as_shares(polygon, height, width).ravel().tolist()]
    again = np.array([float(word) for word in text]).reshape(-1, 2) * (width, height)
    assert np.allclose(again, polygon, rtol=0, atol=1e-12)
    filled, expected = (rasterize_polygons([p], height, width) for p in (again, polygon))
    assert np.array_equal(filled, expected)


def test_shares_are_within_the_image() -> None:
    corners = np.array([[0.0, 0.0], [333.0, 0.0], [333.0, 217.0], [0.0, 217.0]])
    assert as_shares(corners, 217, 333).tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_an_empty_mask_is_no_polygon() -> None:
    empty = Instance(0, encode_mask(np.zeros((4, 5), bool)), False, 0.0)
    assert one_polygon(empty, 4, 5, Losses()) is None
    outside = (np.array([[9.0, 9.0], [12.0, 9.0], [12.0, 12.0]]),)
    assert one_polygon(Instance(0, outside, False, 0.0), 4, 5, Losses()) is None
