"""Which of several processes this one is, in the words of torchrun or of SLURM."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LISTENER = "MASK2FORMER_LISTENER"
SLURM_TASKS = "SLURM_STEP_NUM_TASKS"
"""Set by `srun` alone: a batch script has SLURM_NTASKS too and is still one process."""
FIRST_PORT, NUM_PORTS = 10_000, 20_000
"""Below those that systems give to outgoing connections."""


@dataclass(frozen=True)
class Place:
    """One of several processes."""

    rank: int
    """From 0, of all."""
    world_size: int
    local_rank: int
    """From 0, of those on this machine."""
    address: str
    """Of the machine of rank 0."""
    port: int
    """Where the others find rank 0."""
    listener: int | None = None
    """Descriptor of a socket that listens at that port already, for rank 0 to take over."""
    own_devices: int | None = None
    """Accelerators that SLURM reserves for each process and may hide from the others."""


def find_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The place of this process, or none where it is the only one.

    torchrun's variables count first, then those that `srun` sets for more than one task; there
    MASTER_ADDR and MASTER_PORT may be exported, and are otherwise the first node and a port that
    follows from the numbers of job and step.

    Args:
        environment: Variables by name; an empty one is as good as none.

    Raises:
        ValueError: The variables are incomplete or contradict each other.

    Source:
        The manuals of torchrun ("Environment Variables") and of srun ("Output environment
        variables").
    """
    known = {name: text for name, text in environment.items() if text}
    if "RANK" not in known and _number(known, SLURM_TASKS, default=1) > 1:
        return _place_of_slurm(known)
    if "RANK" not in known and _number(known, "WORLD_SIZE", default=1) == 1:
        return None
    _require(known, ("RANK", "WORLD_SIZE"))
    rank, world_size = _number(known, "RANK"), _number(known, "WORLD_SIZE")
    if rank >= world_size:
        raise _contradiction(known, ("RANK", "WORLD_SIZE"))
    if world_size == 1:
        return None
    _require(known, VARIABLES)
    local_rank = _number(known, "LOCAL_RANK")
    if local_rank > rank:  # the ranks of a machine follow each other
        raise _contradiction(known, ("RANK", "LOCAL_RANK"))
    return Place(
        rank,
        world_size,
        local_rank,
        known["MASTER_ADDR"],
        _number(known, "MASTER_PORT"),
        listener=_number(known, LISTENER) if rank == 0 and LISTENER in known else None,
    )


def first_node(nodes: str) -> str:
    """Name of the first machine in SLURM's short form of a list.

    Args:
        nodes: Such as "gpu[007-012,020],login1", which begins with gpu007.

    Raises:
        ValueError: It is not of that form.
    """
    first = re.match(r"(?:[^,\[\]]|\[[^\]]*\])+(?=,|$)", nodes)
    name = re.sub(r"\[(\w+)[^\]]*\]", r"\1", first.group()) if first else ""
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(
            f"SLURM_STEP_NODELIST={nodes!r} names no first machine; export MASTER_ADDR, the "
            "address of the machine that runs task 0"
        )
    return name


def _place_of_slurm(known: Mapping[str, str]) -> Place:
    _require(known, ("SLURM_PROCID", "SLURM_LOCALID"))
    world_size = _number(known, SLURM_TASKS)
    rank, local_rank = _number(known, "SLURM_PROCID"), _number(known, "SLURM_LOCALID")
    if _number(known, "WORLD_SIZE", default=world_size) != world_size:
        raise _contradiction(known, ("WORLD_SIZE", SLURM_TASKS))
    if rank >= world_size:
        raise _contradiction(known, ("SLURM_PROCID", SLURM_TASKS))
    if local_rank > rank:
        raise _contradiction(known, ("SLURM_PROCID", "SLURM_LOCALID"))
    devices = known.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]  # "2" or "a100:2"
    return Place(
        rank,
        world_size,
        local_rank,
        _address_of_slurm(known),
        _port_of_slurm(known),
        own_devices=int(devices) if devices.isdecimal() else None,
    )


def _address_of_slurm(known: Mapping[str, str]) -> str:
    """SLURM_LAUNCH_NODE_IPADDR is no help: `srun` may have been called on another machine."""
    if "MASTER_ADDR" in known:
        return known["MASTER_ADDR"]
    if "SLURM_STEP_NODELIST" not in known:
        raise ValueError(
            "MASTER_ADDR and SLURM_STEP_NODELIST are not set; export MASTER_ADDR, the address of "
            "the machine that runs task 0"
        )
    nodes = known["SLURM_STEP_NODELIST"]
    node = first_node(nodes)
    return "127.0.0.1" if node == nodes else node


def _port_of_slurm(known: Mapping[str, str]) -> int:
    if "MASTER_PORT" in known:
        return _number(known, "MASTER_PORT")
    if "SLURM_JOB_ID" not in known:
        raise ValueError(
            "MASTER_PORT and SLURM_JOB_ID are not set; export MASTER_PORT, a free port of the "
            "machine that runs task 0"
        )
    job, step = _number(known, "SLURM_JOB_ID"), _number(known, "SLURM_STEP_ID", default=0)
    return FIRST_PORT + (31 * job + step) % NUM_PORTS


def _number(known: Mapping[str, str], name: str, default: int | None = None) -> int:
    if default is not None and name not in known:
        return default
    text = known[name]
    if not text.isdecimal():
        raise ValueError(
            f"{name}={text!r} is not a whole number; correct or unset it, or start with torchrun"
        )
    return int(text)


def _require(known: Mapping[str, str], names: Iterable[str]) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        present = [f"{name}={known[name]}" for name in (*VARIABLES, SLURM_TASKS) if name in known]
        raise ValueError(
            f"{', '.join(present)} set, but not {', '.join(missing)}; start several processes with "
            f"torchrun or srun, which set all they need, or unset {present[0].partition('=')[0]} "
            "for a single one"
        )


def _contradiction(known: Mapping[str, str], names: Iterable[str]) -> ValueError:
    values = " and ".join(f"{name}={known[name]}" for name in names)
    return ValueError(
        f"{values} contradict each other; ranks count from 0; unset them and start with torchrun "
        "or srun"
    )
