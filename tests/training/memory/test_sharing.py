"""Processes that share a device, and those that only call theirs the same."""

import socket
from types import SimpleNamespace

import pytest
import torch

from mask2former.ranks import Place
from mask2former.training.memory import sharing
from mask2former.training.memory.sharing import identify_device, most_sharing

FIRST = torch.device("cuda", 0)


def place(local_rank: int, own_devices: int | None) -> Place:
    return Place(local_rank, 8, local_rank, "127.0.0.1", 1, own_devices=own_devices)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch):
    """Sets what PyTorch tells of this process's devices, and its place among the others."""

    def set_up(of_rank: Place | None, described: object = None, count: int = 1) -> None:
        module = SimpleNamespace()
        if described is not None:
            module = SimpleNamespace(get_device_properties=lambda _: described)
        monkeypatch.setattr(torch, "get_device_module", lambda _: module)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(sharing, "find_place", lambda: of_rank)

    return set_up


def test_devices_are_told_apart_by_what_they_are_rather_than_by_number(backend) -> None:
    seen = []
    for rank, uuid in enumerate(["a", "b", "a"]):
        backend(place(rank, own_devices=1), SimpleNamespace(uuid=uuid, name="the same model"))
        seen.append(identify_device(FIRST))
    assert seen[0] == seen[2] != seen[1]


def test_where_they_have_no_uuid_their_place_on_the_bus_counts(backend) -> None:
    seen = []
    for bus in (3, 4):
        backend(place(0, None), SimpleNamespace(pci_domain_id=0, pci_bus_id=bus, pci_device_id=0))
        seen.append(identify_device(FIRST))
    assert seen[0] != seen[1]


@pytest.mark.parametrize("described", [None, SimpleNamespace(name="no more than that")])
@pytest.mark.parametrize(("own_devices", "is_shared"), [(1, False), (None, True), (2, True)])
def test_what_slurm_shows_to_one_process_is_its_own(
    backend, described: object, own_devices: int | None, is_shared: bool
) -> None:
    seen = []
    for rank in (0, 1):
        backend(place(rank, own_devices), described)
        seen.append(identify_device(FIRST))
    assert (seen[0] == seen[1]) == is_shared


def test_a_cpu_is_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = identify_device(torch.device("cpu"))
    assert here == identify_device(torch.device("cpu"))
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert here != identify_device(torch.device("cpu"))


def test_the_most_crowded_device_counts() -> None:
    assert most_sharing([("m", "0"), ("m", "1")]) == 1
    assert most_sharing([("m", "0"), ("m", "1"), ("n", "1"), ("m", "1")]) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_has_a_uuid() -> None:
    uuid = torch.cuda.get_device_properties(0).uuid
    assert str(uuid) in identify_device(FIRST)
    assert identify_device(FIRST) == identify_device(torch.device("cuda"))
