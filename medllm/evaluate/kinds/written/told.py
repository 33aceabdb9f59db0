"""What written answers look like, for the page of an evaluation."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medllm.evaluate.kinds.base import Record
from medllm.reports.page import Page

SHOWN = 5
"""Answers of each end that stand beside their references."""
MOST_CHARACTERS = 2000
"""Of a text on the page; the records hold all of it."""


def tell_measures(page: Page, score: Mapping[str, Any], names: Iterable[str]) -> None:
    """Each measure with its interval, and why others are not computed."""
    rows = [
        (
            name.replace("_", " "),
            score[name],
            interval_of(score, name),
            score.get(f"{name}_of") or score.get(f"{name}_items") or score["items"],
        )
        for name in names
        if score.get(name) is not None
    ]
    page.table(("measure", "value", "95 %", "of"), rows)
    for key in ("rouge", "bleu_how", "bertscore"):
        if told := score.get(key):
            page.text(f"{key.removesuffix('_how')}: {told}.")
    for name, reason in score.get("not_computed", {}).items():
        page.check(False, f"{name} is not computed: {reason}")
    cut, empty = score["answers_cut"], score["answers_empty"]
    page.text(
        f"Of {score['items']:,} answers {cut:,} were cut at max_tokens or at the end of the "
        f"context, {empty:,} are empty, and {score['in_pieces']:,} were read in pieces."
    )


def tell_pairs(page: Page, records: Sequence[Record], measure: str) -> None:
    """The worst and the best answers beside their references, where the records hold texts."""
    found = [record for record in records if "answer" in record]
    if not found:
        page.text("The data are not open: evaluate.show_text shows answers and references.")
        return
    known = [record for record in found if record.get(measure) is not None]
    known.sort(key=lambda record: (record[measure], record["id"]))
    shown = known or found
    count = min(SHOWN, (len(shown) + 1) // 2)
    for title, part in (("worst", shown[:count]), ("best", shown[count:][-count:][::-1])):
        rows = [
            (each["id"], each[measure], _short(each["answer"]), _short(each["reference"]))
            for each in part
        ]
        page.table((f"the {title}", measure, "generated", "reference"), rows)


def interval_of(score: Mapping[str, Any], name: str) -> str:
    """The interval of a measure, or that there is none."""
    low, high = score.get(f"{name}_low"), score.get(f"{name}_high")
    return "no interval" if low is None or high is None else f"{low:.3f}–{high:.3f}"


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} …"
