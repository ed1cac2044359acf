"""`mask2former plot`."""

from pathlib import Path
from typing import Annotated

import typer

from mask2former.cli.options import Json
from mask2former.cli.report import Report

PAGE_NAME = "run.html"


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Default: RUN/plots; of several runs: plots."),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Also the losses of each prediction layer, where logged."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Draw losses, scores, learning rate and speed of runs, finished or not: PNG, and a page."""
    report = Report(as_json)
    with report.working():
        from mask2former.files import replacing, usable_folder
        from mask2former.training.plots.plots import draw_charts
        from mask2former.training.plots.run_charts import make_charts, open_runs
        from mask2former.training.plots.run_page import render
        from mask2former.training.plots.run_summary import SUMMARY_COLUMNS, summarize, summary_row

        opened = open_runs(runs)
        charts = make_charts(opened, layers=layers)
        if layers and not any(chart.is_of_layers for chart in charts):
            raise ValueError(
                "no run logged losses of its prediction layers; leave --layers out, or train with "
                "--set training.log_layers=true"
            )
        default = runs[0] / "plots" if len(runs) == 1 else Path("plots")
        folder = usable_folder(default if output is None else output)
        pictures = draw_charts(charts, folder)
        page = folder / PAGE_NAME
        with replacing(page) as unfinished:
            unfinished.write_text(render(opened, charts), encoding="utf-8")
    report.table(SUMMARY_COLUMNS, [summary_row(run) for run in opened])
    report.text(f"\n{page}")
    for picture in pictures:
        report.text(str(picture))
    report.finish(
        {"page": page, "pictures": pictures, "runs": [summarize(run) for run in opened]},
        ["mask2former", "predict", "IMAGES", "--weights", str(runs[0]), "--output", "predictions"],
    )
