"""Histograms as SVG, drawn in the colours of the page around them."""

from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 460, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 22, 40
"""Margins in pixels, for the labels of the axes and the name of the limit."""
BARS = 24
TICKS = 7
"""Most labels below an axis."""
ROUND = (1, 2, 5)
"""What labels are multiples of, times a power of ten."""


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
    tallest = max(int(counts.max()), 1)
    bottom = float(HEIGHT - BOTTOM)
    scale = np.log if logarithmic else np.asarray

    def place(value: float) -> float:
        share = (scale(value) - scale(edges[0])) / (scale(edges[-1]) - scale(edges[0]))
        return LEFT + float(share) * (WIDTH - RIGHT - LEFT)

    parts = [
        _bar(place(low), place(high), bottom, count / tallest, _range(low, high), count)
        for low, high, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
        if count
    ]
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>')
    for value in ticks(float(edges[0]), float(edges[-1]), logarithmic):
        x = place(value)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(_text(x, bottom + 15, number(value), "middle"))
    parts += [
        _text(LEFT - 6.0, TOP + 8.0, number(tallest), "end"),
        _text(LEFT - 6.0, bottom, "0", "end"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6.0, axis, "middle"),
    ]
    if limit is not None:
        x = place(limit[0])
        anchor = "end" if x > WIDTH / 2 else "start"
        parts.append(f'<path class="limit" d="M{x:.1f} {TOP - 4}V{bottom}"/>')
        parts.append(_text(x, TOP - 9.0, f"{limit[1]}: {number(limit[0])}", anchor))
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round numbers in a range for the labels of an axis, from 1 on a logarithmic one."""
    if logarithmic:
        powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        shown = [m * 10.0**power for power in powers for m in ROUND]
        shown = [value for value in shown if low <= value <= high]
        return shown if len(shown) <= TICKS else shown[:: -(-len(shown) // TICKS)]
    steps = (m * 10.0**power for power in range(-3, 12) for m in ROUND)
    step = next(step for step in steps if (high - low) / step < TICKS)
    first, last = int(np.ceil(low / step)), int(np.floor(high / step))
    return [i * step for i in range(first, last + 1)]


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


def _range(low: float, high: float) -> str:
    first, last = number(float(np.ceil(low))), number(float(np.floor(high)))
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
