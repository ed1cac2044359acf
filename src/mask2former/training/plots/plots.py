"""Curves of runs as PNG files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mask2former.evaluation.report.lettering import letter
from mask2former.files import replacing
from mask2former.training.plots.curves import Extreme
from mask2former.training.plots.run_charts import (
    Chart,
    Panel,
    Series,
    make_charts,
    open_runs,
)

Dash: TypeAlias = Literal["-", "--", ":", "-."]

COLORS = (
    "#1f6fd6", "#e0721c", "#1a9a6c", "#c43d8f", "#8a63d2", "#a88a00", "#10a3b8", "#d64545",
)  # fmt: skip
"""Of runs, in turn; told apart on white and on black, also by most people who see few colours."""
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
"""Of the first eight runs, the next eight, and so on."""
LAYER_COLORS = ("#b9c4d6", "#93b5e8", "#6aa1ea", "#3f8ae0", "#2573c9", "#1b5dab", "#154a8d",
                "#4a3b9e", "#7a2f93", "#b0267a")  # fmt: skip
"""From the first prediction layer to the last of a model of the usual depth."""
INK, DIM, LINE = "#1c2330", "#5b6677", "#d9dfe8"
PANEL_WIDTH, PANEL_HEIGHT = 4.4, 2.9
LEAST_WIDTH, HEAD = 6.6, 0.9
"""Inches: of a panel, of a picture, and of its title above the panels."""
LETTER_WIDTH, HANDLE_WIDTH = 0.085, 0.65
"""Inches: of a letter of a legend, and of the line before its text with the gaps around it."""
MOST_PANELS = 12
"""Of a picture; the page shows all."""
MOST_BEST = 4
"""Runs whose best values are written over a panel."""
DOTS_PER_INCH = 130


def plot_run(output: Path) -> None:
    """Draw `plots/losses.png`, and `plots/metrics.png` of a run that was evaluated.

    Args:
        output: The run's folder.
    """
    charts = make_charts(open_runs([output]))
    draw_charts([c for c in charts if c.name in ("losses", "metrics")], output / "plots")


def draw_charts(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Draw each chart as `<its name>.png`.

    Args:
        charts: Of the same runs.
        folder: Made where it is missing.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{chart.name}.png" for chart in charts]
    for chart, path in zip(charts, paths, strict=True):
        labels = [series.label for panel in chart.panels for series in panel.series]
        titles = [panel.title for panel in chart.panels if chart.is_of_layers]  # with runs' names
        texts = list(dict.fromkeys(labels + titles))
        written = letter(texts)
        names = dict(zip(texts, written.texts, strict=True))
        with mpl.rc_context({"font.family": written.families}):
            figure = _draw(chart, names)
            with replacing(path) as unfinished, unfinished.open("wb") as file:
                FigureCanvasAgg(figure).print_png(file)
    return paths


def color_of(series: Series, is_layer: bool) -> str:
    """The same in the pictures and on the page."""
    colors = LAYER_COLORS if is_layer else COLORS
    return colors[series.color % len(colors)]


def _draw(chart: Chart, names: Mapping[str, str]) -> Figure:
    """The picture; `names` are what is written for the labels."""
    panels = chart.panels[:MOST_PANELS]
    columns = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    rows = math.ceil(len(panels) / columns)
    width = max(columns * PANEL_WIDTH, LEAST_WIDTH)
    height = rows * PANEL_HEIGHT + HEAD
    layout = ConstrainedLayoutEngine(
        rect=(0.005, 0.01, 0.99, 0.99 - 0.7 * HEAD / height), w_pad=0.12, h_pad=0.12
    )
    figure = Figure((width, height), dpi=DOTS_PER_INCH, layout=layout)
    note = chart.note
    if len(panels) < len(chart.panels):
        note += f"; {len(chart.panels) - len(panels)} more are on the page"
    figure.text(
        0.12 / width, 1 - 0.12 / height, chart.title, va="top", size=14, weight="bold", color=INK
    )
    figure.text(0.12 / width, 1 - 0.40 / height, note, va="top", size=9, color=DIM)
    for place, panel in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(rows, columns, place), panel, chart, names)
    _add_legend(figure, chart, names)
    return figure


def _draw_panel(axes: Axes, panel: Panel, chart: Chart, names: Mapping[str, str]) -> None:
    for series in panel.series:
        _draw_series(axes, series, chart.is_of_layers)
    best = _best_lines(panel, names)
    title = names.get(panel.title, panel.title) if panel.title != chart.title else ""
    axes.set_title(title + "\n" * len(best), loc="left", size=10.5, color=INK, weight="bold")
    for place, (text, series) in enumerate(reversed(best)):
        axes.annotate(
            text, (0, 1), (0, 5 + 12 * place), xycoords="axes fraction",
            textcoords="offset points", size=8.5, color=color_of(series, chart.is_of_layers),
        )  # fmt: skip
    axes.set_xlabel("step", size=9, color=DIM)
    axes.set_ylabel(panel.unit, size=9, color=DIM)
    _set_limits(axes, panel)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=DIM, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)


def _draw_series(axes: Axes, series: Series, is_layer: bool) -> None:
    color = color_of(series, is_layer)
    dash = _dash(series, is_layer)
    steps, values = series.raw
    if series.smoothed is None:
        marker = "o" if len(steps) < 25 else None
        axes.plot(steps, values, dash, color=color, linewidth=1.6, marker=marker, markersize=3)
    else:
        if series.smoothed != values and not is_layer:
            axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.8)
        marker = "o" if len(steps) == 1 else None
        axes.plot(steps, series.smoothed, dash, color=color, linewidth=1.7, marker=marker)
    if series.best is not None:
        axes.plot(
            *([part] for part in series.best), "o", color=color, markersize=6.5,
            markeredgecolor="white", markeredgewidth=1.2, zorder=5, clip_on=False,
        )  # fmt: skip


def _best_lines(panel: Panel, names: Mapping[str, str]) -> list[tuple[str, Series]]:
    """What is written over the panel; of many runs, the best one's."""
    marked = [(series.best, series) for series in panel.series if series.best is not None]
    if not marked:
        return []
    if len(marked) > MOST_BEST:
        is_low = any(series.smoothed is not None for _, series in marked)
        choose = min if is_low else max
        marked = [choose(marked, key=lambda pair: pair[0].value)]
    several = len(panel.series) > 1
    return [
        (f"{names[series.label] + ': ' if several else ''}{_best_text(best)}", series)
        for best, series in marked
    ]


def _best_text(best: Extreme) -> str:
    return f"best {number(best.value)} at step {best.step:,}"


def _set_limits(axes: Axes, panel: Panel) -> None:
    """From 0 where that leaves the curves room; a few wild values do not flatten the others."""
    values = sorted(value for series in panel.series for value in series.raw[1])
    top = max(
        values[math.floor(0.99 * (len(values) - 1))],
        *(max(series.smoothed or series.raw[1]) for series in panel.series),
    )
    low = values[0]
    if panel.unit == "%":
        axes.set_ylim(0, min(102, max(1.12 * top, 1)))
    elif low >= 0:
        bottom = 0 if low < 0.6 * top else low - 0.15 * (top - low)
        axes.set_ylim(bottom, top + 0.08 * (top - bottom) if top > bottom else bottom + 1)
    axes.margins(x=0.02)


def _add_legend(figure: Figure, chart: Chart, names: Mapping[str, str]) -> None:
    """Labels of all colours, once, where there are several."""
    shown = {series.label: series for panel in chart.panels for series in panel.series}
    if len(shown) < 2:
        return
    handles = [
        Line2D(
            [], [], color=color_of(s, chart.is_of_layers), linestyle=_dash(s, chart.is_of_layers)
        )
        for s in shown.values()
    ]
    texts = [names[label] for label in shown]
    room = figure.get_figwidth() / (LETTER_WIDTH * max(map(len, texts)) + HANDLE_WIDTH)
    figure.legend(
        handles, texts, loc="outside lower left", ncols=max(1, min(len(shown), int(room))),
        fontsize=9, frameon=False, labelcolor=INK,
    )  # fmt: skip


def _dash(series: Series, is_layer: bool) -> Dash:
    return "-" if is_layer else DASHES[series.color // len(COLORS) % len(DASHES)]


def number(value: float) -> str:
    """Three digits or so, as people write them."""
    if value == 0 or 0.01 <= abs(value) < 10000:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{min(digits, 4)}f}"
    return f"{value:.2e}"
