"""How long the metrics take an image, and how much memory they hold.

Question: are panoptic results of 5000 images of 640 x 480 scored for all three tasks within 10 ms
an image, in memory that hardly grows with their number, and faster than the reference tools, with
the same numbers? The images are invented: 8 stuff segments with ragged
borders below 10 polygons (one in twenty a crowd), of the 133 classes of COCO; the results are
their like, moved: a map of about 18 segments, a map of classes, 100 scored masks.

    python benchmarks/evaluation.py [--images 5000] [--reference-images 500] [--rounds 3]

First, all images go through `Scores` as `evaluate` feeds it. Counted against the bound is what
happens once an image is predicted: PQ, AP of masks, boxes and boundaries, and mIoU are updated.
Apart from that stand what the workers of `evaluate` do while the model computes, which is to make
the true objects and the map of classes of the annotated segments, and the metrics at the end.
Inventing the images is not timed. Memory is the process's peak so far.

Then, in rounds, each metric and each reference sees the same images one after the other:
pycocotools' and hotcoco's COCOeval (masks and boxes, from dictionaries in memory), a plain loop
after panopticapi, detectron2's confusion matrix with 64-bit integers. Files, PNGs above all, are
left out in favour of the references. Their numbers must be ours. Times are what one thread of the
process takes. Prints JSON last; writes it to benchmarks/results/evaluation.json.

Bound: at most 10 ms an image; at most 1.5 GiB, of which 100 MiB come after the first 500 images.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluation_images import CLASSES, DETECTIONS, HEIGHT, WIDTH, Invented
from evaluation_references import CocoFiles, PlainPanoptic, PlainSemantic, coco_tools

from mask2former.evaluation.instance import InstanceMetrics
from mask2former.evaluation.panoptic import PanopticMetrics
from mask2former.evaluation.scores import Scores
from mask2former.evaluation.semantic import SemanticMetrics
from mask2former.evaluation.truth import Truth
from mask2former.tasks import Task

RESULT = Path(__file__).parent / "results/evaluation.json"
CHECKPOINTS = (500, 2500)
"""Images after which memory is looked at, besides the last one."""
MOST_MILLISECONDS = 10
MOST_MIB, MOST_GROWTH_MIB = 1536, 100


class Clock:
    """Milliseconds of this process by what they were spent on, whatever else the machine does."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        spent = 1000 * (time.process_time() - start)
        self.milliseconds[name] = self.milliseconds.get(name, 0.0) + spent


def score_all(count: int) -> dict[str, Any]:
    """Everything through `Scores`; time an image, and peak memory after some of them."""
    invented, clock = Invented(count), Clock()
    scores = Scores(invented.images, dict.fromkeys(("panoptic", "instance", "semantic"), CLASSES))
    start_mib = peak_mib()
    peaks: dict[int, int] = {}
    for done, (truth, results) in enumerate(invented, start=1):
        with clock.measure("prepare truth"):
            truth.prepare(scores.tasks)
        with clock.measure("update"):
            scores.update(results, truth)
        if done in (*CHECKPOINTS, count):
            with clock.measure(f"compute after {done}"):
                summary = scores.compute()
            peaks[done] = peak_mib()
            print(f"{done} images: {peaks[done]} MiB, AP {summary.metrics['AP']:.2f}", flush=True)
    milliseconds = clock.milliseconds
    return {
        "images": count,
        "ms_per_image": {
            name: round(milliseconds.pop(name) / count, 3) for name in ("prepare truth", "update")
        },
        "compute_seconds": {name: round(ms / 1000, 2) for name, ms in milliseconds.items()},
        "peak_mib_before": start_mib,
        "peak_mib": peaks,
    }


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Contest:
    """All candidates over the same images."""

    def __init__(self) -> None:
        self.masks_and_boxes = InstanceMetrics(CLASSES, boundary=False)
        self.boundaries_too = InstanceMetrics(CLASSES)
        self.panoptic, self.plain_panoptic = PanopticMetrics(CLASSES), PlainPanoptic()
        self.semantic, self.plain_semantic = SemanticMetrics(CLASSES), PlainSemantic()
        self.coco_files = CocoFiles()

    def run(self, count: int) -> dict[str, float]:
        """Milliseconds an image of each candidate."""
        clock = Clock()
        for index, (truth, results) in enumerate(Invented(count)):
            truth.prepare(list(results))
            updates = self._updates(truth, results)
            names = list(updates) if index % 2 else list(updates)[::-1]
            for name in names:
                with clock.measure(name):
                    updates[name]()
            self.coco_files.add(truth, results["instance"])
        for name, metrics in (
            ("AP: masks, boxes", self.masks_and_boxes),
            ("AP: masks, boxes, boundaries", self.boundaries_too),
            ("PQ", self.panoptic),
            ("mIoU", self.semantic),
        ):
            with clock.measure(name):
                metrics.compute()
        for name, with_hotcoco in coco_tools().items():
            with clock.measure(name):
                aps = [
                    self.coco_files.evaluate(k, with_hotcoco=with_hotcoco) for k in ("segm", "bbox")
                ]
            self._check_precision(name, aps)
        self._check_others()
        return {name: spent / count for name, spent in clock.milliseconds.items()}

    def _updates(self, truth: Truth, results: dict[Task, Any]) -> dict[str, Callable[[], None]]:
        instance, panoptic, semantic = (results[t] for t in ("instance", "panoptic", "semantic"))
        ids, labels = panoptic.segment_map.numpy(), semantic.label_map.numpy()
        objects = (truth.image_id, instance, truth.objects)
        return {
            "AP: masks, boxes": lambda: self.masks_and_boxes.update(*objects),
            "AP: masks, boxes, boundaries": lambda: self.boundaries_too.update(*objects),
            "PQ": lambda: self.panoptic.update(ids, panoptic.segments, *truth.panoptic_map),
            "PQ: after panopticapi": lambda: self.plain_panoptic.update(panoptic, truth),
            "mIoU": lambda: self.semantic.update(labels, truth.semantic_map),
            "mIoU: after detectron2": lambda: self.plain_semantic.update(semantic, truth),
        }

    def _check_precision(self, name: str, theirs: list[float]) -> None:
        metrics, _ = self.masks_and_boxes.compute()
        ours = [metrics["AP"], metrics["boxAP"]]
        assert all(map(lambda a, b: math.isclose(a, b, abs_tol=1e-9), ours, theirs)), (
            name,
            ours,
            theirs,
        )

    def _check_others(self) -> None:
        quality = self.panoptic.compute()[0]["PQ"]
        assert math.isclose(quality, self.plain_panoptic.quality(), abs_tol=1e-9)
        assert np.array_equal(self.semantic.confusion, self.plain_semantic.confusion)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--reference-images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["RAYON_NUM_THREADS"] = "1"  # hotcoco's
    scores = score_all(options.images)
    rounds = [Contest().run(options.reference_images) for _ in range(options.rounds)]
    result = {
        "scores": scores,
        "reference_images": options.reference_images,
        "ms_per_image": {name: spread([r[name] for r in rounds]) for name in rounds[0]},
        "size": [HEIGHT, WIDTH],
        "classes": len(CLASSES),
        "detections": DETECTIONS,
        "device": f"cpu, one thread, {platform.machine()}",
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in ("numpy", "pycocotools")},
        "hotcoco": importlib.metadata.version("hotcoco") if len(coco_tools()) > 1 else None,
        "commit": commit(),
    }
    taken = scores["ms_per_image"]
    print(
        f"scoring takes {taken['update']:.1f} ms an image; making its true objects and its map of "
        f"classes took {taken['prepare truth']:.1f} ms before"
    )
    for name, times in result["ms_per_image"].items():
        print(f"{name:30} {times['median']:7.2f} ms an image ({times['min']} to {times['max']})")
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    peaks = list(scores["peak_mib"].values())
    if max(peaks) > MOST_MIB or peaks[-1] - peaks[0] > MOST_GROWTH_MIB:
        raise SystemExit(f"more memory than {MOST_MIB} MiB, or {MOST_GROWTH_MIB} MiB of growth")
    if taken["update"] > MOST_MILLISECONDS:
        raise SystemExit(f"{taken['update']} ms an image are more than {MOST_MILLISECONDS}")


def spread(values: list[float]) -> dict[str, float | int]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "rounds": len(values),
    }


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=RESULT.parent, capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    main()
