"""How fast images and annotations are read from shards, beside loose files.

Question: does packing cost anything when reading? Bound: shards are read at least as fast as loose
files, in sequence and at random. Loose files, WebDataset and TFRecord shards of the same data set
are read in turn, in one process: the bytes of the image and the annotations of every record
("bytes"), and whole training samples with large-scale jitter ("samples"). Files are in the
system's cache, so that the cost of reading itself is measured and not the disk's, where fewer and
larger files are faster still. Before, samples are checked to be equal.

    python benchmarks/shards.py [--images 200] [--size 480 640] [--repeats 5] [--data FOLDER]

Prints a line a candidate and, last, JSON; writes it to benchmarks/results/shards.json.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mask2former.data.dataset import Dataset
from mask2former.data.geometry import large_scale_jitter
from mask2former.data.open import natural_tasks, open_dataset
from mask2former.data.shards.pack import pack
from mask2former.data.shards.plan import make_plan
from mask2former.data.training_data import TrainingData

RESULT = Path(__file__).parent / "results/shards.json"
JITTER = {"crop": (1024, 1024), "min_scale": 0.1, "max_scale": 2.0, "flip_probability": 0.5}
OBJECTS, POINTS = 10, 24


def write_coco(folder: Path, num_images: int, size: tuple[int, int]) -> None:
    """Noise at several scales as JPEG, and polygons."""
    height, width = size
    rng = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "images/train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for i in range(num_images):
        small = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        name = f"{i:08d}.jpg"
        picture.save(folder / "images/train" / name, quality=90)
        images.append({"id": i, "file_name": name, "height": height, "width": width})
        for _ in range(OBJECTS):
            angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
            radii = rng.uniform(0.03, 0.2) * height * rng.uniform(0.7, 1, POINTS)
            center = rng.uniform((0, 0), (width, height))
            points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
            annotation = {"id": len(annotations), "image_id": i, "category_id": 1, "iscrowd": 0}
            polygon = points.round(2).ravel().tolist()
            annotations.append(annotation | {"area": 1.0, "segmentation": [polygon]})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "thing"}]
    (folder / "annotations/instances_train.json").write_text(json.dumps(content))


def read_bytes(dataset: Dataset, order: list[int]) -> int:
    total = 0
    for i in order:
        record = dataset.records[i]
        total += len(record.image.read_bytes())
        dataset.decode(record)
    return total


def read_samples(data: TrainingData, order: list[int]) -> int:
    return sum(data[i, i].image.shape[1] for i in order)


def training_data(dataset: Dataset) -> TrainingData:
    return TrainingData(
        dataset,
        dataset.tasks[0],
        draw_geometry=partial(large_scale_jitter, **JITTER),
        color_jitter=False,
        keep_emptied=False,
    )


def check_equal(datasets: dict[str, Dataset]) -> None:
    samples = {name: training_data(d)[0, 0] for name, d in datasets.items()}
    loose = samples["files"]
    for sample in samples.values():
        assert torch.equal(sample.image, loose.image)
        assert torch.equal(sample.target.masks, loose.target.masks)


def measure(run: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--data", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        source = options.data or root / "files"
        if options.data is None:
            write_coco(source, options.images, tuple(options.size))
        datasets = {"files": open_dataset(source, "train", task=natural_tasks(source)[0])}
        packing: dict[str, float] = {}
        for kind in ("webdataset", "tfrecord"):
            loose = {"train": datasets["files"]}
            start = time.perf_counter()
            pack(loose, make_plan(loose, kind, num_shards=options.shards), root / kind)
            packing[kind] = round(len(datasets["files"]) / (time.perf_counter() - start), 1)
            datasets[kind] = _open(root / kind, kind)
        check_equal(datasets)
        rates = _alternate(datasets, options.repeats)
    for name, row in rates.items():
        print(f"{name:24} {row}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    result = {
        "images": len(datasets["files"]),
        "size": list(options.size) if options.data is None else None,
        "device": f"cpu, 1 thread, {platform.machine()}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
        "packed_images_per_second": packing,
        "images_per_second": rates,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _open(folder: Path, kind: str) -> Dataset:
    from mask2former.data.formats import tfrecord, webdataset
    from mask2former.data.formats.format import Reading

    data_format = {"webdataset": webdataset.FORMAT, "tfrecord": tfrecord.FORMAT}[kind]
    found = data_format.find(folder)
    assert found is not None
    return data_format.read(folder, "train", found, Reading())


def _alternate(datasets: dict[str, Dataset], repeats: int) -> dict[str, dict[str, float]]:
    count = len(datasets["files"])
    orders = {
        "sequential": list(range(count)),
        "random": np.random.default_rng(0).permutation(count).tolist(),
    }
    samples = orders["random"][:50]
    data = {name: training_data(dataset) for name, dataset in datasets.items()}
    rates: dict[str, list[float]] = {}
    for repeat in range(repeats + 1):
        for name, dataset in datasets.items():
            runs = {
                f"bytes {order}": (partial(read_bytes, dataset, indices), count)
                for order, indices in orders.items()
            }
            runs["samples random"] = (partial(read_samples, data[name], samples), len(samples))
            for what, (run, images) in runs.items():
                rate = measure(run, images)
                if repeat:  # the first is for warming up
                    rates.setdefault(f"{name} {what}", []).append(rate)
    return {name: summary(values) for name, values in sorted(rates.items())}


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
        "count": len(values),
    }


if __name__ == "__main__":
    main()
