"""One HTML page that needs nothing but itself: no script, no network."""

from collections.abc import Collection, Mapping, Sequence

from markupsafe import Markup, escape

from medllm.reports.plots import Points, draw_bars, draw_curves, draw_dots, draw_histogram

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 52rem;
       margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #d8dee6; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f6f9; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
.pass::before { content: "pass"; color: #22713c; }
.warn::before { content: "warn"; color: #a15c00; }
.pass::before, .warn::before { font-weight: 600; display: inline-block; width: 3.2rem; }
"""


class Page:
    """A page that is written from top to bottom; everything put in is escaped."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[Markup] = []

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
        """A table; numbers are written with thousands separators and right-aligned."""
        head = Markup().join(Markup("<th>{}</th>").format(column) for column in columns)
        body = Markup().join(
            Markup("<tr>{}</tr>").format(Markup().join(map(_cell, row))) for row in rows
        )
        self._add("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, body)

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

    def render(self) -> str:
        """The whole page as HTML."""
        return Markup(
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{}</title>'
            "<style>{}</style></head>\n<body><h1>{}</h1>\n{}\n</body></html>\n"
        ).format(self.title, Markup(STYLE), self.title, Markup("\n").join(self._parts))

    def _plot(self, title: str, svg: str) -> None:
        self._add("<h3>{}</h3>{}", title, Markup(svg))

    def _add(self, template: str, *values: object) -> None:
        self._parts.append(Markup(template).format(*map(escape, values)))


def _cell(value: object) -> Markup:
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
        return Markup('<td class="number">{}</td>').format(text)
    return Markup("<td>{}</td>").format(value)
