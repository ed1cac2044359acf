"""Pictures of an evaluation: which classes are confused, and precision over recall."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure

from mask2former.evaluation.averages import ratio
from mask2former.evaluation.report.confused import OTHER, most_confused
from mask2former.evaluation.report.lettering import Lettering, letter
from mask2former.evaluation.summary import IOU_50, IOU_75, Confusion, Curves

NOT_SHOWN = "(not shown)"
"""Column of the predicted classes that the picture has no room for."""
MOST_CLASSES = 40
"""Of a picture of confusions; cells of more could not be read."""
CELLS = ((4, 0.9, 11.0, 1), (10, 0.62, 9.5, 1), (20, 0.42, 8.0, 0), (MOST_CLASSES, 0.3, 6.5, 0))
"""(Up to so many classes, side of a cell in inches, size of its number in points, decimals)."""
RIGHT = LinearSegmentedColormap.from_list("right", ("#ffffff", "#9ecae1", "#3182bd", "#08306b"))
WRONG = LinearSegmentedColormap.from_list("wrong", ("#ffffff", "#fdd0a2", "#f16913", "#7f2704"))
"""Colours of the diagonal and of what lies beside it, from 0 to 100 %."""
NO_VALUE = (224, 224, 224, 255)
DOTS_PER_INCH = 150
MARGIN = 0.25
"""Inches around a picture, and between its parts."""

BLUE, LIGHT_BLUE, DARK, GRID = "#3182bd", "#9ecae1", "#1b2a41", "#e4e4e4"
MOST_PANELS = 20
PANELS_A_ROW = 5
PANEL, MEAN_PANEL = 1.45, 4.3
"""Sides in inches of a class's panel, where there are many, and of that of the mean."""
PANELS = ((1, 1, 4.3), (4, 2, 1.98), (9, 3, 1.45))
"""(Up to so many classes, panels a row, side of one in inches); of more as above."""
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
"""Of AP50, AP75 and AP: each shows below the next where they coincide."""


class _Plotted(NamedTuple):
    """A table of confusions as it is drawn."""

    rates: Float64[np.ndarray, "shown columns"]
    """In percent of the pixels of the true class; NaN where it has none. The columns are the
    shown classes, and what is left of the row."""
    columns: list[str]
    """Names of what is left of the rows."""
    class_ids: list[int]
    chosen: str
    """Which classes are shown."""


def draw_confusion(confusion: Confusion, images: int, path: Path) -> None:
    """Draw which classes are taken for which, as PNG.

    A row is a true class and sums to 100 %. Classes that do not occur are left out; of many, those
    of the strongest confusions are shown, similar ones side by side.

    Args:
        confusion: With at least one pixel.
        images: That were scored.
        path: Of the file.
    """
    plotted = _plot(confusion)
    lettering = letter(confusion.names)
    _, cell, font_size, decimals = next(c for c in CELLS if len(plotted.class_ids) <= c[0])
    height, width = (cell * length for length in plotted.rates.shape)
    with _figure(lettering) as figure:
        axes = _axes(figure, 0.0, 0.0, width, height)
        _draw_cells(axes, plotted, font_size, decimals)
        names = [lettering.texts[class_id] for class_id in plotted.class_ids]
        _name_classes(axes, names, plotted.columns, font_size, cell)
        least = "less than 0.5 %" if decimals == 0 else "less than 0.05 %"
        lines = [
            f"{plotted.chosen}, {_count(images, 'image', 'images')}",
            f"each row: % of the pixels of the true class; empty cells: {least}",
        ]
        if OTHER in plotted.columns:
            lines.append(f"{OTHER}: what is predicted is no class of the data set")
        if np.isnan(plotted.rates).any():
            lines.append("grey rows: the class is predicted, but no pixel truly is of it")
        _write_title(axes, "What each class is taken for", lines, lettering, "confusion.csv")
        bar_height = min(height, 3.0)
        for i, (label, colors) in enumerate((("right", RIGHT), ("wrong", WRONG))):
            bar = _axes(figure, width + MARGIN + 0.95 * i, 0.0, 0.16, bar_height)
            _draw_color_bar(bar, f"{label}, %", colors)
        _save(figure, path)


def draw_precision_recall(curves: Curves, images: int, path: Path) -> None:
    """Draw precision over recall, of the mean of all classes and of each, as PNG.

    Of many classes the best and the worst are shown. The area below a curve is its AP.

    Args:
        curves: By class; at least one has true objects.
        images: That were scored.
        path: Of the file.
    """
    numbered = enumerate(curves.values())
    of_class = {i: 100 * curve for i, curve in numbered if not np.isnan(curve).any()}
    ranked = sorted(of_class, key=lambda i: -of_class[i].mean())
    lettering = letter(list(curves))
    with _figure(lettering) as figure:
        mean = np.mean(list(of_class.values()), axis=0)
        axes = _axes(figure, 0.0, 0.0, MEAN_PANEL, MEAN_PANEL)
        _draw_curves(axes, mean, line_width=1.8)
        axes.set_xlabel("recall, %: true objects that are found")
        axes.set_ylabel("precision, %: predicted objects that are right")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.12), frameon=False)
        only = lettering.texts[ranked[0]]
        which = "" if len(ranked) == len(curves) else " with true objects"
        counted = f"mean of {len(ranked)} classes{which}" if len(ranked) > 1 else f'class "{only}"'
        lines = [f"{counted}, {_count(images, 'image', 'images')}"]
        _write_title(
            axes, "Precision over recall of masks", lines, lettering, "precision_recall.csv"
        )
        if len(ranked) > 1:
            _draw_classes(figure, ranked, of_class, lettering.texts)
        _save(figure, path)


def _plot(confusion: Confusion) -> _Plotted:
    """Choose what is shown."""
    pixels = confusion.pixels.T  # (true, predicted), the last predicted column: other
    num_classes = len(confusion.names)
    occurring = np.flatnonzero(pixels.any(axis=1) | pixels[:, :-1].any(axis=0)).tolist()
    shown = most_confused(pixels, occurring, MOST_CLASSES)
    if len(shown) < len(occurring):
        chosen = f"the {len(shown)} classes of the strongest confusions, of {num_classes}"
    elif len(shown) < num_classes:
        occur = "class that occurs" if len(shown) == 1 else "classes that occur"
        chosen = f"the {len(shown)} {occur}, of {num_classes}"
    else:
        chosen = f"all {num_classes} classes" if num_classes > 1 else "1 class"
    rest = np.delete(pixels[:, :-1], shown, axis=1).sum(axis=1)
    further = {NOT_SHOWN: rest, OTHER: pixels[:, -1]}
    columns = {name: counts for name, counts in further.items() if counts[shown].any()}
    counts = np.column_stack([pixels[:, shown], *columns.values()])[shown]
    of_class = pixels[shown].sum(axis=1, keepdims=True)
    rates = 100 * ratio(counts, np.broadcast_to(of_class, counts.shape))
    return _Plotted(rates, list(columns), shown, chosen)


def _draw_cells(axes: Axes, plotted: _Plotted, font_size: float, decimals: int) -> None:
    rates = plotted.rates
    is_right = np.eye(*rates.shape, dtype=bool)[..., None]
    # a square root, so that the usual confusions of a few percent show
    places = np.sqrt(np.nan_to_num(rates) / 100)
    colors = np.where(is_right, RIGHT(places, bytes=True), WRONG(places, bytes=True))
    colors[np.isnan(rates)] = NO_VALUE
    axes.imshow(colors, aspect="auto", interpolation="nearest")
    brightness = colors[..., :3] @ (0.299, 0.587, 0.114)  # ITU-R BT.601
    least = 0.5 * 0.1**decimals
    for row, column in zip(*np.nonzero(rates >= least), strict=True):
        axes.text(
            column,
            row,
            f"{rates[row, column]:.{decimals}f}",
            ha="center",
            va="center_baseline",
            fontsize=font_size,
            color="white" if brightness[row, column] < 150 else "#222222",
            in_layout=False,  # within the axes, which saves half the time
        )


def _name_classes(
    axes: Axes, names: list[str], columns: list[str], font_size: float, cell: float
) -> None:
    font_size = max(font_size, 7.5)
    predicted = [*names, *columns]
    # bytes, since letters of three are wider ones
    fits = all(0.008 * font_size * len(name.encode()) < cell for name in predicted)
    turned = 0 if fits else 90
    axes.set_xticks(range(len(predicted)), predicted, rotation=turned, fontsize=font_size)
    axes.set_yticks(range(len(names)), names, fontsize=font_size)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class", fontsize=11, labelpad=8)
    axes.set_ylabel("true class", fontsize=11, labelpad=8)
    right, bottom = len(predicted) - 0.5, len(names) - 0.5
    axes.vlines(np.arange(len(predicted) + 1) - 0.5, -0.5, bottom, GRID, linewidths=0.8)
    axes.hlines(np.arange(len(names) + 1) - 0.5, -0.5, right, GRID, linewidths=0.8)
    axes.spines[:].set_visible(False)
    if columns:
        axes.axvline(len(names) - 0.5, color="#555555", linewidth=1.0)


def _draw_color_bar(axes: Axes, label: str, colors: Colormap) -> None:
    bar = Colorbar(axes, cmap=colors, norm=PowerNorm(0.5, 0, 100))
    bar.set_ticks([0, 5, 20, 50, 100])
    bar.ax.minorticks_off()
    bar.outline.set_edgecolor(GRID)
    bar.set_label(label)


def _draw_classes(
    figure: Figure,
    ranked: Sequence[int],
    of_class: dict[int, Float64[np.ndarray, "10 101"]],
    texts: Sequence[str],
) -> None:
    """A small panel for each class beside that of the mean."""
    if len(ranked) <= MOST_PANELS:
        parts = {f"each of the {len(ranked)} classes, best AP first": ranked}
    else:
        half = MOST_PANELS // 2
        parts = {
            f"the {half} best of {len(ranked)} classes": ranked[:half],
            f"the {half} worst of {len(ranked)} classes, worst last": ranked[-half:],
        }
    a_row, side = next(
        (panels[1:] for panels in PANELS if len(ranked) <= panels[0]), (PANELS_A_ROW, PANEL)
    )
    left, top = MEAN_PANEL + 1.0, 0.0
    for heading, class_ids in parts.items():
        for i, class_id in enumerate(class_ids):
            row, column = divmod(i, a_row)
            x, y = left + column * (side + MARGIN), top + row * (side + 0.45)
            axes = _axes(figure, x, y, side, side)
            _draw_curves(axes, of_class[class_id], line_width=1.1)
            axes.tick_params(labelsize=7)
            title = f"{texts[class_id]}\nAP {of_class[class_id].mean():.1f}"
            axes.set_title(title, fontsize=7.5, pad=4, linespacing=1.1)
            if i == 0:
                place = (0, 1 + 0.5 / side)
                axes.text(*place, heading, transform=axes.transAxes, fontsize=10, weight="bold")
            if column:
                axes.tick_params(labelleft=False)
            else:
                axes.set_ylabel("precision, %", fontsize=7)
            if i + a_row < len(class_ids):
                axes.tick_params(labelbottom=False)
            else:
                axes.set_xlabel("recall, %", fontsize=7)
        top += -(-len(class_ids) // a_row) * (side + 0.45) + 0.55


def _draw_curves(axes: Axes, percents: Float64[np.ndarray, "10 101"], line_width: float) -> None:
    recall = np.arange(101)
    mean = percents.mean(axis=0)
    lines = (
        (percents[IOU_50], LIGHT_BLUE, "AP50", "IoU 0.50"),
        (percents[IOU_75], BLUE, "AP75", "IoU 0.75"),
        (mean, DARK, "AP", "mean over IoU 0.50 to 0.95"),
    )
    widths = (2.2 * line_width, 1.5 * line_width, line_width)
    axes.fill_between(recall, mean, color=DARK, alpha=0.08, linewidth=0)
    for (values, color, metric, meaning), width, dashes in zip(lines, widths, DASHES, strict=True):
        label = f"{metric} {values.mean():.1f}: {meaning}"
        style = {"color": color, "linewidth": width, "linestyle": dashes, "label": label}
        axes.plot(recall, values, clip_on=False, **style)
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=range(0, 101, 50), yticks=range(0, 101, 50))
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


@contextmanager
def _figure(lettering: Lettering) -> Iterator[Figure]:
    """An empty picture; names are written as they are, not as formulas."""
    style = {
        "font.family": lettering.families,
        "text.parse_math": False,
        "text.usetex": False,
        "axes.labelcolor": DARK,
        "text.color": DARK,
    }
    with mpl.rc_context(style):
        yield Figure(figsize=(1, 1), dpi=DOTS_PER_INCH)


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches; the picture is cut to what is drawn, wherever that is."""
    return figure.add_axes((left, -top - height, width, height))


def _write_title(
    axes: Axes, title: str, lines: Sequence[str], lettering: Lettering, table: str
) -> None:
    if lettering.is_numbered:
        lines = [*lines, f"#n: the n-th class of {table}; no installed font has its characters"]
    text = "\n".join(lines)
    axes.set_title(text, loc="left", fontsize=9, color="#555555", linespacing=1.4, pad=12)
    above = 20 + 14 * len(lines)  # points
    axes.annotate(
        title, (0, 1), (0, above), "axes fraction", "offset points", fontsize=14, weight="bold"
    )


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", bbox_inches="tight", pad_inches=MARGIN)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
