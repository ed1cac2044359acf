"""`mask2former predict`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.options import Device, Json, PublishedAs, TaskName, Tta, Weights
from mask2former.cli.report import Report
from mask2former.suggestions import did_you_mean

if TYPE_CHECKING:
    from mask2former.inference.results import Kind


def predict(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Images, folders, globs.")
    ],
    weights: Weights,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")],
    task: TaskName = None,
    save: Annotated[
        str, typer.Option(metavar="KINDS", help="overlay,masks,coco,panoptic: one or several.")
    ] = "overlay",
    threshold: Annotated[
        float | None,
        typer.Option(metavar="T", min=0, max=1, help="Least score of what is kept and drawn."),
    ] = None,
    preset: PublishedAs = None,
    tta: Tta = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Segment images and save what is found."""
    report = Report(as_json)
    with report.working():
        from mask2former.inference.predict_files import predict_files
        from mask2former.inference.segmenter import Segmenter
        from mask2former.inference.sources import find_images

        kinds = parse_kinds(save)
        images = find_images(sources)
        segmenter = Segmenter.load(weights, device=device, preset=preset, tta=tta)
        if tta:
            report.text(segmenter.describe_passes())
        start = time.perf_counter()
        done = predict_files(segmenter, images, output, kinds, task=task, score_threshold=threshold)
        for _ in report.progress(done, len(images)):
            pass
        seconds = time.perf_counter() - start
    report.text(f"{len(images)} images in {seconds:.1f} s: {output}")
    report.finish(
        {
            "task": task or segmenter.task,
            "images": len(images),
            "seconds": seconds,
            "output": output,
            "saved": kinds,
        },
        ["mask2former", "evaluate", "--weights", weights, "--data", "DIR"],
    )


def parse_kinds(text: str) -> "list[Kind]":
    """Kinds of result files from words with commas."""
    from mask2former.inference.results import KINDS

    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words or [text]:
        if word not in KINDS:
            raise ValueError(f"--save has no kind {word!r}; {did_you_mean(word, KINDS)}")
    return [kind for kind in KINDS if kind in words]
