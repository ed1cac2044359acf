import math

import torch

from mask2former.model.position import sine_position


def test_position_follows_the_formula() -> None:
    code = sine_position(3, 5, 8, like=torch.zeros(()))
    assert code.shape == (8, 3, 5)
    # Channels 0..3 are y, 4..7 are x; frequencies 10000^(0/4) and 10000^(2/4) = 100.
    y, x = 2 / (3 + 1e-6) * 2 * math.pi, 4 / (5 + 1e-6) * 2 * math.pi
    expected = [f(a / t) for a in (y, x) for t in (1, 100) for f in (math.sin, math.cos)]
    torch.testing.assert_close(code[:, 1, 3], torch.tensor(expected), rtol=0, atol=1e-6)


def test_position_keeps_double_precision_and_widens_half() -> None:
    assert sine_position(1, 1, 4, like=torch.zeros((), dtype=torch.float64)).dtype == torch.float64
    assert sine_position(1, 1, 4, like=torch.zeros((), dtype=torch.float16)).dtype == torch.float32
