"""Numeric fidelity: whether each number of a text stands in its source, of the same thing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from medllm.clinical.doses.sigs import read_sigs
from medllm.clinical.doses.vocabulary import NUMBERS
from medllm.clinical.drugs.mentions import find_drugs
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import Reading, Span, read
from medllm.clinical.text.spelled import SMALL_NUMBERS, TENS
from medllm.data.dedup import UNSPACED
from medllm.measures.text.dates import find_dates
from medllm.measures.text.facts import Key, rounded_keys, value_keys, wanted_keys
from medllm.measures.text.spoken import with_digits
from medllm.measures.text.values import find_values

_WIDE = {0xFEE0 + at: at for at in range(128) if chr(at).isalnum() or chr(at) in "%./"}
"""Numbers and units in full width (`３８．５％`); other marks part words."""
_ROMAN = dict(zip(words_in("i ii iii iv v vi vii viii ix x xi xii"), range(1, 13), strict=True))
_ROMANS = "|".join(_ROMAN)
_BARE = re.compile(
    r"(?<![\w.,/:^-])(?<!\d )\d+(?:-\d+)+(?![\w.,/:^-])"
    r"|(?<![\w.,/:^-])(?<!\d )\d+(?:[.,/:]\d+)*(?![\w^])(?!\.\d)"
    rf"|\b(?:{'|'.join(TENS)})[ -](?:{'|'.join(SMALL_NUMBERS[1:10])})\b"
    rf"|(?<=\btype )(?:{_ROMANS})\b"
    rf"|(?<=\b(?:stage|grade|class) )(?:{_ROMANS})(?:/(?:{_ROMANS}))?\b"
    r"|(?<=\bq)\d+(?= ?(?:h|hrs?|hours?|d|days?|wk|weeks?|min)\b)"
    rf"|\b(?:{'|'.join(word for word in NUMBERS if word not in {'one', 'half'})})\b"
    r"|(?<![\w.,/:^-])\d+(?=(?:yo|y|yr|d|wk?|w\dd|hr?|min|x|m|f|py)\b)|(?<![\w.,/:^-])\d+(?=-(?:year|month|week|day|hour))"
)
_PART = re.compile(r"(\d{1,2})/(7|52|12|40)")
_PARTS: Mapping[str, str] = {"7": "d", "52": "w", "12": "mo", "40": "w"}
"""Britain writes `3/7` for three days, `6/52` for six weeks, `9/12` for nine months, and `32/40`
for 32 weeks of a pregnancy."""
_GESTATION = re.compile(r"(\d\d)(?:\+\d(?!\d)|w\dd\b)")
_TO = re.compile(r" (?:to|or) (\d+)(?![\w.,/:^-]?\d)")
_PAIR = re.compile(r"\d+/\d+(?![\d/])")
_LIST_MARK = re.compile(r"(?:^|\n)[ \t]*\(?\d{1,2}[.)](?=\s)")
_TIME = re.compile(
    r"[ -]?(?:(y)(?:/o|ears?|rs?|o)?|(mo)(?:nths?|s)?|(w)(?:ee?ks?|ks?)?|(d)(?:ays?)?|"
    r"(h)(?:ours?|rs?)?|(min)(?:utes?|s)?)\b"
)
_TIMES: Mapping[str, tuple[str, int]] = {
    "y": ("mo", 12), "mo": ("mo", 1), "w": ("min", 10080), "d": ("min", 1440), "h": ("min", 60),
    "min": ("min", 1),
}  # fmt: skip
"""What each unit of time is in months or in minutes, of which there is no common measure."""


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
    """The numbers of a text: measurements, doses of drugs, and all others.

    Letters of Chinese and the like, which stand right beside numbers, are read as marks.
    """
    if UNSPACED.search(reading.text):
        reading = read(UNSPACED.sub(";", reading.text.translate(_WIDE)))  # each in its place
    taken = [date.place for date in find_dates(reading.text)]
    taken += [match.span() for match in _LIST_MARK.finditer(reading.text)]
    doses = list(_doses(reading))
    for each in find_values(reading.text):
        place = each.begin, each.end
        if any(_meet(place, other) for other in taken):
            continue
        taken.append(place)
        bare: set[Key] = {("", value) for value in each.readings}
        if both := _PAIR.match(reading.text, each.begin):  # 120/80 of an unnamed pressure
            bare.add(("", both[0]))
        drug = next((drugs for drugs, of in doses if _meet(place, of)), None)
        if drug and not each.attribute:
            keys = frozenset((drug, *key[1:]) for key in value_keys(each))
            yield Number(("drug", drug), keys, keys | value_keys(each) | bare, place)
        else:
            owner: Key = ("quantity", each.attribute) if each.attribute else ()
            yield Number(owner, wanted_keys(each), rounded_keys(each) | bare, place)
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
        value = NUMBERS.get(match[0]) or _value(match[0])
        unit = _time_at(text, match.end())
        key: Key = _time_key(unit, value) if unit else ("", value)
        wants, gives = {key}, {key, ("", value), *_ends_of(match, text)}
        if part := _PART.fullmatch(match[0]):  # which may be a fraction, too
            span = _time_key(_PARTS[part[2]], Decimal(part[1]))
            wants, gives = wants | {span}, gives | {span}
        if unit == "y":  # an age may stand there without its unit: "I am 29"
            wants.add(("plain", value))
        elif not unit:
            gives.add(("plain", value))
        yield Number((), frozenset(wants), frozenset(gives), match.span())


def _time_at(text: str, place: int) -> str:
    """The unit of time that stands right after a number, or nothing."""
    found = _TIME.match(text, place)
    return found[found.lastindex or 0] if found else ""


def _ends_of(match: re.Match[str], text: str) -> Iterator[Key]:
    """What a range also gives: its ends; `2 to 3` the range that it is, `37+3` its weeks."""
    if weeks := _GESTATION.match(text, match.start()):
        yield _time_key("w", Decimal(weeks[1]))
    first, mark, last = match[0].partition("-")
    to = _TO.match(text, match.end())
    others: list[Decimal | str] = (
        [Decimal(first), Decimal(last)] if mark and first.isdigit() and last.isdigit() else []
    )
    end = match.end()
    if not others and to:
        others, end = [f"{match[0]}-{to[1]}"], to.end()
    for each in others:
        yield ("", each)
        if unit := _time_at(text, end):
            yield _time_key(unit, each)


def _time_key(unit: str, value: Decimal | str) -> Key:
    """A span of time, the same for two weeks and 14 days; a range of them as it is written."""
    base, factor = _TIMES[unit]
    if isinstance(value, str):
        return ("time", unit, value)
    return ("time", base, value * factor)


def _value(written: str) -> Decimal | str:
    """The number; what has a slash or a colon in it, or several marks, is itself."""
    if written[0].isalpha():
        in_digits = "/".join(str(_ROMAN.get(part, part)) for part in written.split("/"))
        written = with_digits(in_digits)
    plain = re.sub(r",(?=\d{3}(?!\d))", "", written)
    return Decimal(plain) if re.fullmatch(r"\d+(?:\.\d+)?", plain) else written


def _meet(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]
