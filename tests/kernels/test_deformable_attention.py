import torch

from mask2former.kernels.deformable_attention import deformable_attention


def by_hand(values, level_sizes, centers, offsets, weights):
    """Equation 3 of Deformable DETR with loops, bilinear interpolation written out."""
    b, _, heads, channels = values.shape
    q, points = offsets.shape[1], offsets.shape[4]
    out = torch.zeros(b, q, heads, channels, dtype=values.dtype)
    start = 0
    for level, (height, width) in enumerate(level_sizes):
        maps = values[:, start : start + height * width].view(b, height, width, heads, channels)
        start += height * width
        for i, j, k, p in torch.cartesian_prod(*map(torch.arange, (b, q, heads, points))).tolist():
            x = centers[j, 0] * width + offsets[i, j, k, level, p, 0] - 0.5
            y = centers[j, 1] * height + offsets[i, j, k, level, p, 1] - 0.5
            for row in (int(y.floor()), int(y.floor()) + 1):
                for column in (int(x.floor()), int(x.floor()) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        share = (1 - (x - column).abs()) * (1 - (y - row).abs())
                        weight = weights[i, j, k, level, p] * share
                        out[i, j, k] += weight * maps[i, row, column, k]
    return out.flatten(2)


def test_samples_are_weighted_sums_also_outside_the_image() -> None:
    generator = torch.Generator().manual_seed(0)
    level_sizes = [(2, 3), (4, 5)]
    b, q, heads, channels, points = 2, 3, 2, 4, 3

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    values = draw(b, 2 * 3 + 4 * 5, heads, channels)
    centers = draw(q, 2)
    offsets = (draw(b, q, heads, 2, points, 2) - 0.5) * 8  # many samples lie outside
    weights = draw(b, q, heads, 2, points)
    arguments = (values, level_sizes, centers, offsets, weights)
    torch.testing.assert_close(deformable_attention(*arguments), by_hand(*arguments))


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    def run(values, offsets, weights):
        return deformable_attention(
            values, [(3, 2)], torch.full((2, 2), 0.4).double(), offsets, weights
        )

    assert torch.autograd.gradcheck(
        run, (draw(1, 6, 2, 2), draw(1, 2, 2, 1, 2, 2), draw(1, 2, 2, 1, 2))
    )
