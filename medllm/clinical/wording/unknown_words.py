"""Words that look like names of drugs or diseases, and are in no vocabulary."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from medllm.clinical.case import Case
from medllm.clinical.entities.words import TYPES, EntityWords, build_entity_words, normal
from medllm.clinical.finding import SEVERITIES, Finding, NotChecked
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table, unknown_names
from medllm.clinical.text.reading import Reading
from medllm.clinical.wording.known_words import DrugSpellings, is_known, medical_names, nearest_name

_DOSED, _MISSPELT = "dosed", "misspelt"
_DRUG_TYPES = frozenset({"drug", _DOSED, _MISSPELT})
_DOSE = re.compile(r" \d[\d.,]{0,8} ?(?:mg|mcg|ug|g|units?|meq)\b")
_LEAST_LETTERS = 6
_LEAST_STEM = 3
_MOST_WORDS = 20
"""Unknown words of a text that are looked at; a text with more is no prose."""


def _faults(row: Row, tables: Mapping[str, Any]) -> Iterable[str]:
    return unknown_names("type", row["types"], {*TYPES, *_DRUG_TYPES})


WORD_FORMS = Table(
    name="unknown_words",
    columns=frozenset({"types", "severity", "common"}),
    needed=frozenset({"types", "severity"}),
    lists=frozenset({"types", "common"}),
    choices={"severity": SEVERITIES},
    faults=_faults,
)


def find_unknown_words(case: Case) -> Iterator[Finding | NotChecked]:
    """The words of an answer that look like names and are none, with the nearest known name."""
    rows = {type_: row for row in case.knowledge.rows(WORD_FORMS.name) for type_ in row["types"]}
    candidates = _candidates(case, rows)
    spellings = case.knowledge.built(DrugSpellings)
    for at, type_ in islice(candidates, _MOST_WORDS):
        word = case.answer.words[at]
        near = spellings.nearest(word)
        near = near or nearest_name(normal(word), is_drug=type_ in _DRUG_TYPES)
        if near or (type_ == "drug" and not _is_name(case.answer, at)):
            yield _finding(case, rows[type_], at, near)
    if next(candidates, None):
        yield NotChecked("unknown word", "further words of the answer that are in no vocabulary")


def _candidates(case: Case, rows: Mapping[str, Row]) -> Iterator[tuple[int, str]]:
    """Words that look like names, each once, that are in no vocabulary."""
    reading = case.answer
    known = case.knowledge.built(build_entity_words)
    spellings = case.knowledge.built(DrugSpellings)
    common = case.knowledge.built(_build_common)
    drugs = {word for each in case.drugs for word in reading.words[each.first : each.last]}
    dosed = _before_doses(reading)
    for word in dict.fromkeys(reading.words):
        if len(word) < _LEAST_LETTERS or word in common or word in drugs:
            continue
        type_ = known.type_of(word) or (_DOSED if word in dosed else None)
        if type_ is None and spellings.nearest(word):
            type_ = _MISSPELT
        if type_ not in rows or not word.isalpha() or is_known(word, case.knowledge):
            continue
        at = reading.built(_first_places)[word]
        is_name = type_ == _MISSPELT and _is_name(reading, at)
        if type_ and not (is_name or _is_joined(reading, at) or _is_compound(word, type_, known)):
            yield at, type_


def _first_places(reading: Reading) -> dict[str, int]:
    """Each word, and where it stands first."""
    words = reading.words
    return dict(zip(reversed(words), range(len(words) - 1, -1, -1), strict=True))


def _before_doses(reading: Reading) -> set[str]:
    """The words that a dose follows."""
    words, text, ends = reading.words, reading.folded.text, reading.ends
    numbers = [at for at, word in enumerate(words) if word[0] <= "9" and at]
    return {words[at - 1] for at in numbers if _DOSE.match(text, ends[at - 1])}


def _build_common(knowledge: Knowledge) -> frozenset[str]:
    return frozenset(
        each for row in knowledge.rows(WORD_FORMS.name) for each in row.get("common", ())
    )


def _is_compound(word: str, type_: str, known: EntityWords) -> bool:
    """Whether a term is made of the beginning of a known word and an ending: disc-ectomy."""
    if type_ in _DRUG_TYPES:
        return False
    stem = known.stem_of(word)
    words = medical_names().in_order
    at = bisect_left(words, stem)
    return len(stem) >= _LEAST_STEM and at < len(words) and words[at].startswith(stem)


def _is_joined(reading: Reading, at: int) -> bool:
    """Whether a word is a part of a hyphenated one."""
    return (at > 0 and reading.between(at - 1) == "-") or reading.between(at) == "-"


def _is_name(reading: Reading, at: int) -> bool:
    """Whether a word, with one capital and within a sentence, may name a person or a place."""
    begin, end = reading.place(at, at + 1)
    return reading.text[begin:end].istitle() and reading.sentence_at(at)[0] != at


def _finding(case: Case, row: Row, word: int, near: str | None) -> Finding:
    what = "drug" if "drug" in row["types"] else "disease or procedure"
    nearest = f"; the nearest known name is '{near}'" if near else ""
    return Finding(
        rule=row["id"],
        kind="unknown word",
        severity=row["severity"] if near else "info",
        message=f"A word like the name of a {what} is in no list of names{nearest}.",
        action="Make sure that it exists and is spelt as it should be.",
        basis=case.knowledge.basis(row),
        spans=(case.answer.place(word, word + 1),),
    )
