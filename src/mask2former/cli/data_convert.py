"""`mask2former data convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mask2former.cli.options import FormatName, Json, SplitShares, TaskName, parse_shares
from mask2former.cli.report import Report

if TYPE_CHECKING:
    from mask2former.data.convert import Converted


def convert(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Data set, in any common format.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="coco-instance, coco-panoptic, png-masks, yolo, voc, labelme, youtube-vis or "
            "panoptic-2ch.",
        ),
    ],
    data_format: FormatName = None,
    task: TaskName = None,
    fractions: SplitShares = None,
    images: Annotated[
        str,
        typer.Option(metavar="HOW", help="copy, link (hard links) or none (annotations alone)."),
    ] = "copy",
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Processes; default: one per core.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a data set in another format, and say what that cannot hold."""
    report = Report(as_json)
    with report.working():
        from mask2former.data import convert as converting
        from mask2former.data.locate import FORMATS
        from mask2former.data.open import open_every_split
        from mask2former.data.writers.placing import IMAGE_MODES
        from mask2former.processes import num_workers
        from mask2former.suggestions import did_you_mean

        mode = next((mode for mode in IMAGE_MODES if mode == images), None)
        if mode is None:
            raise ValueError(f"no --images {images}; {did_you_mean(images, IMAGE_MODES)}")
        shares = parse_shares(fractions)
        datasets = open_every_split(data, task=task, format=data_format, fractions=shares)
        is_readable = to.replace("_", "-").lower() in [one.name for one in FORMATS]
        converted = converting.convert(
            datasets,
            output,
            to,
            task=task,
            images=mode,
            workers=num_workers(workers, sum(map(len, datasets.values()))),
            progress=report.progress,
        )
    source = next(iter(datasets.values())).format
    _show(report, converted, source)
    report.finish(
        {
            "output": output,
            "from": source,
            "to": converted.format,
            "task": converted.task,
            "classes": converted.classes.names,
            "images": converted.num_images,
            "losses": converted.losses,
            "notes": converted.notes,
        },
        ["mask2former", "data", "check", str(output if is_readable else data)],
    )


def _show(report: Report, converted: "Converted", source: str) -> None:
    counts = ", ".join(f"{split} {count}" for split, count in converted.num_images.items())
    num_classes = len(converted.classes)
    report.text(
        f"{converted.output}: {converted.format} from {source}, {converted.task}, "
        f"{num_classes} class{'es' * (num_classes != 1)}; images: {counts}"
    )
    for note in converted.notes:
        report.text(f"  {note}")
    if not converted.losses:
        report.text("nothing is lost")
        return
    report.text("what the format does not hold:")
    for loss in converted.losses:
        report.text(f"  {loss.kind}: {loss.count:,} {loss.sentence}")
