"""How long `mask2former data check` takes, and how much memory all its processes use.

Question: are 5000 images of 1024 x 1024 with 10 polygons each checked in under 2 minutes on two
cores, and under 2 GB? The data set is invented: smooth noise as JPEG, polygons of 24 corners. The
time is that of the whole command, the report with its pictures included; the memory is the
largest sum of what the processes hold, sampled, with what several share counted once in all (PSS).

    python benchmarks/check.py [--images 5000] [--side 1024] [--objects 10] [--workers 2]

Prints JSON last; writes it to benchmarks/results/check.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

RESULT = Path(__file__).parent / "results/check.json"
CORNERS = 24
NUM_CLASSES = 20
SAMPLE_SECONDS = 0.2


def draw_image(index: int, folder: Path, side: int) -> None:
    """Smooth noise with some grain: compresses like a photo."""
    generator = np.random.default_rng(index)
    coarse = Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
    grain = generator.integers(-12, 13, (side, side, 1), dtype=np.int16)
    pixels = (smooth + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{index:06}.jpg", quality=90)


def draw_polygon(generator: np.random.Generator, side: int) -> list[float]:
    """A star-shaped outline around a random place, inside the image."""
    radius = side * generator.uniform(0.02, 0.2)
    centre = generator.uniform(radius, side - radius, 2)
    angles = np.sort(generator.uniform(0, 2 * np.pi, CORNERS))
    lengths = radius * generator.uniform(0.6, 1.0, CORNERS)
    points = centre + lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.round(points, 2).ravel().tolist()


def write_split(folder: Path, split: str, indices: range, side: int, objects: int) -> None:
    images = folder / split
    images.mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(draw_image, folder=images, side=side), indices, chunksize=16))
    generator = np.random.default_rng(indices.start)
    content = {
        "images": [
            {"id": i, "file_name": f"{i:06}.jpg", "height": side, "width": side} for i in indices
        ],
        "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(NUM_CLASSES)],
        "annotations": [
            {
                "id": i * objects + j,
                "image_id": i,
                "category_id": int(generator.integers(NUM_CLASSES)) + 1,
                "segmentation": [draw_polygon(generator, side)],
                "iscrowd": 0,
            }
            for i in indices
            for j in range(objects)
        ],
    }
    path = folder / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(content), encoding="utf-8")


def measure(command: list[str]) -> tuple[float, float, int, dict]:
    """Seconds, CPU seconds of all processes, their largest sum of bytes, and the answer."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    cpu: dict[int, float] = {}
    while process.poll() is None:
        running = [process.pid, *descendants(process.pid)]
        peak = max(peak, sum(map(held, running)))
        cpu |= {pid: max(cpu.get(pid, 0.0), cpu_seconds(pid)) for pid in running}
        time.sleep(SAMPLE_SECONDS)
    seconds = time.perf_counter() - start
    assert process.returncode == 0, process.returncode
    assert process.stdout is not None
    return seconds, sum(cpu.values()), peak, json.loads(process.stdout.read())


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def cpu_seconds(pid: int) -> float:
    """So far, of the process alone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def held(pid: int) -> int:
    """Bytes in memory, each page divided by the number of processes that share it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="kept, and used again; default: a new one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "data"
        if not folder.exists():
            held_out = max(1, options.images // 10)
            for split, indices in (
                ("train", range(options.images - held_out)),
                ("val", range(options.images - held_out, options.images)),
            ):
                write_split(folder, split, indices, options.side, options.objects)
        command = [sys.executable, "-m", "mask2former", "data", "check", str(folder), "--json"]
        command += ["--workers", str(options.workers), "--output", f"{temporary}/report"]
        seconds, cpu, peak, answer = measure(command)
    seen = sum(split["images"] for split in answer["splits"].values())
    assert seen == options.images, answer["splits"]
    assert not answer["errors"], answer["errors"]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    result = {
        "images": options.images,
        "side": options.side,
        "objects": options.objects,
        "workers": options.workers,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "cpu_ms_per_image": round(1000 * cpu / options.images, 1),
        "peak_mib": round(peak / 2**20),
        "device": f"cpu, {os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        "commit": commit,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
