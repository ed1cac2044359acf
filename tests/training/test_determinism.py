import os
import subprocess
import sys

import pytest
import torch

from mask2former.training.determinism import make_deterministic

pytestmark = pytest.mark.runs

SCRIPT = """
import os, torch
from mask2former.training.determinism import make_deterministic
make_deterministic()
assert torch.are_deterministic_algorithms_enabled()
assert not torch.is_deterministic_algorithms_warn_only_enabled()
assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
print(os.environ["CUBLAS_WORKSPACE_CONFIG"])
"""


@pytest.mark.parametrize(("given", "expected"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_a_process_is_deterministic_and_keeps_the_workspace_that_it_was_given(
    given: str | None, expected: str
) -> None:
    environment = {n: v for n, v in os.environ.items() if n != "CUBLAS_WORKSPACE_CONFIG"}
    if given is not None:
        environment["CUBLAS_WORKSPACE_CONFIG"] = given
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_it_is_too_late_when_cuda_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="CUDA was started without CUBLAS_WORKSPACE_CONFIG; set"):
        make_deterministic()
    assert not torch.are_deterministic_algorithms_enabled()
