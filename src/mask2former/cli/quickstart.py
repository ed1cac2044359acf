"""`mask2former quickstart`."""

from pathlib import Path
from typing import Annotated

import typer

from mask2former.cli.evaluate import show_evaluation
from mask2former.cli.options import Device, Json
from mask2former.cli.report import Report
from mask2former.cli.train import free_folder

IMAGES = {"train_images": 400, "val_images": 24}
IMAGE_SIZE = (128, 160)


def quickstart(
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/quickstart-<n>.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the data and of the training.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Try the whole pipeline offline: draw data, train, evaluate, predict. Minutes on a CPU."""
    report = Report(as_json)
    output = free_folder(Path("runs/quickstart")) if output is None else output
    data, run_folder, pictures = output / "data", output / "run", output / "predictions"
    report.text(f"everything goes to {output}")
    with report.working():
        from mask2former.config_io import compose_run
        from mask2former.data.open import open_dataset
        from mask2former.data.synthetic import write_synthetic
        from mask2former.evaluation.evaluate import evaluate
        from mask2former.inference.predict_files import predict_files
        from mask2former.inference.segmenter import Segmenter
        from mask2former.training.train import train

        report.text(f"1/4 drawing {sum(IMAGES.values())} pictures of shapes")
        write_synthetic(data, **IMAGES, size=IMAGE_SIZE, seed=seed)
        report.text("2/4 training a tiny model on them, from random weights")
        changes = {"preset": "tiny", "data": {"path": data}, "training": {"seed": seed}}
        train(compose_run(changes, lambda: ("panoptic",)), run_folder, device=device)
        report.text("3/4 evaluating it on pictures that it has not seen")
        segmenter = Segmenter.load(run_folder, device=device)
        dataset = open_dataset(data, "val")
        result = evaluate(segmenter, dataset, "panoptic")
        report.text("4/4 drawing what it predicts")
        images = [r.image for r in dataset.records if isinstance(r.image, Path)]
        list(predict_files(segmenter, images, pictures, ["overlay"]))
    show_evaluation(report, result)
    report.text(f"\npredictions: {pictures / 'overlay'}")
    report.finish(
        {
            "output": output,
            "weights": run_folder,
            "metrics": result.metrics,
            "pictures": pictures / "overlay",
        },
        ["mask2former", "train", "--data", "YOUR_FOLDER"],
    )
