"""The benchmark of memory still runs: one measurement at a tiny size."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "memory.py"


def load_benchmark() -> ModuleType:
    specification = importlib.util.spec_from_file_location("benchmark_of_memory", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("library", ["mask2former", "transformers"])
def test_a_measurement_tells_memory_and_seconds(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library)
    benchmark = load_benchmark()
    monkeypatch.setattr(benchmark, "NUM_POINTS", 64)
    monkeypatch.setattr(benchmark, "NUM_TARGETS", 3)
    case = {
        "library": library, "device": "cpu", "backbone": "resnet50", "side": 64, "batch": 1,
        "precision": "32-true", "recomputes": False, "steps": 1,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        found = benchmark.measure(case)
    assert found["peak"] >= found["idle"] > 0
    assert len(found["seconds"]) == 1
    assert math.isfinite(found["seconds"][0])
