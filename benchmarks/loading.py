"""How long loading a checkpoint takes, and how much memory at its peak.

Question: is Swin-L (215 million parameters) open in under 3 s on two cores, and with a peak below
1.3 times the file's size? Every dialect that can hold it, each in a process of its own, a few
times in turn. The time is that of `weights.open.load`, imports apart; the peak is the process's
high-water mark of resident memory after every weight was read once, less what it was before.

    python benchmarks/loading.py [--preset coco-panoptic-swin-large] [--repeats 3]

Prints a line a dialect and, last, JSON; writes it to benchmarks/results/loading.json.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RESULT = Path(__file__).parent / "results/loading.json"
PROBE = """
import sys, time
from pathlib import Path
import torch
from mask2former.weights.open import load

def resident(key):
    text = Path("/proc/self/status").read_text()
    return int(text.split(key + ":")[1].split()[0]) * 1024

before = resident("VmRSS")
start = time.perf_counter()
model = load(sys.argv[1]).model
seconds = time.perf_counter() - start
with torch.inference_mode():
    total = sum(parameter.double().sum() if parameter.ndim < 2 else parameter.sum()
                for parameter in model.parameters())
assert torch.isfinite(total)
print(seconds, resident("VmHWM") - before)
"""


def write_files(preset_name: str, folder: Path) -> dict[str, Path]:
    """A model with random weights in every dialect."""
    import torch

    from mask2former.data.class_tables import class_table
    from mask2former.presets import find_preset
    from mask2former.weights import official
    from mask2former.weights.build import build_model
    from mask2former.weights.checkpoint import Checkpoint
    from mask2former.weights.convert import convert

    preset = find_preset(preset_name)
    run = preset.run()
    assert preset.classes is not None
    classes = class_table(preset.classes)
    weights = dict(build_model(run.model, len(classes)).state_dict())
    checkpoint = Checkpoint(weights, run, classes)
    torch.save({"model": official.write(weights, 0.1)}, folder / "model.pth")
    return {
        "mask2former": convert(checkpoint, folder / "ours.safetensors", "mask2former"),
        "huggingface": convert(checkpoint, folder / "hub", "huggingface"),
        "official .pkl": convert(checkpoint, folder / "model.pkl", "official"),
        "official .pth": folder / "model.pth",
    }


def size_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="coco-panoptic-swin-large")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import torch

    with tempfile.TemporaryDirectory() as folder:
        files = write_files(options.preset, Path(folder))
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in files}
        for _ in range(options.repeats):
            for name, path in files.items():
                command = [sys.executable, "-c", PROBE, str(path)]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                seconds, peak = map(float, output.split())
                runs[name].append((seconds, peak / size_of(path)))
        sizes = {name: size_of(path) for name, path in files.items()}
    rows = {
        name: {
            "file_mib": round(sizes[name] / 2**20),
            "seconds": summary([seconds for seconds, _ in taken]),
            "peak_over_file": summary([ratio for _, ratio in taken]),
        }
        for name, taken in runs.items()
    }
    for name, row in rows.items():
        print(f"{name:14} {row['file_mib']} MiB  {row['seconds']}  {row['peak_over_file']}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    result = {
        "preset": options.preset,
        "device": f"cpu, {torch.get_num_threads()} threads, {platform.machine()}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
        "dialects": rows,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "count": len(values),
    }


if __name__ == "__main__":
    main()
