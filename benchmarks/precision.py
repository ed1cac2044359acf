"""Does training in half precision reach what training in float32 reaches, and what does it save?

Question: the tiny preset is trained on the drawn data of `mask2former quickstart`, in float32, in
bf16-mixed and, on a GPU, in 16-mixed, from two seeds each. Runs of one seed start from the same
weights and see the same batches, so that precision alone tells them apart. They alternate, each in
a process of its own, whose memory is its own. The time is that of a step on the device, without
waiting for data, from a fifth of the run on.

Bound: for each seed, mean loss of the last quarter and metric are within those of float32 by less
than 3 % and 3 points, or by less than twice what the seeds differ in float32.

    python benchmarks/precision.py [--steps 1200] [--seeds 2] [--device auto]

Prints a line a run and, last, JSON; writes it to benchmarks/results/precision.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from mask2former.config_io import compose_run, write_run
from mask2former.data.synthetic import write_synthetic
from mask2former.inference.device import find_device
from mask2former.training.log.metrics_file import read_entries

RESULT = Path(__file__).parent / "results/precision.json"
IMAGES = {"train_images": 400, "val_images": 24}
IMAGE_SIZE = (128, 160)
FULL = "32-true"
METRIC = "PQ"
LOG_EVERY = 5


def main() -> None:
    options = parse_options()
    device = find_device(options.device)
    names = [FULL, "bf16-mixed", *(["16-mixed"] if device.type == "cuda" else [])]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_synthetic(data, **IMAGES, size=IMAGE_SIZE, seed=0)
        for seed in range(options.seeds):
            for name in names:
                output = Path(folder) / f"{name}-{seed}"
                train(data, output, name, seed, options)
                runs[name].append(read_run_folder(output, options.steps))
                print(f"seed {seed}  {name:10}  {json.dumps(runs[name][-1])}", flush=True)
    result = {
        "preset": "tiny",
        "steps": options.steps,
        **IMAGES,
        "image_size": IMAGE_SIZE,
        "device": describe(device),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "compared": {name: compare(runs[FULL], runs[name]) for name in names[1:]},
        "runs": runs,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    if not all(compared["within_bound"] for compared in result["compared"].values()):
        raise SystemExit("half precision differs from float32 by more than the bound")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.seeds < 2 or options.steps < 10 * LOG_EVERY:
        parser.error(f"give at least 2 seeds, which tell the noise, and {10 * LOG_EVERY} steps")
    return options


def train(data: Path, output: Path, name: str, seed: int, options: argparse.Namespace) -> None:
    changes = {
        "preset": "tiny",
        "data": {"path": data},
        "training": {
            "steps": options.steps,
            "eval_every": options.steps,
            "log_every": LOG_EVERY,
            "loggers": (),
            "precision": name,
            "seed": seed,
        },
    }
    config = output.with_suffix(".yaml")
    write_run(compose_run(changes, lambda: ("panoptic",)), config)
    words = ["train", "--config", str(config), "--output", str(output), "--device", options.device]
    command = [sys.executable, "-m", "mask2former", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"training in {name} failed:\n{done.stderr}")


def read_run_folder(output: Path, steps: int) -> dict[str, Any]:
    """What a finished run logged."""
    entries = list(read_entries(output / "metrics.jsonl"))
    losses = [entry for entry in entries if "loss" in entry]
    [scores] = [entry for entry in entries if METRIC in entry]
    times = [entry["seconds_compute"] for entry in losses if entry["step"] > steps / 5]
    last = [entry["loss"] for entry in losses if entry["step"] > steps * 3 / 4]
    return {
        "first_loss": round(losses[0]["loss"], 3),
        "last_quarter_loss": round(statistics.fmean(last), 3),
        **{name: round(scores[name], 2) for name in ("PQ", "SQ", "RQ")},
        "seconds_per_step": summary(times),
        "peak_memory_gib": round(max(entry["memory_gib"] for entry in losses), 3),
    }


def compare(full: list[dict[str, Any]], half: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest differences over the seeds, beside the noise between the seeds."""
    losses, metrics = ([run[key] for run in full] for key in ("last_quarter_loss", METRIC))
    loss_noise = (max(losses) - min(losses)) / statistics.fmean(losses)
    metric_noise = max(metrics) - min(metrics)
    loss_difference = max(
        abs(h["last_quarter_loss"] / f["last_quarter_loss"] - 1)
        for f, h in zip(full, half, strict=True)
    )
    metric_difference = max(abs(h[METRIC] - f[METRIC]) for f, h in zip(full, half, strict=True))
    return {
        "relative_loss_difference": round(loss_difference, 4),
        "relative_loss_difference_of_seeds": round(loss_noise, 4),
        f"{METRIC}_difference": round(metric_difference, 2),
        f"{METRIC}_difference_of_seeds": round(metric_noise, 2),
        "within_bound": loss_difference < max(0.03, 2 * loss_noise)
        and metric_difference < max(3.0, 2 * metric_noise),
        "time_over_float32": ratio(half, full, lambda run: run["seconds_per_step"]["median"]),
        "memory_over_float32": ratio(half, full, lambda run: run["peak_memory_gib"]),
    }


def ratio(half: list[dict[str, Any]], full: list[dict[str, Any]], of) -> float:
    return round(statistics.median(map(of, half)) / statistics.median(map(of, full)), 3)


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "count": len(values),
    }


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())
    return f"{device.type}, {threads} threads, {platform.machine()}"


def commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
