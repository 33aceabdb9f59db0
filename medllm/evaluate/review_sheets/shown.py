"""The outcome of a review sheet on the screen and as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import write_json
from medllm.evaluate.analysis.shown import interval_of, shown_p
from medllm.evaluate.review_sheets.outcome import MAY_HARM, sum_up_ratings
from medllm.evaluate.review_sheets.reading import read_sheets
from medllm.evaluate.review_sheets.sheet import Key
from medllm.places import short_path
from medllm.reports.page import Page

NAME = "ratings"
Outcome = Mapping[str, Any]
Table = tuple[str, list[str], list[list[str]]]
EXPLAINED = (
    "Ratings are means over people, then over items; intervals are bootstrapped over items. A "
    "difference is of the answer less the one beside it, on the same items; p is of random signs, "
    "of preferences the exact sign test over items that are decided, both by Holm for all rows. "
    "Kappa is agreement beyond chance: 1 is full, 0 what chance alone gives."
)


def read_ratings(folder: Path, files: Sequence[Path], output: Path | None) -> None:
    """Read filled sheets back, and print and write what they say.

    Raises:
        MedllmError: the key or a sheet is damaged, or of another sheet.
    """
    key = Key.read(folder)
    outcome = sum_up_ratings(key, read_sheets(files, key))
    console.report(ratings=outcome)
    for title, columns, rows in tables_of(outcome):
        console.table(columns, rows, title)
    console.say(console.wrapped(EXPLAINED, ""))
    place = output or folder
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / f"{NAME}.json", outcome)
    build_page(outcome).write(place / f"{NAME}.html")
    console.say(f"  {short_path(place / NAME)}.html")


def tables_of(outcome: Outcome) -> list[Table]:
    """Each table with its title."""
    tables = [_ratings(outcome), _differences(outcome), _preferences(outcome)]
    if outcome["agreement"]:
        tables.append(_agreement(outcome))
    return tables


def _ratings(outcome: Outcome) -> Table:
    scales = list(dict.fromkeys(row["of"] for row in outcome["ratings"]))
    cells = {(row["output"], row["of"]): _scored(row) for row in outcome["ratings"]}
    rows = [[name, *(cells[name, scale] for scale in scales)] for name in outcome["outputs"]]
    title = f"ratings of {outcome['items']} of {outcome['of']} items by {_people(outcome)}"
    return title, ["answers of", *scales], rows


def _people(outcome: Outcome) -> str:
    return ", ".join(each["rater"] for each in outcome["raters"])


def _scored(row: Mapping[str, Any]) -> str:
    scale, digits, unit = (100, 0, " %") if row["of"] == MAY_HARM else (1, 2, "")
    return f"{scale * row['value']:.{digits}f}{unit}\n{interval_of(row, scale, digits)}"


def _differences(outcome: Outcome) -> Table:
    rows = [
        [row["output"], row["beside"], row["of"],
         f"{row['difference']['value']:+.2f}\n{interval_of(row['difference'], 1, 2, '+')}",
         shown_p(row["p_holm"]), row["conclusion"]]
        for row in outcome["differences"]
    ]  # fmt: skip
    columns = ["answers of", "beside", "rating", "difference\n95 %", "p\nby Holm", "conclusion"]
    return "differences, item by item", columns, rows


def _preferences(outcome: Outcome) -> Table:
    rows = []
    for row in outcome["preferences"]:
        share = "none decided"
        if row["share"]:
            share = f"{row['share']['value']:.0%}\n{interval_of(row['share'], 100, 0)}"
        counted = f"{row['first']} / {row['second']} / {row['even']}"
        rows.append([row["output"], row["beside"], counted, share, shown_p(row["p_holm"]),
                     row["preferred"] or "no preference shown"])  # fmt: skip
    columns = ["answers of", "beside", "preferred / other / tie", "share of decided\n95 %",
               "p\nby Holm", "preferred"]  # fmt: skip
    title = "preference, by items"
    if places := outcome["places"]:
        title += (f"; the answer that stands first is preferred on {places['first']}, the other on "
                  f"{places['second']} (p {shown_p(places['p'])})")  # fmt: skip
    return title, columns, rows


def _agreement(outcome: Outcome) -> Table:
    rows = []
    for row in outcome["agreement"]:
        kappa = "not defined: all ratings are one"
        if row["kappa"]:
            kappa = f"{row['kappa']['value']:.2f}\n{interval_of(row['kappa'], 1, 2)}"
        alike = f"{row['alike']['value']:.0%}\n{interval_of(row['alike'], 100, 0)}"
        rows.append([row["of"], f"{row['items']:,}", alike, kappa, row["statistic"]])
    columns = ["rating", "n", "equal ratings\n95 %", "kappa\n95 %", "statistic"]
    return "agreement between people", columns, rows


def build_page(outcome: Outcome) -> Page:
    """The tables as a page; it holds no text of the answers."""
    told = [
        f"Of {row['beside']} and {row['output']}, {row['preferred']} is preferred."
        for row in outcome["preferences"]
        if row["preferred"]
    ]
    lead = " ".join(told) or "No preference is shown by these items."
    page = Page("Review by people", lead, {"rated by": _people(outcome)})
    for title, columns, rows in tables_of(outcome):
        page.heading(title[:1].upper() + title[1:])
        page.table([column.replace("\n", ", ") for column in columns], rows)
    page.text(EXPLAINED)
    return page
