"""Plots: figures of matplotlib, as SVG to stand inside a page and as PNG files."""

import io
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings, simplefilter

from medllm import console

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW_POINTS = 20
Points = Sequence[tuple[float, float]]
INK = "#3d7ab8"
ACCENT = "#d97b29"
COLOURS = (INK, ACCENT, "#5a9367", "#a65fa1", "#c44e52", "#2a9d9d", "#8c6d46", "#7f8894")
"""Of lines and bars; they stand out from white and from black."""
MARKERS = "osD^v"
"""Of dots: another shape where the colours begin anew."""
MANY_SERIES = 4
"""A legend of more would cover what is drawn, and stands beside it."""
LONGEST_LABEL = 40
MOST_BINS = 40
SIZE = (5.6, 2.5)
"""Width and height in inches, such that the letters can be read on a telephone."""
MARGINS = {"left": 0.14, "right": 0.98, "top": 0.95, "bottom": 0.21}
"""Room for numbers and the names of axes, as shares. To fit margins takes as long as to draw."""


def draw_histogram(series: Mapping[str, Sequence[float]], unit: str) -> "Figure":
    """The distribution of one or several series of numbers, over common bins."""
    import numpy

    values = [value for numbers in series.values() for value in numbers]
    low, high = min(values), max(values)
    whole = all(float(value).is_integer() for value in values)
    bins = numpy.histogram_bin_edges(values, bins=min(MOST_BINS, len(set(values))))
    if whole:  # each bin holds as many whole numbers as the next one
        width = ceil((high - low + 1) / MOST_BINS)
        count = ceil((high - low + 1) / width)
        bins = numpy.linspace(low - 0.5, low - 0.5 + count * width, count + 1)
    figure, axes = _new_figure(MARGINS)
    for name, numbers in series.items():
        counts, edges = numpy.histogram(numbers, bins)
        shade = 1 / len(series) ** 0.5
        axes.stairs(counts, edges, fill=True, alpha=shade, label=_label(name))  # one patch, not 40
    axes.set_xlabel(unit)
    axes.set_ylabel("count")
    axes.locator_params(axis="x", integer=whole, min_n_ticks=1)
    axes.locator_params(axis="y", integer=True, nbins=5)
    if len(series) > 1:
        axes.legend(frameon=False)
    return figure


def draw_bars(values: Mapping[str, float], unit: str) -> "Figure":
    """Horizontal bars, the first on top, each with its value."""
    figure, axes = _new_figure(height=0.6 + 0.32 * len(values))
    bars = axes.barh(range(len(values)), list(values.values()), color=INK)
    axes.set_yticks(range(len(values)), list(map(_label, values)))
    axes.bar_label(bars, fmt=console.rounded, padding=3)
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=5)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    return figure


def draw_curves(
    series: Mapping[str, Points], x: str, y: str, dots: Collection[str] = ()
) -> "Figure":
    """A line a name through its points; those in `dots` have their points alone."""
    figure, axes = _new_figure(MARGINS if len(series) <= MANY_SERIES else None)
    for number, (name, points) in enumerate(series.items()):
        if points:
            shape = MARKERS[number // len(COLOURS) % len(MARKERS)]
            marker = shape if name in dots else "." if len(points) < FEW_POINTS else ""
            line = "" if name in dots else "-"
            axes.plot(*zip(*points, strict=True), marker=marker, linestyle=line, label=_label(name))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    whole = all(float(at).is_integer() for points in series.values() for at, _ in points)
    axes.locator_params(axis="x", integer=whole)
    if len(series) > MANY_SERIES:
        figure.legend(loc="outside right upper", frameon=False)
        figure.set_figwidth(1.4 * SIZE[0])
    elif any(series.values()):
        axes.legend(frameon=False)
    return figure


def draw_dots(series: Mapping[str, Sequence[float]], unit: str) -> "Figure":
    """A line of dots a name, the first on top, with a stroke at their mean."""
    figure, axes = _new_figure(height=0.8 + 0.32 * len(series))
    for row, values in enumerate(series.values()):
        axes.plot(values, [row] * len(values), "o", color=INK, alpha=0.6)
        axes.plot([sum(values) / len(values)], [row], "|", color=ACCENT, markersize=18)
    axes.set_yticks(range(len(series)), list(map(_label, series)))
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.set_xlabel(unit)
    return figure


def draw_intervals(values: Mapping[str, tuple[float, float, float]], unit: str) -> "Figure":
    """A dot a name with its interval (value, low, high), the first on top."""
    figure, axes = _new_figure(height=0.8 + 0.32 * len(values))
    for row, (value, low, high) in enumerate(values.values()):
        axes.plot([low, high], [row, row], "-", color=INK, linewidth=2)
        axes.plot([value], [row], "o", color=ACCENT)
    axes.set_yticks(range(len(values)), list(map(_label, values)))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(unit)
    return figure


def draw_heat(
    shares: Mapping[str, Mapping[str, float]], counts: Mapping[str, Mapping[str, int]]
) -> "Figure":
    """A row of coloured cells a name, each with its share and of how many; columns by name."""
    columns = sorted({name for row in shares.values() for name in row})
    figure, axes = _new_figure(height=1.2 + 0.36 * len(shares))
    cells = [[row.get(name, float("nan")) for name in columns] for row in shares.values()]
    axes.imshow(cells, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    for at, (own, row) in enumerate(shares.items()):
        for place, name in enumerate(columns):
            if name in row:
                told = f"{row[name]:.0%} of {counts[own][name]:,}"
                axes.text(place, at, told, ha="center", va="center", color=_readable(row[name]))
    axes.set_yticks(range(len(shares)), list(map(_label, shares)))
    axes.set_xticks(range(len(columns)), list(map(_label, columns)), rotation=20, ha="right")
    return figure


def _readable(share: float) -> str:
    """A colour of text that can be read on that of a cell, which is dark near 0 and 1."""
    return "#ffffff" if share < 0.1 or share > 0.9 else "#111111"


def _label(name: str) -> str:
    """A name as a label that matplotlib draws as it stands.

    It would take what stands between two `$` for a formula, and leave a name with `_` before it out
    of legends.
    """
    shown = "".join(c if c.isprintable() else "\ufffd" for c in name[: LONGEST_LABEL + 1])
    if len(shown) > LONGEST_LABEL:
        shown = f"{shown[: LONGEST_LABEL - 1]}…"
    return (f" {shown}" if shown.startswith("_") else shown).replace("$", r"\$")


def _new_figure(
    margins: Mapping[str, float] | None = None, height: float = SIZE[1]
) -> "tuple[Figure, Axes]":
    """A figure with these margins; without, with such that the longest label fits."""
    _import_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0], height), layout=None if margins else "constrained")
    axes = figure.subplots(gridspec_kw=dict(margins) if margins else None)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_prop_cycle(color=COLOURS)
    axes.set_facecolor("none")  # a page may be dark
    return figure, axes


@cache
def _import_matplotlib() -> None:
    """Load matplotlib, whose import fails where MPLBACKEND names no backend; none is used here."""
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


def as_svg(figure: "Figure") -> str:
    """The figure as an SVG element without a ground; black is left to the page to replace."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    # the same picture must give the same file: no date, no random ids
    with rc_context({"svg.hashsalt": "medllm", "svg.fonttype": "none"}), catch_warnings():
        simplefilter("ignore", UserWarning)  # letters that the font lacks, which browsers have
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=metadata, facecolor="none")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save_png(figure: "Figure", path: Path) -> None:
    """Write the figure as a PNG file, on white; says so where the font lacks its letters."""
    with catch_warnings(record=True) as told:
        simplefilter("always", UserWarning)
        figure.savefig(path, dpi=150, facecolor="white")
    if any("missing from" in str(each.message) for each in told):
        _announce_boxes(path.name)


@cache
def _announce_boxes(name: str) -> None:
    console.notice(f"plots/{name}: matplotlib's font lacks some letters, which stand as boxes "
                   "there; report.html shows them")  # fmt: skip
