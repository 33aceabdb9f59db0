"""A calibration set's statistics, on screen and as a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from medllm import console
from medllm.reports.page import Page

TOTALS = {
    "samples": "samples",
    "documents": "texts in them (a window holds several)",
    "tokens": "tokens",
    "mean_tokens": "tokens on average",
    "median_tokens": "median",
    "min_tokens": "shortest",
    "max_tokens": "longest",
    "std_tokens": "standard deviation",
    "distinct_terms": "distinct medical terms",
    "term_density": "share of words in medical terms",
    "medical_share": "share of medical texts",
    "term_coverage": "share of the holdout's medical terms that are in the set",
    "rare_term_coverage": "the same, of those that one text of the holdout has",
    "duplicates": "duplicate texts",
}


def show_statistics(statistics: Mapping[str, Any]) -> None:
    """Print totals, sources and checks."""
    console.table(("", ""), [(label, _text(value)) for label, value in _totals(statistics)])
    if len(statistics["sources"]) > 1:
        console.table(("source", "samples", "share"), _sources(statistics))
    for check in statistics["checks"]:
        word, style = ("pass", "good") if check["passed"] else ("warn", "warning")
        console.say(f"  {word}  {check['found']}", style)
        if not check["passed"]:
            console.say(console.wrapped(f"        {check['reason']}", "        "))


def build_page(
    title: str,
    statistics: Mapping[str, Any],
    lengths: Sequence[int],
    about: Mapping[str, object],
    *,
    names_rows: bool,
) -> Page:
    """The same and the distribution of lengths as an HTML page; it holds no text of the data.

    Ids of rows may be text, too: they stand there only where it `names_rows`.
    """
    page = Page(title, _verdict(statistics), about)
    page.table(("figure", "value"), _totals(statistics))
    page.heading("Checks")
    for check in statistics["checks"]:
        page.check(check["passed"], f"{check['found']}: {check['reason']}")
    page.heading("Lengths")
    page.histogram("Tokens of a sample", lengths, "tokens")
    page.heading("Sources")
    page.table(("source", "samples", "share"), _sources(statistics))
    page.bars("Samples by source", statistics["sources"], "samples")
    for name, ids in statistics["overlaps"].items():
        if ids:
            page.heading(f"Shared with the evaluation set of {name}")
            page.pre("\n".join(ids) if names_rows else f"{len(ids):,} texts")
    return page


def _verdict(statistics: Mapping[str, Any]) -> str:
    """What the set is, and which checks say that it falls short."""
    checks = statistics["checks"]
    warned = [check["found"] for check in checks if not check["passed"]]
    size = f"{statistics['documents']:,} texts with {statistics['tokens']:,} tokens"
    if not warned:
        return f"{size}; all {len(checks)} checks pass."
    return f"{size}; {len(warned)} of {len(checks)} checks warn: {'; '.join(warned)}."


def _totals(statistics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    known = {key: value for key, value in statistics.items() if value is not None}
    if known["documents"] == known["samples"]:
        del known["documents"]
    return [(label, known[key]) for key, label in TOTALS.items() if key in known]


def _sources(statistics: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    total = statistics["samples"]
    return [(name, n, f"{n / total:.1%}") for name, n in statistics["sources"].items()]


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else console.rounded(value)
