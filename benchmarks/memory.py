"""How much memory a training step takes, and how long, beside `transformers`.

Question: how many images of which size fit, and at what speed? Forward pass, losses, backward pass
and a step of AdamW on made-up images with 20 targets each and 133 classes, from random weights, in
training mode with batch norms that learn, once by this package and once by `transformers`'
Mask2FormerForUniversalSegmentation of the same sizes. Every measurement has a process of its own;
the two take turns. Memory is the process's high-water mark of resident memory on a CPU, and what
the allocator reserved at the most on an accelerator; `idle` is that before the model was made. Time
is that of a step after the first, waited for at both ends; losses must be finite.

    python benchmarks/memory.py --device cuda \
        [--sizes 512 1024] [--batches 1 2 4 8] [--precisions 32-true bf16-mixed] [--steps 5]
    python benchmarks/memory.py --device cpu --sizes 256 512 --batches 1 2 \
        --precisions 32-true --steps 2

Prints a line a measurement and, last, JSON; writes it to benchmarks/results/memory.json.
"""

import argparse
import gc
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results/memory.json"
NUM_CLASSES, NUM_TARGETS, NUM_POINTS = 133, 20, 12544
LIBRARIES = ("mask2former", "transformers")
HALF = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}


def our_step(case: dict[str, Any]) -> Callable[[], Any]:
    """A step by this package, as a run does it."""
    import torch

    from mask2former.config import LargeScaleJitter
    from mask2former.presets import find_preset
    from mask2former.training.memory.trials import build_to_train, synthetic_batch
    from mask2former.training.optimizer import make_optimizer
    from mask2former.training.passes import (
        Normalizers,
        autocast_as,
        make_criterion,
        own_drop_paths,
        predict,
        score,
    )

    device, side = torch.device(case["device"]), case["side"]
    run = find_preset(f"coco-panoptic-{case['backbone'].replace('_', '-')}").run()
    backbone = run.model.backbone.model_copy(update={"norm": "batch"})
    data = run.data.model_copy(update={"augmentation": LargeScaleJitter(crop=(side, side))})
    training = run.training.model_copy(update={"checkpoint_activations": case["recomputes"]})
    run = run.model_copy(
        update={
            "data": data,
            "training": training,
            "model": run.model.model_copy(update={"backbone": backbone}),
            "loss": run.loss.model_copy(update={"num_points": NUM_POINTS}),
        }
    )
    model = build_to_train(run, NUM_CLASSES, device)
    optimizer = make_optimizer(model, run.optimizer)
    criterion = make_criterion(run)
    batch = synthetic_batch(run, NUM_CLASSES, case["batch"], targets=NUM_TARGETS, device=device)
    num_masks = torch.tensor(float(NUM_TARGETS * case["batch"]), device=device)

    def step() -> Any:
        weight = criterion.class_weight_of(batch.targets, run.model.num_queries)
        normalizers = Normalizers(num_masks, torch.tensor(weight, device=device))
        with own_drop_paths(model, batch):
            with autocast_as(case["precision"], device):
                loss = criterion.total(score(criterion, predict(model, batch), batch, normalizers))
            return finish(loss, model, optimizer)

    return step


def their_step(case: dict[str, Any]) -> Callable[[], Any]:
    """The same by `transformers`."""
    import torch
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        ResNetConfig,
        SwinConfig,
    )

    device, side = torch.device(case["device"]), case["side"]
    stages = ["stage1", "stage2", "stage3", "stage4"]
    if case["backbone"] == "swin_tiny":
        backbone = SwinConfig(
            image_size=224, embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24],
            window_size=7, drop_path_rate=0.3, out_features=stages,
        )  # fmt: skip
    else:
        backbone = ResNetConfig(out_features=stages)
    config = Mask2FormerConfig(
        backbone_config=backbone, num_labels=NUM_CLASSES, train_num_points=NUM_POINTS
    )
    model = Mask2FormerForUniversalSegmentation(config).to(device).train()
    if case["recomputes"]:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    masks, labels = [], []
    for _ in range(case["batch"]):
        mask = torch.zeros(NUM_TARGETS, side, side)
        for index in range(NUM_TARGETS):
            start = index * side // (2 * NUM_TARGETS)
            mask[index, start : start + side // 2 + 1, start : start + side // 2 + 1] = 1
        masks.append(mask.to(device))
        labels.append((torch.arange(NUM_TARGETS) % NUM_CLASSES).to(device))
    images = torch.full((case["batch"], 3, side, side), 0.5, device=device)

    half = HALF.get(case["precision"])

    def step() -> Any:
        dtype = None if half is None else getattr(torch, half)
        with torch.autocast(device.type, dtype, enabled=half is not None):
            loss = model(pixel_values=images, mask_labels=masks, class_labels=labels).loss
        return finish(loss, model, optimizer)

    return step


def finish(loss: Any, model: Any, optimizer: Any) -> Any:
    """What follows the loss; both do the same."""
    import torch

    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """In this process: peak memory in bytes and seconds of every step."""
    import torch

    # light: what only one of the two needs is imported by its own step
    from mask2former.training.memory.memory_limit import own_memory

    device = torch.device(case["device"])
    torch.manual_seed(0)
    make = our_step if case["library"] == "mask2former" else their_step
    if case["library"] != "mask2former":
        import transformers

        transformers.logging.set_verbosity_error()
    idle = own_memory(device)
    seconds = []
    try:
        step = make(case)
        for _ in range(case["steps"] + 1):
            wait(device)
            start = time.perf_counter()
            loss = step()
            wait(device)
            seconds.append(time.perf_counter() - start)
            if not torch.isfinite(loss).all():
                raise SystemExit(f"the loss of {case} is {loss}; it must be finite")
    except torch.OutOfMemoryError:
        return {"peak": None, "idle": idle, "seconds": None}
    return {"peak": peak(device), "idle": idle, "seconds": seconds[1:]}


def wait(device: Any) -> None:
    import torch

    gc.collect()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def peak(device: Any) -> int:
    """Bytes."""
    import torch

    from mask2former.training.memory.memory_limit import peak_memory

    if device.type != "cpu":
        return torch.accelerator.max_memory_reserved(device)
    found = peak_memory()
    if found is None:
        raise SystemExit(f"{sys.platform} does not tell what memory a process took")
    return found


def in_own_process(case: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == -9:  # the system ended it
        return {"peak": None, "idle": 0, "seconds": None}
    if done.returncode != 0:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def summary(taken: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the repeats of one case."""
    if any(one["peak"] is None for one in taken):
        return {"peak_mib": None, "above_idle_mib": None, "seconds": None}
    seconds = [value for one in taken for value in one["seconds"]]
    return {
        "peak_mib": round(max(one["peak"] for one in taken) / 2**20),
        "above_idle_mib": round(max(one["peak"] - one["idle"] for one in taken) / 2**20),
        "seconds": {
            "median": round(statistics.median(seconds), 3),
            "min": round(min(seconds), 3),
            "max": round(max(seconds), 3),
            "count": len(seconds),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backbones", nargs="+", default=["resnet50", "swin_tiny"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[512, 1024])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--precisions", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--recompute", action="store_true", help="activations, in both")
    parser.add_argument("--steps", type=int, default=5, help="measured, after one that is not")
    parser.add_argument("--repeats", type=int, default=1, help="processes of each case")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(json.loads(options.case))))
        return
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    cases = itertools.product(options.backbones, options.sizes, options.batches, options.precisions)
    for backbone, side, batch, precision in cases:
        sizes = {"backbone": backbone, "side": side, "batch": batch, "precision": precision}
        case = {
            **sizes, "device": options.device, "steps": options.steps,
            "recomputes": options.recompute,
        }  # fmt: skip
        taken: dict[str, list[dict[str, Any]]] = {library: [] for library in LIBRARIES}
        for _ in range(options.repeats):
            for library in LIBRARIES:
                taken[library].append(in_own_process({**case, "library": library}))
        found = {library: summary(several) for library, several in taken.items()}
        rows.append({**sizes, **found})
        print(f"{backbone:10} {side:5} px  batch {batch}  {precision:10}  {found}", flush=True)
        result = {**surroundings(options), "recomputes": options.recompute, "rows": rows}
        # after every row: the next may take a while, or the machine with it
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def surroundings(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    device = torch.device(options.device)
    if device.type == "cpu":
        name = f"cpu, {torch.get_num_threads()} threads, {platform.machine()}"
    elif device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = options.device
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "device": name,
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "python": platform.python_version(),
        "commit": commit,
        "classes": NUM_CLASSES,
        "targets": NUM_TARGETS,
        "points": NUM_POINTS,
        "steps": options.steps,
    }


if __name__ == "__main__":
    main()
