import pytest
import torch
import torch.nn.functional as F

from mask2former.kernels.sampling import gather_bilinear, sample_bilinear


def random_case(seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    b, c, h, w, q, p = (int(torch.randint(1, 7, (), generator=g)) for _ in range(6))
    maps = torch.randn(b, c, h, w, generator=g, dtype=dtype)
    grid = (torch.rand(b, q, p, 2, generator=g, dtype=dtype) - 0.5) * 5  # many lie outside
    grid[:, 0, 0] = torch.tensor([-1.0, 1.0], dtype=dtype)  # a corner
    return maps.requires_grad_(), grid.requires_grad_()


@pytest.mark.parametrize("seed", range(100))
def test_gathered_samples_and_gradients_are_those_of_grid_sample(seed: int) -> None:
    maps, grid = random_case(seed, torch.float64)
    expected = F.grid_sample(maps, grid, align_corners=False)
    found = gather_bilinear(maps, grid)
    torch.testing.assert_close(found, expected)
    toward = torch.randn(expected.shape, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, (maps, grid), toward),
        torch.autograd.grad(expected, (maps, grid), toward),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_samples_far_outside_are_zero() -> None:
    maps = torch.ones(1, 1, 2, 3)
    grid = torch.tensor([-1e6, 0.0]).view(1, 1, 1, 2)
    assert gather_bilinear(maps, grid).item() == 0


def test_samples_are_those_of_grid_sample_on_the_cpu() -> None:
    maps, grid = random_case(7, torch.float32)
    assert torch.equal(sample_bilinear(maps, grid), F.grid_sample(maps, grid, align_corners=False))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_gradients_on_a_gpu_repeat_in_deterministic_mode() -> None:
    maps = torch.randn(2, 8, 5, 5, device="cuda", requires_grad=True)
    grid = (torch.rand(2, 4096, 4, 2, device="cuda") * 2 - 1).requires_grad_()
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (
            torch.autograd.grad(sample_bilinear(maps, grid).sin().sum(), (maps, grid))
            for _ in range(2)
        )
    finally:
        torch.use_deterministic_algorithms(was)
    assert all(map(torch.equal, first, second))
