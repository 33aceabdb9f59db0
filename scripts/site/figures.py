"""The measurements in docs/benchmarks/*.json as tables: what, machine, script and numbers."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MANY = 12
"""A mapping of more entries is counted, not shown: the file has them."""
UNTOLD = ("exit code", "exit codes", "identity")
ROW = re.compile(r"^\| (`[^|]*\.json`) \| (.*?) \| (.*?) \|$", re.MULTILINE)
SCRIPT = re.compile(r"`(scripts/[\w/]+\.py)`")


def render_figures(repository: Path) -> str:
    """A section for each row of the table of docs/figures.md."""
    listed = (repository / "docs/figures.md").read_text(encoding="utf-8")
    return "\n".join(
        render_figure(repository, cells, what, made_by)
        for cells, what, made_by in ROW.findall(listed)
    )


def render_figure(repository: Path, cells: str, what: str, made_by: str) -> str:
    """What was measured, where, by which script, and the numbers."""
    file = re.findall(r"`([^`]+\.json)`", cells)[0]
    page = re.search(r"`([^`]+\.md)`", cells)
    figures = json.loads((repository / "docs/benchmarks" / file).read_text(encoding="utf-8"))
    made_by = SCRIPT.sub(r"[`\1`](../\1)", made_by)
    told = [f"## {file.removesuffix('.json')}", "", f"{what[:1].upper()}{what[1:]}.", ""]
    told += [f"- Machine: {render_machine(figures.pop('machine'))}", f"- Made by {made_by}"]
    told += [f"- File: [`{file}`](benchmarks/{file})", ""]
    if page:
        return "\n".join(
            [*told, f"The tables stand on [a page of their own](benchmarks/{page[1]}).", ""]
        )
    return "\n".join([*told, *render_tables(figures)])


def render_machine(machine: Mapping[str, Any]) -> str:
    """A line on the machine that measured."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}"
    )


def render_tables(figures: Mapping[str, Any]) -> Iterator[str]:
    """A table of the single figures, then one for each group of things that have the same ones."""
    groups = {name: grouped(value) for name, value in figures.items()}
    single = flat({name: value for name, value in figures.items() if not groups[name]})
    if single:
        yield from render_table("", {"value": single})
    for name, rows in groups.items():
        if rows:
            corner = (
                "" if isinstance(figures[name], Mapping) else spell(next(iter(figures[name][0])))
            )
            yield from (f"**{spell(name)}**", "")
            yield from render_table(corner, {one: flat(row) for one, row in rows.items()})


def grouped(value: Any) -> dict[str, Any]:
    """The things below a value that have figures of their own, by name; none if it is no group."""
    if is_rows(value):
        first = next(iter(value[0]))
        names = [render_value(row[first]) for row in value]
        if len(set(names)) < len(names):
            names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
        rests = [{key: one for key, one in row.items() if key != first} for row in value]
        return dict(zip(names, rests, strict=True))
    is_group = isinstance(value, Mapping) and all(
        isinstance(one, Mapping) or is_rows(one) for one in value.values()
    )
    return dict(value) if is_group else {}


def is_rows(value: object) -> bool:
    """Whether this is a list of mappings."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def flat(value: Any, name: str = "") -> dict[str, str]:
    """All figures below a value, by the words that lead to them."""
    if is_rows(value):
        keys = dict.fromkeys(key for row in value for key in row)
        value = {key: [row[key] for row in value if key in row] for key in keys}
    if not isinstance(value, Mapping):
        return {} if name in UNTOLD else {name: render_value(value)}
    if len(value) > MANY and all(isinstance(one, Mapping) for one in value.values()):
        return {name: f"{len(value)} entries, in the file"}
    found: dict[str, str] = {}
    for key, one in value.items():
        found |= flat(one, f"{name}, {spell(key)}" if name else spell(key))
    return found


def render_value(value: Any) -> str:
    """A figure for people; of several the range, and how many there are."""
    if isinstance(value, list) and value and all(type(one) in (int, float) for one in value):
        low, high = render_value(min(value)), render_value(max(value))
        return low if low == high else f"{low} to {high} ({len(value)})"
    if isinstance(value, list):
        return ", ".join(dict.fromkeys(render_value(one) for one in value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return render_float(value)
    return "" if value is None else str(value)


def render_float(value: float) -> str:
    """Four digits; more where these would call a number whole that is not."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    return f"{value:.8g}" if float(text) == round(value) != value else text


def render_table(corner: str, rows: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A table with a line for each figure, and a column for each row that has them."""
    figures = dict.fromkeys(name for row in rows.values() for name in row)
    yield f"| {corner} | {' | '.join(rows)} |"
    yield f"|---|{'---:|' * len(rows)}"
    for figure in figures:
        yield f"| {figure} | {' | '.join(row.get(figure, '') for row in rows.values())} |"
    yield ""


def spell(name: str) -> str:
    """A key in words."""
    return name.replace("_", " ").replace("mib", "MiB").replace("gib", "GiB")
