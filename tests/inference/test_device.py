"""Names of devices."""

import pytest
import torch

from mask2former.inference.device import find_device


def test_auto_finds_a_device_that_computes() -> None:
    assert torch.ones(2, device=find_device("auto")).sum() == 2


def test_the_cpu_is_always_there() -> None:
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cuda:", "xla"])
def test_other_devices_are_refused_with_those_that_are_there(name) -> None:
    with pytest.raises(ValueError, match=f"device '{name}' is not available; .*"):
        find_device(name)
