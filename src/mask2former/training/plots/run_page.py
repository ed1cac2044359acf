"""The curves of runs as one HTML page: nothing outside of it is loaded."""

import json
from collections.abc import Sequence
from html import escape
from importlib import resources

import numpy as np

from mask2former.training.plots.curves import thin
from mask2former.training.plots.plots import COLORS, LAYER_COLORS
from mask2former.training.plots.run_charts import Chart, LoggedRun, Panel, Series
from mask2former.training.plots.run_summary import SUMMARY_COLUMNS, summary_row

POINTS = 30_000
"""Of all curves of a page together, which keeps it below a megabyte."""
MOST_POINTS, LEAST_POINTS = 600, 8
"""Of a curve; a screen shows no more."""
PANELS_AT_ONCE = 8
"""Of a chart; more unfold."""
LIGHTER = 0.3
"""Share of white in colours on a dark page."""


def render(runs: Sequence[LoggedRun], charts: Sequence[Chart]) -> str:
    """The whole page.

    Args:
        runs: In the order of their colours.
        charts: As `make_charts` makes them.
    """
    title = escape("Training: " + ", ".join(run.name for run in runs))
    numbered = iter(range(sum(len(chart.panels) for chart in charts)))
    sections = "".join(_section(chart, [next(numbered) for _ in chart.panels]) for chart in charts)
    data = json.dumps(_data(charts), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{_asset('run_page.css')}{_colors()}</style></head>\n<body>"
        f"{_head(runs)}{_controls(runs)}{sections}"
        f'<div id="values" hidden></div>'
        f'<script type="application/json" id="data">{data}</script>\n'
        f"<script>{_asset('run_page.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return (resources.files("mask2former.training.plots") / name).read_text(encoding="utf-8")


def _colors() -> str:
    """Colours of runs `--r0` ... and of prediction layers `--l0` ..., for light and dark pages."""
    named = {f"--r{i}": color for i, color in enumerate(COLORS)}
    named |= {f"--l{i}": color for i, color in enumerate(LAYER_COLORS)}
    light = "".join(f"{name}:{color};" for name, color in named.items())
    dark = "".join(f"{name}:{_lighter(color)};" for name, color in named.items())
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _lighter(color: str) -> str:
    parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + LIGHTER * (255 - part)):02x}" for part in parts)


def _head(runs: Sequence[LoggedRun]) -> str:
    cells = "".join(f"<th>{escape(column)}</th>" for column in SUMMARY_COLUMNS)
    rows = "".join(_row(run, color) for color, run in enumerate(runs))
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return (
        f'<h1>Training of {count}</h1><div class="wide"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="under">The loss is the last of the smoothed curve, times and throughput are '
        "medians; the best score, in percent, and its step are those of the best weights.</p>"
        "<noscript><p>The curves are drawn by JavaScript, which is switched off here; the PNG "
        "files beside this page show them too.</p></noscript>"
    )


def _row(run: LoggedRun, color: int) -> str:
    name, *others = summary_row(run)
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
    return f"<tr><td>{_swatch(color)}{escape(name)}</td>{cells}</tr>"


def _swatch(color: int) -> str:
    return f'<i class="swatch" style="background:var(--r{color % len(COLORS)})"></i>'


def _controls(runs: Sequence[LoggedRun]) -> str:
    """Which runs are shown, and how."""
    chips = ""
    if len(runs) > 1:
        chips = "".join(
            f'<button type="button" class="run" aria-pressed="true" data-run="{color}">'
            f"{_swatch(color)}{escape(run.name)}</button>"
            for color, run in enumerate(runs)
        )
    return (
        f'<div class="controls">{chips}'
        '<label><input type="checkbox" id="raw" checked> unsmoothed values behind</label>'
        '<label><input type="checkbox" id="log"> logarithmic losses</label></div>'
    )


def _section(chart: Chart, numbers: Sequence[int]) -> str:
    panels = [
        f'<figure class="panel" data-panel="{number}"><figcaption><b>{escape(panel.title)}</b>'
        f"</figcaption></figure>"
        for number, panel in zip(numbers, chart.panels, strict=True)
    ]
    first, rest = "".join(panels[:PANELS_AT_ONCE]), panels[PANELS_AT_ONCE:]
    more = (
        f'<details><summary>{len(rest)} more</summary><div class="panels">{"".join(rest)}</div>'
        "</details>"
        if rest
        else ""
    )
    return (
        f'<section id="{chart.name}"><h2>{escape(chart.title)}</h2>'
        f'<p class="under">{escape(chart.note)}</p>'
        f'<div class="panels">{first}</div>{more}</section>\n'
    )


def _data(charts: Sequence[Chart]) -> list[dict[str, object]]:
    """What the script draws: panels in the order of the page."""
    num_curves = sum(len(panel.series) for chart in charts for panel in chart.panels)
    most = min(MOST_POINTS, max(LEAST_POINTS, POINTS // num_curves))
    return [_panel(panel, most, chart.is_of_layers) for chart in charts for panel in chart.panels]


def _panel(panel: Panel, most: int, is_of_layers: bool) -> dict[str, object]:
    return {
        "unit": panel.unit,
        "layers": is_of_layers,
        "series": [_curve(series, most) for series in panel.series],
    }


def _curve(series: Series, most: int) -> dict[str, object]:
    steps, values = series.raw
    kept = thin(np.array(steps), np.array(values, dtype=np.float64), most).tolist()
    smoothed = series.smoothed
    is_alone = smoothed is None or smoothed == values
    return {
        "label": series.label,
        "color": series.color,
        "x": [steps[i] for i in kept],
        "y": [_short(values[i]) for i in kept],
        "smooth": None if is_alone else [_short(smoothed[i]) for i in kept],
        "best": None if series.best is None else [series.best.step, _short(series.best.value)],
    }


def _short(value: float) -> float:
    """To as many digits as a screen can show."""
    return float(f"{value:.4g}")
