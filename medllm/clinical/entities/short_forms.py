"""Short forms: those that everybody knows, and those that a text defines itself.

The latter, "chronic kidney disease (CKD)", are found by the algorithm of Schwartz and Hearst
(2003): each letter of the short form is looked for backwards in the words before it, and its first
letter must begin a word.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from medllm.clinical.entities.words import TYPES, Type, normal
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table
from medllm.clinical.text.phrases import Phrases, words_in
from medllm.clinical.text.reading import Reading, Span


def _faults(row: Row, tables: Mapping[str, Any]) -> Iterable[str]:
    if row["type"] not in TYPES:
        yield f"type must be one of {', '.join(TYPES)}"


SHORT_FORMS = Table(
    name="short_forms",
    columns=frozenset({"type", "short", "long", "more", "several"}),
    needed=frozenset({"type", "short", "long"}),
    lists=frozenset({"short", "long"}),
    faults=_faults,
)


_FEW = 2
"""Words of an item of a list, which may be a short form alone."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a short form is: names of one thing, or the several things that it `may` mean.

    One that `says_more` than its names is one of the things that these name: CKD5.
    """

    type: Type
    names: tuple[str, ...]
    may: tuple[str, ...]
    says_more: bool


_IN_BRACKETS = re.compile(r"\(([^\s()]{2,10})[,;)]")


Known = list[tuple[int, int, Meaning]]
"""First word, word after the last one, and meaning of each form in a text, in order."""


def find_known(reading: Reading, knowledge: Knowledge, part: Span) -> Known:
    """The forms of the table `short_forms` in a part of a text, which is read once.

    A form with a capital counts in its own letters alone, and in no sentence of capitals, where
    `CAP` is a cap; before a colon all but procedures are headings: `PE: chest clear`.
    """
    known = reading.built(knowledge.built(_KnownForms).find)
    begin, end = (bisect_left(known, word, key=itemgetter(0)) for word in part)
    return known[begin:end]


class _KnownForms:
    """The forms by their words: meanings by what must be written, or nothing where case is free."""

    def __init__(self, knowledge: Knowledge) -> None:
        forms: dict[tuple[str, ...], dict[str, Meaning]] = {}
        for row in knowledge.rows(SHORT_FORMS.name):
            several, more = bool(row.get("several")), bool(row.get("more"))
            long = tuple(" ".join(map(normal, words_in(name))) for name in row["long"])
            meaning = Meaning(row["type"], () if several else long, long if several else (), more)
            written = row["short"] if several or more else [*row["short"], *row["long"]]
            for form in written:
                words = tuple(map(normal, words_in(form)))
                forms.setdefault(words, {})["" if form.islower() else form] = meaning
        self._forms = Phrases((" ".join(words), meanings) for words, meanings in forms.items())

    def find(self, reading: Reading) -> Known:
        words = [normal(word) for word in reading.words]
        found = []
        for first, last, meanings in self._forms.find(words):
            begin, end = reading.place(first, last)
            written = reading.text[begin:end]
            meaning = meanings.get(written) or meanings.get("")
            is_heading = reading.between(last - 1).startswith(":")
            if (
                meaning
                and (meaning.type == "procedure" or not is_heading)
                and (written.islower() or _is_mixed(reading, first))
            ):
                found.append((first, last, meaning))
        return found


def _is_mixed(reading: Reading, word: int) -> bool:
    """Whether the sentence of a word has small letters, or hardly any words."""
    first, last = reading.sentence_at(word)
    begin, end = reading.place(first, last)
    return last - first <= _FEW or not reading.text[begin:end].isupper()


def find_definitions(reading: Reading) -> Iterator[tuple[Span, Span]]:
    """The words of each short form, and those of its long form before it."""
    folded = reading.folded.text
    for found in _IN_BRACKETS.finditer(folded):
        short = found[1]
        end = bisect_left(reading.begins, found.start())
        last = bisect_left(reading.begins, found.end(1))
        if not end or last == end or not any(map(str.isalpha, short)):
            continue
        most = min(len(short) + 5, 2 * len(short))
        first = max(end - most, reading.sentence_at(end - 1)[0])
        text_end = reading.ends[end - 1]
        begin = _long_form(short, folded[reading.begins[first] : text_end])
        if begin is not None:
            yield (end, last), (bisect_left(reading.begins, reading.begins[first] + begin), end)


def _long_form(short: str, text: str) -> int | None:
    """Where the long form of a short one begins in the text before it."""
    at = len(text)
    for number in range(len(short) - 1, -1, -1):
        letter = short[number]
        if not letter.isalnum():
            continue
        at -= 1
        while at >= 0 and (
            text[at] != letter or (number == 0 and at > 0 and text[at - 1].isalnum())
        ):
            at -= 1
        if at < 0:
            return None
    is_longer = len(text) - at > len(short)
    return at if is_longer else None
