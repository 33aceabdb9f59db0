"""One HTML page that needs nothing but itself: no script, no network."""

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from medllm import console
from medllm.artifacts.manifest import PLOTS, write_atomically
from medllm.reports.plots import (
    Points,
    as_svg,
    draw_bars,
    draw_curves,
    draw_dots,
    draw_heat,
    draw_histogram,
    draw_intervals,
    save_png,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --ground: #fff; --line: #d8dee6;
        --box: #f4f6f9; --pass: #22713c; --warn: #a15c00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dde4ec; --ground: #14191f; --line: #38424e; --box: #1e252d;
          --pass: #6cc389; --warn: #e0a04d; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
       max-width: 52rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
.lead { font-size: 1.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
         vertical-align: top; white-space: pre-line; }
.about td { overflow-wrap: anywhere; } .about td:first-child { opacity: .7; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number, td.short { white-space: pre; }
li { margin-left: 1.2rem; } pre { unicode-bidi: plaintext; }
pre { background: var(--box); padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
svg text { fill: currentColor; }
svg [style*="#000000"] { stroke: currentColor !important; }
.pass::before { content: "pass"; color: var(--pass); }
.warn::before { content: "warn"; color: var(--warn); }
.pass::before, .warn::before { font-weight: 600; display: inline-block; width: 3.2rem; }
"""
NUMBER = re.compile(r"([-+−]?[\d.,]+(e[-+]\d+)?( ?%| [A-Za-z/]{1,4})?)?")
"""A cell that is a number, with or without a unit, or empty."""
SHORT = 18
"""Characters of a line that is not broken."""


class Page:
    """A page that is written from top to bottom; everything put in is escaped.

    It begins with what came out, and `about`: what it is of, by name. What is None there is left
    out.
    """

    def __init__(self, title: str, lead: str, about: Mapping[str, object]) -> None:
        self.title = title
        self._parts: list[Markup] = []
        self._plots: dict[str, Figure] = {}
        self._add('<p class="lead">{}</p>', lead)
        self._rows("about", (), [(name, value) for name, value in about.items() if value])

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._add("<h2>{}</h2>", text)

    def text(self, text: str) -> None:
        """A paragraph."""
        self._add("<p>{}</p>", text)

    def pre(self, text: str) -> None:
        """Text as it is, with its line breaks."""
        self._add("<pre>{}</pre>", text)

    def check(self, passed: bool, text: str) -> None:
        """A line that is marked "pass" or "warn"."""
        self._add('<div class="{}">{}</div>', "pass" if passed else "warn", text)

    def item(self, text: str) -> None:
        """A line of a list."""
        self._add("<li>{}</li>", text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table with numbers right-aligned; nothing where there are no rows."""
        self._rows("wide", columns, rows)

    def histogram(
        self, title: str, values: Sequence[float] | Mapping[str, Sequence[float]], unit: str
    ) -> None:
        """The distribution of some numbers, or of several named series; nothing where empty."""
        series = values if isinstance(values, Mapping) else {title: values}
        if any(series.values()):
            self._plot(title, draw_histogram(series, unit))

    def bars(self, title: str, values: Mapping[str, float], unit: str = "count") -> None:
        """One bar a name; nothing where there are no names."""
        if values:
            self._plot(title, draw_bars(values, unit))

    def curves(
        self, title: str, series: Mapping[str, Points], x: str, y: str, dots: Collection[str] = ()
    ) -> None:
        """A line a name, dots alone for those in `dots`; nothing where no name has points."""
        if any(series.values()):
            self._plot(title, draw_curves(series, x, y, dots))

    def dots(self, title: str, series: Mapping[str, Sequence[float]], unit: str) -> None:
        """A line of dots a name, with a stroke at their mean."""
        self._plot(title, draw_dots(series, unit))

    def intervals(
        self, title: str, values: Mapping[str, tuple[float, float, float]], unit: str
    ) -> None:
        """A dot a name with its interval: value, low, high; nothing where there are no names."""
        if values:
            self._plot(title, draw_intervals(values, unit))

    def heat(
        self,
        title: str,
        shares: Mapping[str, Mapping[str, float]],
        counts: Mapping[str, Mapping[str, int]],
    ) -> None:
        """A heat map: a row a name, a column a name within the rows, shares from 0 to 1 of counts.

        A share of few says little, so each cell tells of how many it is.
        """
        self._plot(title, draw_heat(shares, counts))

    def render(self) -> str:
        """The whole page as HTML."""
        return Markup(
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{}</title>'
            '<meta name="viewport" content="width=device-width">'
            "<style>{}</style></head>\n<body><h1>{}</h1>\n{}\n</body></html>\n"
        ).format(self.title, Markup(STYLE), self.title, Markup("\n").join(self._parts))

    def write(self, path: Path) -> None:
        """Write the page, and each of its plots as a PNG file into `plots` beside it.

        A page that is there already, and the same, is left as it is.
        """
        text, folder = self.render(), path.parent / PLOTS
        pictures = {
            folder / f"{_file_name(title)}.png": each for title, each in self._plots.items()
        }
        is_there = path.is_file() and path.read_text(encoding="utf-8") == text
        if is_there and all(map(Path.is_file, pictures)):
            return
        shutil.rmtree(folder, ignore_errors=True)
        for picture, figure in pictures.items():
            folder.mkdir(exist_ok=True)
            save_png(figure, picture)
        write_atomically(path, text)

    def _plot(self, title: str, figure: "Figure") -> None:
        self._plots[title] = figure
        self._add("<h3>{}</h3>{}", title, Markup(as_svg(figure)))

    def _rows(self, kind: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if not rows:
            return
        cells = [[_shown(value) for value in row] for row in rows]
        looks = [_look_of(column) for column in zip(*cells, strict=True)]
        body = _lines("td", cells, looks)
        if any(columns):
            body = _lines("th", [columns], looks) + body
        self._add('<div class="{}"><table>{}</table></div>', kind, body)

    def _add(self, template: str, *values: object) -> None:
        self._parts.append(Markup(template).format(*map(escape, values)))


def _look_of(cells: Sequence[str]) -> str:
    """How a column is shown: numbers to the right, and what is short in the lines it has."""
    if all(map(NUMBER.fullmatch, cells)):
        return "number"
    longest = max(len(line) for cell in cells for line in cell.split("\n"))
    return "short" if longest <= SHORT else ""


def _lines(tag: str, rows: Sequence[Sequence[str]], looks: Sequence[str]) -> Markup:
    """Rows of a table; each column has a look."""
    opened = [Markup(f'<{tag} class="{look}">' if look else f"<{tag}>") for look in looks]
    closed = Markup(f"</{tag}>")
    lines = (
        Markup().join(start + cell + closed for start, cell in zip(opened, row, strict=True))
        for row in rows
    )
    return Markup().join(Markup("<tr>{}</tr>").format(line) for line in lines)


def _shown(value: object) -> str:
    """A value of a table: numbers with four digits, or all of those before the point."""
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return console.rounded(value)
    return str(value)


def _file_name(title: str) -> str:
    return re.sub(r"[\W_]+", "-", title.lower()).strip("-")
