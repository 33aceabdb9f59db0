"""Numeric fidelity: whether each number of a text stands in its source, of the same thing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from medllm.clinical.doses.sigs import read_sigs
from medllm.clinical.doses.vocabulary import NUMBERS
from medllm.clinical.drugs.mentions import find_drugs
from medllm.clinical.measurements import find_measurements
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import Reading, Span
from medllm.measures.text.dates import find_dates
from medllm.measures.text.facts import Key, rounded_keys, value_keys

_BARE = re.compile(
    r"(?<![\w.,/:^-])(?<!\d )\d+(?:[.,/:]\d+)*(?![\w^])(?!\.\d)"
    rf"|\b(?:{'|'.join(word for word in NUMBERS if word not in {'one', 'half'})})\b"
    r"|(?<![\w.,/:^-])\d+(?=(?:yo|y|yr|d|wk|hr?|min|x)\b)|(?<![\w.,/:^-])\d+(?=-(?:year|month|week|day|hour))"
)
_LIST_MARK = re.compile(r"(?:^|\n)[ \t]*\(?\d{1,2}[.)](?=\s)")
_TIME = re.compile(
    r"[ -]?(y|mo|w|d|h|min)(?:/o|ears?|rs?|onths?|ee?ks?|k|ays?|ours?|inutes?|o|r|s)?\b"
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number that stands at a place of a text, and of what it is.

    Another text holds it where it `gives` one of the keys that this `wants`; `owner` is the
    quantity or the drug that it is of, or empty.
    """

    owner: Key
    wants: frozenset[Key]
    gives: frozenset[Key]
    place: Span


@dataclass(frozen=True, slots=True)
class Judged:
    """A number of an answer: kept, altered (its quantity or drug has others), or invented."""

    outcome: Literal["kept", "altered", "invented"]
    place: Span


def judge_numbers(answer: Reading, source: Reading) -> list[Judged]:
    """Each number of an answer, dates and numbers of lists aside.

    One with a unit must stand in the source in any unit of the same value, and of the same
    quantity or drug where the answer names one; values may be rounded by a digit, doses never.
    """
    stated = list(find_numbers(source))
    given = {key for each in stated for key in each.gives}
    owners = {each.owner for each in stated if each.owner}
    return [
        Judged("kept" if each.wants & given else
               "altered" if each.owner in owners else "invented", each.place)
        for each in find_numbers(answer)
    ]  # fmt: skip


def find_numbers(reading: Reading) -> Iterator[Number]:
    """The numbers of a text: measurements, doses of drugs, and all others."""
    taken = [date.place for date in find_dates(reading.text)]
    taken += [match.span() for match in _LIST_MARK.finditer(reading.text)]
    doses = list(_doses(reading))
    for each in find_measurements(reading.text):
        place = each.begin, each.end
        if any(_meet(place, other) for other in taken):
            continue
        taken.append(place)
        bare: set[Key] = {("", value) for value in each.readings}
        drug = next((drugs for drugs, of in doses if _meet(place, of)), None)
        if drug and not each.attribute:
            keys = frozenset((drug, *key[1:]) for key in value_keys(each))
            yield Number(("drug", drug), keys, keys | value_keys(each) | bare, place)
        else:
            owner: Key = ("quantity", each.attribute) if each.attribute else ()
            yield Number(owner, value_keys(each), rounded_keys(each) | bare, place)
    yield from _bare(reading, taken)


def _doses(reading: Reading) -> Iterator[tuple[tuple[str, ...], Span]]:
    """Of each drug with a dose its ingredients, and where the dose stands."""
    mentions = find_drugs(reading, shipped_knowledge())
    for sig in read_sigs(reading, mentions):
        yield sig.drugs, reading.folded.origin(sig.begin, sig.end)


def _bare(reading: Reading, taken: list[Span]) -> Iterator[Number]:
    """Numbers without a unit, and spans of time; `120/80` and `7:30` are one number each."""
    text = reading.text.lower()
    text = text if len(text) == len(reading.text) else reading.text
    for match in _BARE.finditer(text):
        if any(_meet(match.span(), other) for other in taken):
            continue
        written = match[0]
        value = NUMBERS.get(written) or _value(written)
        time = _TIME.match(text, match.end())
        key: Key = ("time", time[1], value) if time else ("", value)
        wants, gives = {key}, {key, ("", value)}
        if time and time[1] == "y":  # an age may stand there without its unit: "I am 29"
            wants.add(("plain", value))
        elif not time:
            gives.add(("plain", value))
        yield Number((), frozenset(wants), frozenset(gives), match.span())


def _value(written: str) -> Decimal | str:
    """The number; what has a slash or a colon in it, or several marks, is itself."""
    plain = re.sub(r",(?=\d{3}(?!\d))", "", written)
    return Decimal(plain) if re.fullmatch(r"\d+(?:\.\d+)?", plain) else written


def _meet(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]
