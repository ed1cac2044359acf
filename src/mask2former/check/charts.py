"""Histograms as SVG, drawn in the colours of the page around them."""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 460, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40
"""Margins in pixels, for the labels of the axes."""
BARS = 24
LABELS = 7
"""Most labels below an axis."""


def histogram(
    values: NDArray[np.number],
    *,
    title: str,
    axis: str,
    logarithmic: bool = False,
    limit: tuple[float, str] | None = None,
) -> str:
    """A histogram; a line with its name marks a limit on the axis.

    Args:
        values: At least one; on a logarithmic axis, those below 1 count as 1.
        title: What is counted.
        axis: What the values are, with their unit.
        logarithmic: The bars get wider by a factor.
        limit: Where to draw a line, and its name.
    """
    shown = np.maximum(values, 1) if logarithmic else values
    edges = _edges(shown, logarithmic, None if limit is None else limit[0])
    counts, _ = np.histogram(shown, edges)
    places = np.linspace(LEFT, WIDTH - RIGHT, len(edges))
    tallest = max(int(counts.max()), 1)
    bottom = float(HEIGHT - BOTTOM)
    parts = [
        _bar(places[i], places[i + 1], bottom, count / tallest, _range(edges, i), count)
        for i, count in enumerate(counts.tolist())
        if count
    ]
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>')
    parts += _labels(edges, places, bottom)
    parts += [
        _text(LEFT - 6.0, TOP + 8.0, number(tallest), "end"),
        _text(LEFT - 6.0, bottom, "0", "end"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6.0, axis, "middle"),
    ]
    if limit is not None:
        x = float(np.interp(limit[0], edges, places))
        is_right = x > WIDTH / 2
        parts.append(f'<path class="limit" d="M{x:.1f} {TOP}V{bottom}"/>')
        anchor = "end" if is_right else "start"
        parts.append(_text(x + (-4 if is_right else 4), TOP + 8.0, limit[1], anchor))
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _edges(
    values: NDArray[np.number], logarithmic: bool, limit: float | None
) -> NDArray[np.float64]:
    """Of bars that span the values and the limit; whole numbers get whole bars."""
    ends = [float(values.min()), float(values.max())] + ([] if limit is None else [limit])
    least, most = min(ends), max(ends)
    if logarithmic:
        most = max(most, least * 2)
        return np.geomspace(least, most * 1.0001, BARS + 1)
    if np.issubdtype(values.dtype, np.integer):
        step = max(1, int(np.ceil((most - least + 1) / BARS)))
        return np.arange(least, most + step + 1, step) - 0.5
    return np.linspace(least, most if most > least else least + 1, BARS + 1)


def _bar(left: float, right: float, bottom: float, share: float, interval: str, count: int) -> str:
    height = max(1.0, share * (bottom - TOP))
    return (
        f'<rect class="bar" x="{left + 0.5:.1f}" y="{bottom - height:.1f}" '
        f'width="{max(right - left - 1, 1):.1f}" height="{height:.1f}">'
        f"<title>{escape(interval)}: {count}</title></rect>"
    )


def _labels(edges: NDArray[np.float64], places: NDArray[np.float64], bottom: float) -> list[str]:
    step = max(1, -(-len(edges) // LABELS))
    return [
        _text(float(places[i]), bottom + 14, number(float(np.ceil(edges[i]))), "middle")
        for i in range(0, len(edges), step)
    ]


def _range(edges: NDArray[np.float64], i: int) -> str:
    first, last = number(float(np.ceil(edges[i]))), number(float(np.floor(edges[i + 1])))
    return first if first == last else f"{first} to {last}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def number(value: float | int) -> str:
    """A whole number with thin spaces between its thousands; one decimal for others below 10."""
    if value != round(value) and abs(value) < 10:
        return f"{value:.1f}"
    return f"{round(value):,}".replace(",", "\u2009")


def bar_cell(text: str, share: float) -> str:
    """A table's cell with a bar behind its number, from 0 to the whole width."""
    return f'<td class="number"><i style="width:{100 * share:.1f}%"></i><span>{text}</span></td>'


def shares(values: Sequence[int]) -> list[float]:
    """Of the largest value, in [0, 1]."""
    most = max(values, default=0)
    return [value / most if most else 0.0 for value in values]
