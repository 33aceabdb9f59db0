"""Abbreviations that have been misread, where they are about a dose."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from medllm.clinical.case import Case
from medllm.clinical.finding import SEVERITIES, Finding, NotChecked
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table
from medllm.clinical.text.phrases import Phrases, words_in
from medllm.clinical.text.reading import Reading, Span

_UNIT = (
    r"(?:mg|mcg|ug|g|grams?|units?|iu|ml|meq|mmol|tablets?|tabs?|capsules?|caps?|puffs?|drops?)\b"
)
_DOSE = rf"[- ]?{_UNIT}(?! ?/ ?(?:d?l|ml|mm|cu|min|100)\b)"
"""A unit of doses that is not per volume, as laboratory values are."""
_RUN_TOGETHER = "run together"
_FORMS = {
    "trailing zero": (".0", re.compile(rf"(?<![\d.,/:-])\d+\.0+{_DOSE}")),
    "naked decimal": (".", re.compile(rf"\.(?<![\w.,/:-].)\d+{_DOSE}")),
    "no comma": (" unit", re.compile(r"(?<![\w.,/-])\d{5,} units?\b")),
    _RUN_TOGETHER: (
        "",
        re.compile(r"(?<![\w-])[a-z]{4,20}\d+(?:\.\d+)? (?:mg|mcg|ug|g|ml|units)\b"),
    ),
}
"""Ways to write amounts, each with what a text must hold to be searched for it at all."""
_LETTERS = re.compile(r"\d+([a-z].*)")
_PER_VOLUME = re.compile(r" ?/ ?(?:d?l|ml|g|min|hpf|mm)\b| ?per (?:lit|mil|dec)")
_OTHER_PHRASES = ("sq m", "sq meter", "sq cm", "sq ft", "ms contin", "washington d c")
_NEAR_WORDS = 8
_DOSE_WORDS = frozenset(
    {
        "mg", "mcg", "ug", "g", "gram", "grams", "units", "unit", "iu", "u", "cc", "ml", "meq",
        "tablet", "tablets", "tab", "tabs", "capsule", "capsules", "cap", "caps", "puff", "puffs",
        "po", "pill", "pills",
    }
)  # fmt: skip
_DROP_WORDS = frozenset(
    {"drop", "drops", "gtt", "gtts", "instill", "instil", "ointment", "ophthalmic"}
)


def _is_number(reading: Reading, first: int, last: int) -> bool:
    is_glued = reading.words[first][0].isdigit()
    is_after = (
        first > 0 and reading.words[first - 1].isdigit() and reading.between(first - 1) in " -"
    )
    folded = reading.folded.text
    return (is_glued or is_after) and not _PER_VOLUME.match(folded, reading.ends[last - 1])


def _is_by(near: frozenset[str], words: int, reading: Reading, first: int, last: int) -> bool:
    begin, end = reading.sentence_at(first)
    around = reading.words[max(begin, first - words) : first]
    if near is not _DOSE_WORDS:
        around += reading.words[last : min(end, last + words)]
    return any(each in near or _unit_of(each) in near for each in around)


def _is_amount(reading: Reading, first: int, last: int) -> bool:
    """Whether an amount stands right before or after: `MS 4 mg`, `4 mg MS`, `MS 4mg`."""
    words, last_word = reading.words, len(reading.words) - 1
    if first and reading.between(first - 1) == " " and _unit_of(words[first - 1]) in _DOSE_WORDS:
        return True
    if last > last_word or reading.between(last - 1) != " " or not words[last][0].isdigit():
        return False
    unit = words[min(last + 1, last_word)] if words[last].isdigit() else _unit_of(words[last])
    return unit in _DOSE_WORDS


_BESIDE: dict[str, Callable[[Reading, int, int], bool]] = {
    "number": _is_number,
    "amount": _is_amount,
    "dose": partial(_is_by, _DOSE_WORDS, _NEAR_WORDS),
    "drops": partial(_is_by, _DROP_WORDS, _NEAR_WORDS),
    "insulin": partial(_is_by, frozenset({"insulin", "glucose"}), 3 * _NEAR_WORDS),
}

ABBREVIATIONS = Table(
    name="abbreviations",
    columns=frozenset(
        {"written", "means", "taken_for", "write", "severity", "beside", "exact", "form"}
    ),
    needed=frozenset({"written", "means", "taken_for", "write", "severity"}),
    lists=frozenset({"written"}),
    choices={"severity": SEVERITIES, "beside": _BESIDE, "form": _FORMS},
)


def find_abbreviations(case: Case) -> Iterator[Finding | NotChecked]:
    """A note for each abbreviation in the answer that should not stand beside a dose."""
    reading = case.answer
    spans = defaultdict[str, list[Span]](list)
    words = [_unit_of(word) if word[0] < "a" else word for word in reading.words]
    for first, last, rows in case.knowledge.built(_build_forms).find(words):
        for row in rows:
            if _is_written(row, reading, first, last) and _is_beside(row, reading, first, last):
                spans[row["id"]].append(reading.place(first, last))
    table = case.knowledge.tables.get(ABBREVIATIONS.name, {})
    for row in table.values():
        if "form" in row:
            spans[row["id"]] += _find_form(row["form"], reading)
    for id_, places in spans.items():
        if places:
            yield _finding(table[id_], places, case.knowledge)


def _find_form(form: str, reading: Reading) -> list[Span]:
    sign, pattern = _FORMS[form]
    folded = reading.folded
    found: Iterable[re.Match[str] | None] = ()
    if form == _RUN_TOGETHER:
        mixed = (at for at, word in enumerate(reading.words) if word[-1] <= "9" < word[0])
        found = (pattern.match(folded.text, reading.begins[at]) for at in mixed)
    elif sign in folded.text:
        found = pattern.finditer(folded.text)
    return [folded.origin(*each.span()) for each in found if each]


def _build_forms(knowledge: Knowledge) -> Phrases[list[Row]]:
    rows = defaultdict[str, list[Row]](list, {each: [] for each in _OTHER_PHRASES})
    for row in knowledge.rows(ABBREVIATIONS.name):
        for form in row["written"] if "form" not in row else ():
            known = rows[" ".join(words_in(form))]
            if row not in known:
                known.append(row)
    return Phrases(rows.items())


def _unit_of(word: str) -> str:
    """`u` for `10u`; a number as it is."""
    letters = _LETTERS.fullmatch(word)
    return letters[1] if letters else word


def _is_written(row: Row, reading: Reading, first: int, last: int) -> bool:
    if row.get("exact"):
        begin, end = reading.place(first, last)
        quote = reading.text[begin:end].lstrip("0123456789")
        return quote in row["written"] and not _is_shouted(reading, first)
    parts = {reading.between(each).strip() for each in range(first, last - 1)}
    return parts <= ({"."} if len(reading.words[first]) == 1 else {""})


def _is_shouted(reading: Reading, word: int) -> bool:
    """Whether a sentence is in capitals, which then say nothing; one of few words is not."""
    first, last = reading.sentence_at(word)
    begin, end = reading.place(first, last)
    return last - first > _NEAR_WORDS and reading.text[begin:end].isupper()


def _is_beside(row: Row, reading: Reading, first: int, last: int) -> bool:
    return "beside" not in row or _BESIDE[row["beside"]](reading, first, last)


def _finding(row: Row, places: list[Span], knowledge: Knowledge) -> Finding:
    form = row["written"][0]
    return Finding(
        rule=row["id"],
        kind="abbreviation",
        severity=row["severity"],
        message=f"'{form}' for {row['means']} has been taken for {row['taken_for']}.",
        action=f"Write {row['write']}.",
        basis=knowledge.basis(row),
        spans=tuple(sorted(places)),
    )
