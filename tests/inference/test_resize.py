"""Resizing back to the original size."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mask2former.inference.resize import (
    Frame,
    axis_weights,
    position_weights,
    resize,
    resize_columns,
    resize_rows,
)


def test_a_frame_needs_pixels() -> None:
    with pytest.raises(ValueError, match="side below 1 pixel"):
        Frame(padded=(32, 32), resized=(0, 32), original=(5, 5))


def test_the_resized_image_lies_inside_the_padded_one() -> None:
    with pytest.raises(ValueError, match=r"resized \(40, 32\) is larger than padded \(32, 64\)"):
        Frame(padded=(32, 64), resized=(40, 32), original=(5, 5))


def test_the_same_size_is_left_alone() -> None:
    planes = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))
    assert resize(planes, (3, 5)) is planes
    # which is what interpolating to the same size gives
    assert torch.equal(F.interpolate(planes[None], size=(3, 5), mode="bilinear")[0], planes)


@pytest.mark.parametrize("rows", [slice(0, 7), slice(3, 4), slice(11, 19)])
def test_rows_and_columns_apart_equal_two_plain_resizes(rows) -> None:
    planes = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))
    padded = F.interpolate(planes[None], size=(24, 32), mode="bilinear")
    whole = F.interpolate(padded[..., :21, :30], size=(19, 43), mode="bilinear")[0]
    band = resize_rows(planes, axis_weights(6, (24, 21), (19, 19))[rows])
    band = resize_columns(resize_columns(band, 32)[..., :30], 43)
    # products of weights are rounded in another order
    assert_close(band, whole[:, rows], rtol=1e-5, atol=1e-6)


def test_position_weights_at_the_cells_of_a_resize_are_its_weights() -> None:
    positions = (torch.arange(19, dtype=torch.float64) + 0.5) * 6 / 19
    assert_close(position_weights(positions, 6), axis_weights(6, (19, 19)), rtol=0, atol=1e-6)
    far = torch.tensor([-9.0, 0.2, 0.75, 99.0], dtype=torch.float64)
    assert position_weights(far, 2).tolist() == [[1, 0], [1, 0], [0.75, 0.25], [0, 1]]
