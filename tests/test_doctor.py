"""What a machine can do, and its known bad combinations."""

from pathlib import Path

import torch

from mask2former.doctor import (
    OPTIONAL,
    Device,
    device_warnings,
    diagnose,
    list_devices,
    version_warnings,
)

CPU = Device("cpu", "x86_64", 8 * 1024**3, True)


def test_this_machine_is_described(tmp_path: Path) -> None:
    found = diagnose(tmp_path)
    assert found.versions["torch"] == torch.__version__.split("+")[0]
    assert found.threads == torch.get_num_threads()
    assert set(found.optional) == set(OPTIONAL)
    assert found.free_disk > 0
    assert found.cores >= 1


def test_the_cpu_is_always_there_and_last() -> None:
    assert list_devices()[-1].name == "cpu"


def test_malicious_releases_are_named() -> None:
    versions = {"lightning": "2.6.3", "pytorch-lightning": "2.6.4"}
    assert list(version_warnings(versions)) == [
        "lightning 2.6.3 carried malicious code; run: pip install --upgrade lightning"
    ]
    assert not list(version_warnings({"lightning": None}))


def test_a_gpu_that_torch_was_not_built_for_is_named() -> None:
    [warning] = device_warnings([CPU], cuda_of_torch=None, has_driver=True)
    assert warning.endswith("built without CUDA; install the CUDA build of torch")


def test_a_driver_that_is_too_old_is_named() -> None:
    [warning] = device_warnings([CPU], cuda_of_torch="13.2", has_driver=True)
    assert warning.endswith("needs a driver for CUDA 13.2; update the driver")


def test_a_gpu_without_bf16_is_named() -> None:
    old, new = (Device(f"cuda:{i}", "G", 1, has_bf16=bool(i)) for i in range(2))
    [warning] = device_warnings([old, new, CPU], cuda_of_torch="13.2", has_driver=True)
    assert warning.startswith("cuda:0 (G) has no bf16")


def test_a_plain_cpu_machine_gets_no_warning() -> None:
    assert not list(device_warnings([CPU], cuda_of_torch="13.2", has_driver=False))
