import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mask2former.masks.packed import pack_masks, sample_mask_rows, sample_masks, unpack_masks


def random_masks(m: int, h: int, w: int) -> np.ndarray:
    return np.random.default_rng(m).random((m, h, w)) > 0.5


@pytest.mark.parametrize("m", [0, 1, 8, 9, 17])
def test_packing_keeps_every_mask(m: int) -> None:
    masks = random_masks(m, 5, 7)
    packed = pack_masks(masks)
    assert packed.shape == (5, 7, -(-m // 8))
    assert np.array_equal(unpack_masks(packed, m).numpy(), masks)


def test_bits_lie_where_the_documentation_says() -> None:
    masks = np.zeros((10, 1, 2), dtype=bool)
    masks[9, 0, 1] = True
    # bit 9 % 8 = 1 of byte 9 // 8 = 1
    assert pack_masks(masks).tolist() == [[[0, 0], [0, 2]]]


@pytest.mark.parametrize("padded_size", [(5, 7), (8, 8)])
def test_samples_equal_grid_sample_of_the_padded_masks(padded_size) -> None:
    masks = random_masks(11, 5, 7)
    generator = torch.Generator().manual_seed(0)
    # Borders and corners included.
    points = torch.cat([torch.rand(200, 2, generator=generator), torch.tensor([[0.0, 0], [1, 1]])])
    padded = torch.zeros(1, 11, *padded_size)
    padded[0, :, :5, :7] = torch.from_numpy(masks)
    expected = F.grid_sample(padded, (2 * points - 1)[None, None], align_corners=False)[0, :, 0]
    packed = pack_masks(masks)
    torch.testing.assert_close(sample_masks(packed, 11, points, padded_size), expected)
    rows = torch.tensor([10, 0, 3, 10])
    sampled = sample_mask_rows(packed, rows, points.expand(4, -1, -1), padded_size)
    torch.testing.assert_close(sampled, expected[rows])


def test_no_masks_give_no_samples() -> None:
    packed = pack_masks(random_masks(0, 3, 4))
    assert sample_masks(packed, 0, torch.rand(6, 2), (3, 4)).shape == (0, 6)
