import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

import mask2former
from mask2former.training.accelerator import AnyDevice, computes_in_bfloat16, make_precision

CUDA_ONLY = {"kernels", "doctor.py", "accelerator.py", "determinism.py"}
"""Where a vendor is asked for by name, after its device was found to be there."""


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps", "xpu", "privateuseone"])
def test_autocast_is_that_of_the_device(kind: str) -> None:
    precision = make_precision("bf16-mixed", torch.device(kind))
    assert isinstance(precision, MixedPrecision)
    assert precision.device == kind


def test_a_cpu_only_emulates_half_precision() -> None:
    assert not computes_in_bfloat16(torch.device("cpu"))


def test_a_process_has_the_one_device_that_it_is_given() -> None:
    device = torch.device("xpu:3")
    assert AnyDevice.get_parallel_devices(AnyDevice.parse_devices([device])) == [device]


def test_a_vendors_plug_in_is_set_by_its_number(monkeypatch) -> None:
    chosen = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    AnyDevice().setup_device(torch.device("cpu"))
    AnyDevice().setup_device(torch.device("xpu:3"))
    assert chosen == [torch.device("xpu:3")]


def test_no_code_assumes_cuda() -> None:
    package = Path(mask2former.__file__).parent
    found = [
        path.relative_to(package)
        for path in package.rglob("*.py")
        if re.search(r"torch\.cuda\b|\.cuda\(", path.read_text(encoding="utf-8"))
    ]
    assert not [path for path in found if not CUDA_ONLY & set(path.parts)]
