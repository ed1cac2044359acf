"""What copy-paste adds to the time that a training sample takes.

Question: 640x480 JPEGs with 10 polygons each, large-scale jitter: how much longer does a sample
take that gets objects of another image, which has to be read and moved as well? Bound: the median
is at most 2.5 times as long: two samples, and half of one to lay the objects over the image; ends
with an error beyond it.

    python benchmarks/copy_paste.py [--images 48] [--repeats 5] [--data FOLDER --task TASK]

Samples with probability 0 and with probability 1 alternate, of the same images and seeds; the time
is that of the process, on one thread. `paste` is the part that lays the objects over the image and
its masks. Before, some samples are compared with masks of one byte a pixel that are pasted one by
one. Prints a line a size of the crop and, last, JSON; writes it to
benchmarks/results/copy_paste.json.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from data import OBJECTS, SIZE, write_data
from mask2former.data import training_data
from mask2former.data.copy_paste import paste_objects
from mask2former.data.dataset import Dataset
from mask2former.data.geometry import large_scale_jitter
from mask2former.data.open import open_dataset
from mask2former.data.training_data import TrainingData, without_empty_images
from mask2former.masks.packed import unpack_masks
from mask2former.tasks import TASKS, Task
from mask2former.types import Target

RESULT = Path(__file__).parent / "results/copy_paste.json"
CROPS = (1024, 512)
CHECKED = 6
MOST_TIMES = 2.5
"""The median of samples that get objects, by that of those that get none."""


def training_of(dataset: Dataset, task: Task, crop: int, probability: float) -> TrainingData:
    draw = partial(
        large_scale_jitter, crop=(crop, crop), min_scale=0.1, max_scale=2.0, flip_probability=0.5
    )
    return TrainingData(
        dataset,
        task,
        draw_geometry=draw,
        color_jitter=False,
        keep_emptied=False,
        copy_paste=probability,
    )


def paste_one_by_one(target: Target, pasted: Target) -> np.ndarray:
    """The masks that are left, and the pasted ones, a byte a pixel."""
    masks = unpack_masks(target.masks, len(target.labels)).numpy().copy()
    above = unpack_masks(pasted.masks, len(pasted.labels)).numpy()
    canvas = np.zeros((len(above), *masks.shape[1:]), bool)
    canvas[:, : above.shape[1], : above.shape[2]] = above
    for mask in masks:
        for object_ in canvas:
            mask &= ~object_
    return np.concatenate([masks[masks.any(axis=(1, 2))], canvas])


def check_equal(data: TrainingData) -> None:
    """The masks of some samples, bit by bit."""
    pastes = []

    def paste_both(image, target, *, pasted_image, pasted):
        expected = paste_one_by_one(target, pasted)
        found = paste_objects(image, target, pasted_image=pasted_image, pasted=pasted)
        pastes.append((found, expected))
        return found

    with patch.object(training_data, "paste_objects", paste_both):
        for index in range(CHECKED):
            _ = data[index % len(data), index]
    assert pastes
    for (_, target), expected in pastes:
        masks = unpack_masks(target.masks, len(target.labels)).numpy()
        np.testing.assert_array_equal(masks, expected)


def measure(without: TrainingData, pasting: TrainingData, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every sample."""
    times: dict[str, list[float]] = {"probability 0": [], "probability 1": [], "paste": []}

    def paste_timed(image, target, *, pasted_image, pasted):
        start = time.process_time()
        found = paste_objects(image, target, pasted_image=pasted_image, pasted=pasted)
        times["paste"].append(1000 * (time.process_time() - start))
        return found

    with patch.object(training_data, "paste_objects", paste_timed):
        for repeat in range(repeats + 1):  # the first one warms up
            for index in range(len(without)):
                for name, data in (("probability 0", without), ("probability 1", pasting)):
                    start = time.process_time()
                    _ = data[index, repeat * len(data) + index]
                    times[name].append(1000 * (time.process_time() - start))
            if repeat == 0:
                for one in times.values():
                    one.clear()
    return times


def summarize(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "median": round(statistics.median(one), 2),
            "mean": round(statistics.fmean(one), 2),
            "min": round(min(one), 2),
            "max": round(max(one), 2),
            "samples": len(one),
        }
        for name, one in times.items()
    }


def times_as_long(rows: dict[str, dict[str, float]]) -> float:
    return round(rows["probability 1"]["median"] / rows["probability 0"]["median"], 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--task", choices=TASKS, default="instance")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        if options.data is None:
            write_data(Path(place), options.images)
        folder = options.data or Path(place)
        dataset = without_empty_images(open_dataset(folder, "train", task=options.task))
        for crop in CROPS:
            without, pasting = (training_of(dataset, options.task, crop, p) for p in (0.0, 1.0))
            check_equal(pasting)
            rows[crop] = summarize(measure(without, pasting, options.repeats))
            for name, row in rows[crop].items():
                print(f"crop {crop}, {name:14} ms: {row}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    times = {crop: times_as_long(row) for crop, row in rows.items()}
    result = {
        "milliseconds": rows,
        "times_as_long": times,
        "images": len(dataset),
        "size": list(SIZE) if options.data is None else None,
        "objects": OBJECTS if options.data is None else None,
        "task": options.task,
        "device": f"cpu, 1 thread, {platform.machine()}",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "commit": commit,
    }
    if options.data is None:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    if max(times.values()) > MOST_TIMES:
        raise SystemExit(
            f"samples that get objects take {times} times as long, by the size of the crop; at "
            f"most {MOST_TIMES} times is the bound"
        )


if __name__ == "__main__":
    main()
