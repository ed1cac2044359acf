"""Do our losses follow those of transformers' Mask2Former?

Question: with the same initial weights, batches, optimizer and schedule, does training here go
the way it goes there? Both models see every batch, one after the other; only the random points of
matching and losses differ, as they would between two runs of one implementation. To show how
much that alone moves a curve, ours runs a second time with other points.

Bound: over the last quarter of the run the two mean losses differ by less than 3 % or by less
than twice what our two runs differ.

Command: python benchmarks/convergence.py --steps 200 --output benchmarks/results/convergence
Output: convergence.png (the curves), convergence.json (losses, times, versions); the last line
printed is a summary as JSON.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

mpl.use("agg")
import matplotlib.pyplot as plt

from mask2former.config_io import compose_run
from mask2former.config_training import Optimizer
from mask2former.data.batching import pad_images
from mask2former.data.synthetic import write_synthetic
from mask2former.loss.criterion import Criterion
from mask2former.masks.packed import unpack_masks
from mask2former.model.backbone import make_backbone
from mask2former.model.mask2former import SIZE_DIVISOR, Mask2Former
from mask2former.training.loader import make_loader, open_splits
from mask2former.training.optimizer import parameter_groups
from mask2former.types import Batch
from mask2former.weights.huggingface import NAMES, name_in_file, read
from mask2former.weights.names import to_theirs

IMAGE_SIDE = 128
OUR_RUNS = ("ours", "ours, other points")


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        batches = training_batches(Path(folder), arguments)
        theirs, ours = build_pair(Path(folder), num_classes=7)
        steps = {"transformers": their_step(theirs, arguments)}
        for name, model in zip(OUR_RUNS, ours, strict=True):
            steps[name] = our_step(model, arguments)
        losses: dict[str, list[float]] = {name: [] for name in steps}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(arguments.steps):
            batch = next(batches)
            for offset, (name, step) in enumerate(steps.items()):
                torch.manual_seed(10 * number + offset)
                start = time.perf_counter()
                losses[name].append(step(batch))
                seconds[name].append(time.perf_counter() - start)
            if (number + 1) % 10 == 0:
                latest = "  ".join(f"{n} {np.mean(v[-10:]):.2f}" for n, v in losses.items())
                print(f"{number + 1}/{arguments.steps}  {latest}", flush=True)
    summary = summarize(losses, seconds, arguments)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    plot(losses, arguments.output.with_suffix(".png"))
    record = {**summary, "losses": losses}
    arguments.output.with_suffix(".json").write_text(json.dumps(record) + "\n")
    print(json.dumps(summary))
    if not summary["within_bound"]:
        raise SystemExit("the curves differ by more than the bound")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/convergence"))
    return parser.parse_args()


def training_batches(folder: Path, arguments: argparse.Namespace):
    """Augmented batches of a data set of shapes."""
    data = folder / "shapes"
    write_synthetic(data, train_images=64, val_images=1, size=(IMAGE_SIDE, 160), seed=0)
    run = compose_run(
        {
            "preset": "tiny",
            "task": "panoptic",
            "data": {"path": data, "augmentation": {"crop": (IMAGE_SIDE, IMAGE_SIDE)}},
            "training": {"batch_size": arguments.batch, "steps": arguments.steps},
        },
        lambda: ("panoptic",),
    )
    return iter(make_loader(open_splits(run.data, run.task), run, start=0))


def build_pair(folder: Path, num_classes: int):
    """Theirs, and ours twice, with the same random weights."""
    backbone = transformers.SwinConfig(
        depths=[2, 2, 6, 2], out_features=[f"stage{i}" for i in range(1, 5)], drop_path_rate=0.0
    )
    config = transformers.Mask2FormerConfig(backbone_config=backbone, num_labels=num_classes)
    theirs = transformers.Mask2FormerForUniversalSegmentation(config).train()
    theirs.save_pretrained(folder / "weights")
    weights = read(load_file(folder / "weights/model.safetensors"), {}).weights
    ours = [Mask2Former(make_backbone("swin_tiny"), num_classes).train() for _ in OUR_RUNS]
    for model in ours:
        model.load_state_dict(weights)
    return theirs, ours


def our_step(model: Mask2Former, arguments: argparse.Namespace) -> Callable[[Batch], float]:
    criterion = Criterion()
    groups = parameter_groups(model, Optimizer(learning_rate=arguments.learning_rate))
    optimizer = torch.optim.AdamW(groups)

    def loss(batch: Batch) -> Tensor:
        images = pad_images(batch.images, model.pixel_mean.flatten(), SIZE_DIVISOR)
        num_masks = max(1, sum(len(target.labels) for target in batch.targets))
        padded_size = (images.shape[2], images.shape[3])
        return criterion.total(criterion(model(images), batch.targets, padded_size, num_masks))

    return lambda batch: optimize(loss(batch), optimizer)


def their_step(model, arguments: argparse.Namespace) -> Callable[[Batch], float]:
    optimizer = torch.optim.AdamW(their_groups(model, arguments.learning_rate))
    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    std = torch.tensor((0.229, 0.224, 0.225))[:, None, None]

    def loss(batch: Batch) -> Tensor:
        pixels = (pad_images(batch.images, mean.flatten(), SIZE_DIVISOR) - mean) / std
        masks = [unpack_masks(t.masks, len(t.labels)).float() for t in batch.targets]
        labels = [target.labels for target in batch.targets]
        return model(pixel_values=pixels, mask_labels=masks, class_labels=labels).loss.sum()

    return lambda batch: optimize(loss(batch), optimizer)


def their_groups(model, learning_rate: float) -> list[dict]:
    """Our groups, by the names of the parameters there; a packed tensor counts by its parts."""
    ours = Mask2Former(make_backbone("swin_tiny"), model.config.num_labels)
    groups = parameter_groups(ours, Optimizer(learning_rate=learning_rate))
    theirs = {name_in_file(name): p for name, p in model.named_parameters()}
    tensors = dict(ours.named_parameters())
    taken: set[str] = set()
    result = []
    for group in groups:
        state = {name: tensors[name] for name in group["names"]}
        names = {name for name in to_theirs(state, NAMES)[0] if name not in taken}
        taken |= names
        result.append({**group, "params": [theirs[name] for name in sorted(names)]})
        del result[-1]["names"]
    return result


def optimize(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 0.01)
    optimizer.step()
    return loss.item()


def summarize(
    losses: dict[str, list[float]],
    seconds: dict[str, list[float]],
    arguments: argparse.Namespace,
) -> dict:
    last = max(1, arguments.steps // 4)
    means = {name: statistics.fmean(values[-last:]) for name, values in losses.items()}
    theirs, ours, again = means.values()
    difference, noise = abs(ours - theirs) / theirs, abs(ours - again) / again
    return {
        "first_loss": {name: values[0] for name, values in losses.items()},
        "mean_of_last_quarter": means,
        "relative_difference": difference,
        "relative_difference_of_our_two_runs": noise,
        "within_bound": difference < max(0.03, 2 * noise),
        "median_seconds_per_step": {n: statistics.median(v) for n, v in seconds.items()},
        "steps": arguments.steps,
        "batch": arguments.batch,
        "image_side": IMAGE_SIDE,
        "model": "Swin-T, 100 queries",
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "commit": commit(),
    }


def commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def plot(losses: dict[str, list[float]], path: Path) -> None:
    num_steps = len(next(iter(losses.values())))
    window = min(10, num_steps)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, values), style in zip(losses.items(), ("-", "-", ":"), strict=True):
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(np.arange(window, len(values) + 1), smooth, style, label=name)
    axes.set(
        xlabel="step", ylabel=f"loss, mean of {window} steps", title="Same weights and batches"
    )
    axes.legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
