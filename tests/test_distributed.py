"""Several processes: who they are, how they join, what they exchange."""

import json
import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mask2former.distributed import (
    broadcast,
    gather,
    is_main,
    joined,
    local_rank,
    mean_over_ranks,
    rank,
    world_size,
)
from mask2former.inference.device import find_device
from mask2former.launch import run_processes
from mask2former.meeting import count_sharing, threads_shared_out
from mask2former.ranks import VARIABLES, Place, find_place, first_node

pytestmark = pytest.mark.runs

CPU = torch.device("cpu")
TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[007-008]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)


def test_a_single_process_is_rank_0_of_1() -> None:
    assert (rank(), world_size(), local_rank(), is_main()) == (0, 1, 0, True)
    assert mean_over_ranks(7, CPU).item() == 7
    value = object()
    with joined():
        assert gather(value) == [value]
        assert broadcast(value) is value
        assert not dist.is_initialized()


def test_ranks_are_known_before_they_join(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, TORCHRUN)
    assert (rank(), world_size(), local_rank(), is_main()) == (5, 8, 1, False)
    for exchange in (gather, broadcast, lambda value: mean_over_ranks(value, CPU)):
        with pytest.raises(RuntimeError, match="one of 8 processes that have not joined; call wi"):
            exchange(1)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        ({"WORLD_SIZE": "1"}, None),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
        (TORCHRUN, Place(5, 8, 1, "node7", 29500)),
        ({**TORCHRUN, "MASK2FORMER_LISTENER": "7"}, Place(5, 8, 1, "node7", 29500)),
        (
            {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "MASK2FORMER_LISTENER": "7"},
            Place(0, 8, 0, "node7", 29500, listener=7),
        ),
        # 10000 + 31 * 1234 + 2 = 48256, which is 20000 too high
        (SRUN, Place(5, 8, 1, "gpu007", 28256)),
        ({**SRUN, "SLURM_STEP_NODELIST": "gpu7"}, Place(5, 8, 1, "127.0.0.1", 28256)),
        ({**SRUN, "SLURM_GPUS_PER_TASK": "a100:2"}, Place(5, 8, 1, "gpu007", 28256, None, 2)),
        ({**SRUN, "MASTER_ADDR": "login", "MASTER_PORT": "4"}, Place(5, 8, 1, "login", 4)),
        ({**SRUN, "WORLD_SIZE": "8", "RANK": ""}, Place(5, 8, 1, "gpu007", 28256)),
        ({**SRUN, **TORCHRUN}, Place(5, 8, 1, "node7", 29500)),
        # a batch script, and one task that srun started
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
    ],
)
def test_the_environment_says_which_process_this_is(
    variables: dict[str, str], place: Place | None
) -> None:
    assert find_place(variables) == place


@pytest.mark.parametrize("missing", TORCHRUN)
def test_a_missing_variable_of_torchrun_is_named(missing: str) -> None:
    variables = {name: text for name, text in TORCHRUN.items() if name != missing}
    with pytest.raises(ValueError, match=rf"set, but not {missing}; start several processes with"):
        find_place(variables)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS=8 set, but not SLURM_PROCID; start"),
        ("SLURM_LOCALID", "SLURM_STEP_NUM_TASKS=8 set, but not SLURM_LOCALID; start"),
        ("SLURM_STEP_NODELIST", "MASTER_ADDR and SLURM_STEP_NODELIST are not set; export MASTER_"),
        ("SLURM_JOB_ID", "MASTER_PORT and SLURM_JOB_ID are not set; export MASTER_PORT"),
    ],
)
def test_a_missing_variable_of_slurm_is_named(missing: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_place({name: text for name, text in SRUN.items() if name != missing})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({**TORCHRUN, "RANK": "8"}, "RANK=8 and WORLD_SIZE=8 contradict each other"),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, "RANK=5 and WORLD_SIZE=1 contradict each other"),
        ({**TORCHRUN, "LOCAL_RANK": "6"}, "RANK=5 and LOCAL_RANK=6 contradict each other"),
        ({**TORCHRUN, "RANK": "-1"}, "RANK='-1' is not a whole number; correct or unset it"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' is not a whole number"),
        ({**SRUN, "WORLD_SIZE": "4"}, "WORLD_SIZE=4 and SLURM_STEP_NUM_TASKS=8 contradict"),
        ({**SRUN, "SLURM_PROCID": "8"}, "SLURM_PROCID=8 and SLURM_STEP_NUM_TASKS=8 contradict"),
        ({**SRUN, "SLURM_LOCALID": "6"}, "SLURM_PROCID=5 and SLURM_LOCALID=6 contradict"),
    ],
)
def test_contradictions_are_told(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        find_place(variables)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu7,gpu8", "gpu7"),
        ("gpu[007-012,020],login1", "gpu007"),
        ("gpu[3,7]", "gpu3"),
        ("rack[01-02]n[1-4].example.org,b", "rack01n1.example.org"),
    ],
)
def test_the_first_node_of_a_list(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


@pytest.mark.parametrize("nodes", ["", "gpu[", "gpu[]", ",a", "a]b"])
def test_a_list_without_a_first_node_is_refused(nodes: str) -> None:
    with pytest.raises(ValueError, match="names no first machine; export MASTER_ADDR"):
        first_node(nodes)


def test_those_that_may_use_a_common_core_share_it() -> None:
    cores = [["a/0", "a/1"], ["a/1", "a/0"], ["a/2"], ["b/0", "b/1"]]
    assert [count_sharing(rank, cores) for rank in range(4)] == [2, 2, 1, 1]


def test_threads_are_shared_out_unless_their_number_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("mask2former.meeting.num_cores", lambda: 7)
    for num_sharing, threads in ((1, 7), (2, 3), (9, 1)):
        with threads_shared_out(num_sharing):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with threads_shared_out(2):
        assert torch.get_num_threads() == before


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: cuda)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)


@pytest.mark.usefixtures("four_gpus")
def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_device("auto") == find_device("cuda") == torch.device("cuda")
    for own in range(4):
        set_environment(monkeypatch, {**TORCHRUN, "LOCAL_RANK": str(own)})
        assert find_device("auto") == find_device("cuda") == torch.device("cuda", own)
        assert find_device("cuda:2") == torch.device("cuda", 2)
        assert find_device("cpu") == CPU
    set_environment(monkeypatch, {**TORCHRUN, "LOCAL_RANK": "4"})
    message = "local rank 4 has no cuda device of its own: there are 4; start at most 4 processes"
    with pytest.raises(ValueError, match=message):
        find_device("auto")


@pytest.mark.usefixtures("four_gpus")
def test_a_gpu_that_slurm_shows_to_one_task_is_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {**SRUN, "SLURM_GPUS_PER_TASK": "4"})
    assert find_device("auto") == torch.device("cuda", 0)
    set_environment(monkeypatch, {**SRUN, "SLURM_GPUS_PER_TASK": "1"})
    assert find_device("auto") == torch.device("cuda", 1)


# What a rank does, and writes down for the tests.
RANK = """
import json, random, time
from pathlib import Path
import torch, torch.distributed as dist
from mask2former.distributed import *
from mask2former.launch import end_with_launcher, launched
from mask2former.processes import num_cores

# of many kinds and sizes, the same ones on every rank
draw = random.Random(0)
own = [None, (), "é", {{1: [2.5, float("inf")]}}, b"", 1 << 100]
own += [draw.randbytes(draw.randrange(10_000)) for _ in range(100)]
own.append(bytes({most_bytes}))

if launched():
    end_with_launcher()
before = torch.get_num_threads()
with joined():
    told = {{"rank": [rank(), world_size(), is_main()], "threads": torch.get_num_threads()}}
    gathered = [gather((rank(), value)) for value in own]
    told["gathered"] = gathered == (
        [[(r, value) for r in range(world_size())] for value in own] if is_main()
        else [None] * len(own)
    )
    told["broadcast"] = [broadcast(v if is_main() else "mine") for v in own] == own
    told["mean"] = mean_over_ranks(rank(), torch.device("cpu")).item()
    with joined():
        told["nested"] = gather(rank())
told["left"] = [not dist.is_initialized(), torch.get_num_threads() == before]
try:
    with joined():
        raise KeyError("on every rank")
except KeyError:
    told["left_after_error"] = not dist.is_initialized()
with joined():
    if not is_main():
        time.sleep(0.2)  # rank 0 waits
    told["late"] = gather(rank())
    if is_main():
        time.sleep(0.2)  # the others wait, and end as soon as they are rid of theirs
    told["last"] = gather(bytes(1_000_000)) == ([bytes(1_000_000)] * world_size())
(Path({folder!r}) / str(rank())).write_text(json.dumps(told))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def write_script(folder: Path, most_bytes: int) -> Path:
    script = folder / "script.py"
    filled = RANK.format(folder=str(folder), most_bytes=most_bytes)
    script.write_text(filled, encoding="utf-8")
    return script


def check_what_ranks_told(folder: Path, threads: int) -> None:
    for own in range(2):
        told = json.loads((folder / str(own)).read_text())
        assert told == {
            "rank": [own, 2, own == 0],
            "threads": threads,
            "gathered": True,
            "broadcast": True,
            "mean": 0.5,
            "nested": None if own else [0, 1],
            "left": [True, True],
            "left_after_error": True,
            "late": None if own else [0, 1],
            "last": own == 0,
        }


def test_launched_processes_join_exchange_and_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert run_processes(2, [], [str(write_script(tmp_path, 100_000_000))]) == 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    check_what_ranks_told(tmp_path, max(1, (cores or 1) // 2))


def test_tasks_of_srun_join_exchange_and_leave(tmp_path: Path) -> None:
    script = write_script(tmp_path, 1000)
    common = {
        **{name: text for name, text in os.environ.items() if name not in VARIABLES},
        **SRUN,
        "SLURM_STEP_NODELIST": "here",
        "SLURM_STEP_NUM_TASKS": "2",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    tasks = [
        subprocess.Popen(
            [sys.executable, script],
            env={**common, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(2)
    ]
    assert [task.wait(100) for task in tasks] == [0, 0]
    check_what_ranks_told(tmp_path, 1)


FAIL = """
import sys
from mask2former.cli import main as cli
from mask2former.distributed import broadcast, gather, joined, rank

@cli.app.command()
def act() -> None:
    with joined():
        gather(rank())
        if rank() == 1:
            raise FileNotFoundError("no folder x; give another")
        broadcast(gather(rank()))

sys.exit(cli.main(["act"]))
"""


def test_an_error_of_one_rank_ends_those_that_wait_for_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fail.py").write_text(FAIL, encoding="utf-8")
    assert run_processes(2, [], [str(tmp_path / "fail.py")]) == 2
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "error: no folder x; give another\n")


def test_those_that_nobody_meets_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    set_environment(
        monkeypatch,
        {
            "RANK": "0",
            "WORLD_SIZE": "2",
            "LOCAL_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        },
    )
    monkeypatch.setattr("mask2former.meeting.TIME_TO_COME", timedelta(seconds=0.2))
    message = rf"rank 0 of 2 did not meet the others at 127.0.0.1:{port} \(.*come: \[1\]\)"
    with pytest.raises(RuntimeError, match=message), joined():
        pass


def _take_part(process: int, folder: Path) -> None:
    # A file, because a port may be taken.
    store = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=store, rank=process, world_size=2)
    mean = mean_over_ranks(3 if process == 0 else 0, CPU)
    (folder / str(process)).write_text(f"{rank()} {world_size()} {mean.item()}")
    dist.destroy_process_group()
    # As with NCCL, the group cannot carry what lies in the CPU's memory.
    store = f"file://{folder / 'for_cuda'}"
    dist.init_process_group("cuda:gloo", init_method=store, rank=process, world_size=2)
    with joined():
        gathered = gather({"rank": process})
    (folder / f"objects{process}").write_text(f"{gathered} {broadcast(process)}")
    dist.destroy_process_group()
    # PyTorch's threads of a group that is gone may abort a process that ends in that moment.
    os._exit(0)


def test_a_group_that_another_made_serves_too(tmp_path: Path) -> None:
    # 3 targets here and none there: 1.5 a rank
    mp.spawn(_take_part, args=(tmp_path,), nprocs=2)
    assert (tmp_path / "0").read_text() == "0 2 1.5"
    assert (tmp_path / "1").read_text() == "1 2 1.5"
    assert (tmp_path / "objects0").read_text() == "[{'rank': 0}, {'rank': 1}] 0"
    assert (tmp_path / "objects1").read_text() == "None 0"
