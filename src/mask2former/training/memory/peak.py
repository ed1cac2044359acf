"""Peak memory of a training step and of an evaluation, found by doing them on made-up images.

On an accelerator this happens in the process that asks, which is as it was afterwards. On a CPU a
process of its own does it, since resident memory has one peak per process. Its figures are then
those of the whole process, with PyTorch and Lightning, which take most of a GiB by themselves.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mask2former.config import Run
from mask2former.ranks import LISTENER, SLURM_TASKS, VARIABLES
from mask2former.training.memory.memory_limit import own_memory, peak_memory
from mask2former.training.memory.out_of_memory import is_out_of_memory
from mask2former.training.memory.trials import EvaluationPass, TrainingStep, Work

IMPORTED = ("mask2former.training.train", "torch.utils.tensorboard")
"""In the memory of a process that trains before or after a plan is made."""


class Peak(NamedTuple):
    """What a process took."""

    bytes: int | None
    """At the most, with what it had before; none: there was not enough."""
    idle: int
    """Before anything was computed."""


def measure_peak(work: Work, device: torch.device) -> Peak:
    """Peak memory of a step or an evaluation; nothing else changes.

    Args:
        work: What is done. `training.precision` must not be "auto" on an accelerator.
        device: Where.

    Raises:
        ValueError: The run cannot be trained so, or the system does not tell memory.
        RuntimeError: It failed for another reason than memory.
    """
    if device.type == "cpu":
        return _in_own_process(work)
    return _on_accelerator(work, device)


def _on_accelerator(work: Work, device: torch.device) -> Peak:
    index = torch.accelerator.current_device_index() if device.index is None else device.index
    _give_back(device)
    idle = own_memory(device)
    with torch.random.fork_rng([index], device_type=device.type):
        try:
            work.work(device)
            torch.accelerator.synchronize(device)
            peak = torch.accelerator.max_memory_reserved(device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            peak = None
    _give_back(device)
    if peak == 0:
        raise ValueError(_unknown(device.type))
    return Peak(peak, idle)


def _give_back(device: torch.device) -> None:
    """Free what nobody holds, so that neither caches nor logged peaks tell of a probe."""
    gc.collect()
    torch.accelerator.empty_cache()
    torch.accelerator.reset_peak_memory_stats(device)


def _in_own_process(work: Work) -> Peak:
    values = {
        "kind": type(work).__name__,
        "threads": torch.get_num_threads(),
        **{name: getattr(work, name) for name in work.__dataclass_fields__ if name != "run"},
        "run": work.run.model_dump(mode="json"),
    }
    ranks = {*VARIABLES, LISTENER, SLURM_TASKS}  # it is none of several processes
    environment = {name: text for name, text in os.environ.items() if name not in ranks}
    package = str(Path(__file__).parents[3])  # found wherever this process found it
    paths = [package, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import answer; answer()"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode < 0 and not done.stdout.strip():  # the system ended it
        return Peak(None, 0)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"a trial of what memory a step takes failed: {last}")
    answered: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if "refused" in answered:
        raise ValueError(answered["refused"])
    return Peak(answered["peak"], answered["idle"])


def answer() -> None:
    """Do what standard input describes and write the peak to standard output, both as JSON."""
    values = json.load(sys.stdin)
    with suppress(OSError):  # where memory runs out, this process is the one to end
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    torch.set_num_threads(values.pop("threads"))
    for name in IMPORTED:
        importlib.import_module(name)
    idle = own_memory(torch.device("cpu"))
    kinds: Sequence[type[Work]] = (TrainingStep, EvaluationPass)
    (kind,) = (kind for kind in kinds if kind.__name__ == values["kind"])
    del values["kind"]
    values["run"] = Run.model_validate(values["run"])
    try:
        kind(**values).work(torch.device("cpu"))
        peak = peak_memory()
        answered = {"peak": peak, "idle": idle}
        if peak is None:
            answered = {"refused": _unknown(sys.platform)}
    except ValueError as error:
        answered = {"refused": str(error)}
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        answered = {"peak": None, "idle": idle}
    sys.stdout.write(json.dumps(answered) + "\n")


def _unknown(where: str) -> str:
    return (
        f"the memory that a process takes is not known on {where}, so that nothing can be "
        "planned; give --batch N, and training.images_per_pass where a step takes too much"
    )
