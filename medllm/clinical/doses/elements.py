"""The elements of prescriptions in a text: amounts, counts, frequencies, routes, signs."""

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from medllm.clinical.doses.amounts import Amount, Range, read_amount
from medllm.clinical.doses.frequencies import (
    RANGE,
    Row,
    number,
    read_doses,
    read_every,
    read_often,
    read_row,
)
from medllm.clinical.doses.vocabulary import FORMS, NUMBERS, Often, Sign, sign_phrases
from medllm.clinical.measurements.numbers import is_european
from medllm.clinical.text.reading import Reading


class Mention(Protocol):
    """A drug, or a product of several, named at the words from `first` to before `last`."""

    @property
    def drugs(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def first(self) -> int: ...  # noqa: D102
    @property
    def last(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Count:
    """So many tablets or puffs; `form` is empty where none is named, as in `2 x 500 mg`."""

    range: Range
    form: str


@dataclass(frozen=True, slots=True)
class Lasting:
    """For so many days."""

    days: Decimal


@dataclass(frozen=True, slots=True)
class Doses:
    """So many doses in all, or in a day."""

    number: Decimal
    is_divided: bool


@dataclass(frozen=True, slots=True)
class Bare:
    """A number without a unit right after a name, as in `Dolo 650`."""

    value: Decimal


_STRENGTHS = (Amount, Bare)
Meaning = Amount | Count | Often | Row | Sign | Lasting | Doses | Bare


@dataclass(frozen=True, slots=True)
class Element:
    """What was read, and where it stands in the folded text."""

    meaning: Meaning
    begin: int
    end: int


_FORM = "|".join(sorted(FORMS, key=len, reverse=True))
_COUNT = re.compile(
    rf"(?:one and a (?P<and_half>half)|{RANGE}(?: ?(?P<part>1/2))?)"
    rf" ?(?:x ?)?(?:(?:of the|a|an|x|oral|small|full|level|5 ?ml) )?(?P<form>{_FORM})(?![a-z])"
)
_HALF = re.compile(rf"(?P<low>half|1/2|1/4|3/4)(?: of)?(?: an?)? (?P<form>{_FORM})(?![a-z])")
_SPOONS = ("teaspoon", "teaspoonful", "tablespoon", "tablespoonful")
_SPOON = re.compile(rf"(?<=\ba )(?P<form>{'|'.join(_SPOONS)})(?![a-z]| of (?!the |[\w-]+ \d))")
_TIMES_AMOUNT = re.compile(
    rf"{RANGE} ?(?:x ?)?(?=(?!0\d\d)\d+(?:\.\d+)?[ -]?(?:mg|mcg|g|ug|microg)[a-z]*\b)"
)
_PARTS = {"1/2": Decimal("0.5"), "1/4": Decimal("0.25"), "3/4": Decimal("0.75")}
_LASTING = re.compile(
    rf"(?:(?:for|x|times|over)(?: up to| at least| a total of| the next| the first| another)? ?)?"
    rf"(?:{RANGE} ?-?(?P<unit>days?|d|nights?|weeks?|wks?|w|months?|mo|h|hours?|hrs?|years?)"
    r"(?![a-z])|(?P<least>\d{1,2})/(?P<of>7|52|12)(?![\d/]))"
)
_FOR_A = re.compile(r"for an? (?P<unit>day|week|fortnight|month|year)\b")
_DAYS = {"d": Decimal(1), "n": Decimal(1), "w": Decimal(7), "m": Decimal(30), "y": Decimal(365),
         "h": Decimal(1) / 24, "f": Decimal(14)}  # fmt: skip
_OF = {"7": Decimal(1), "52": Decimal(7), "12": Decimal(30)}
_CLOCK = re.compile(
    r"(?:at |@ ?)?(?:\d{1,2}(?:[:.]\d\d)? ?(?:a\.?m\b\.?|p\.?m\b\.?|noon|o'clock)"
    r"|(?<=at )\d\d:?\d\d)"
)
_WHEN = (
    r"(?:od|bd|bid|tds|tid|qds|qid|hs|nocte|mane|om|daily|once|twice|three times|sos|prn|stat|"
    r"every|q\d|x ?\d)\b"
)
_BARE = re.compile(
    r"\d{1,4}(?= (?:1/2|\d) ?[-+x] ?\d"
    rf"| (?:\d|one|two|half) (?:tab|cap|{_WHEN})| {_WHEN})"
)
"""A strength without its unit, which the words of a prescription show to be one."""
_IN_ALL = re.compile(
    r"[\d.,]+ ?[a-z]{1,12}(?: of [a-z-]+)? in (?:total|all)\b"
    r"(?! ?(?:an?|per|each|every|daily|at|in|over|within)\b)"
)
"""An amount of a whole course, which nobody takes at once."""
_ONCE = re.compile(r"x ?1(?![\d/]|\.\d| ?(?:d|day|days|w|week|weeks|month|months|/))")
_LATER = re.compile(r" ?(?:later|after|ago|before|prior|old|apart|interval|of age)\b")
MOST_TABLETS = 12
"""A larger number without the word for tablets counts something else."""
MOST_OF_PRODUCT = 4
"""A number up to here behind the name of a product of several counts its tablets."""
MOST_TO_PARTS = 12
"""Characters between the name of a product and `5/325` without a unit."""
_PLAIN = re.compile(r"\.?\d[\d.,]* ?(?:mg|mcg|ug|g|ml|units?|meq)\b")
"""The beginning of most amounts, looked for before what is rarer."""
_BEFORE_NAME = re.compile(rf"{RANGE} ")
_TAKING = re.compile(r"\b(?:takes?|taking|give|use|swallow|up to|have|and|or|another) $")
_INTRATHECAL = re.compile(r"it(?= ?(?:$|[.,;)]|weekly|once|stat|q\d|every|on day))")
_STARTS = {*NUMBERS, *_SPOONS, "a", "once", "twice", "thrice"}
_TRIGGERS = {*_STARTS, "every", "each", "for", "over", "in", "on", "at", "am", "pm", "it"}
_LATER_SIGN = Sign("over")
_BEFORE_LATER = re.compile(r"\b(?:after|within|in|than|next|last|past|day|week|every) $")
_LONE = re.compile(
    rf"{RANGE}(?= (?:po|p\.o|by mouth|weekly|at|od|bd|bid|tds|tid|qds|qid|daily|nocte|mane|om|on|"
    r"every|each|q\d|once|twice|(?:two|three|four|five|six|\d) times|up to|prn|as|in the|a day|"
    r"per day|stat|hs|when|if|to be)\b)"
)
_AT = re.compile(r"(?:am|pm|on(?= ?(?:$|[.,;)]|prn\b|for (?:\d|one|two|a)|x ?\d)))(?![a-z])")
"""A time of the day only right behind a dose; `on` is omni nocte, at night."""


def find_elements(
    reading: Reading, mentions: Sequence[Mention], first: int, last: int
) -> Iterator[Element]:
    """The elements at the words from `first` to before `last`, in order; none overlap.

    The time is linear in the text: a pattern is tried only where a word begins one.
    """
    scan = _Scan(reading, is_european(reading.folded.text))
    words, begins = reading.words, reading.begins
    signs = dict(_signs(reading, first, last))
    mentioned = {each.first: each for each in mentions if first <= each.first < last}
    names = {begins[each] for each in mentioned}
    until, done, parts = first, 0, 1
    for word in range(first, last):
        if mention := mentioned.get(word):
            parts, until = len(mention.drugs), mention.last
            scan.named_until = until
            for named in _of_name(reading, mention, signs):
                scan.before, scan.read_until = named.meaning, named.end
                yield named
        elif word >= until and begins[word] >= done:
            written = words[word]
            if word in signs or written in _TRIGGERS or written[0] in "0123456789qx":
                found = scan.at(word, parts, signs.get(word)) or _of_next(reading, word, names)
                if found:
                    done = scan.read_until = found.end
                    scan.before = found.meaning
                    yield found


def _of_next(reading: Reading, word: int, names: Collection[int]) -> Element | None:
    """How many are taken, right before a name: "take 2 Tylenol", "up to 4 ibuprofen 200 mg"."""
    text, begin = reading.folded.text, reading.begins[word]
    match = _BEFORE_NAME.match(text, begin)
    if not match or match.end() not in names:
        return None
    is_taken = _TAKING.search(text, max(0, begin - 12), begin)
    count = _counted(match)
    return Element(Count(count, ""), begin, match.end() - 1) if is_taken else None


def _signs(
    reading: Reading, first: int, last: int
) -> Iterator[tuple[int, tuple[int, Often | Sign]]]:
    """The phrases of prescriptions by their first word; none reaches into the next sentence."""
    at = bisect_left(reading.sentences, (first, 0))
    for first_of, last_of in reading.sentences[at:]:
        if first_of >= last:
            return
        for begin, end, meaning in sign_phrases().find(reading.words[first_of:last_of]):
            yield first_of + begin, (first_of + end, meaning)


def _of_name(
    reading: Reading, mention: Mention, signs: Mapping[int, tuple[int, Often | Sign]]
) -> Iterator[Element]:
    """What a name itself says: "diclofenac gel", "morphine patch", "Diastat", "Dolo 650"."""
    for word in range(mention.first, mention.last):
        if word in signs and isinstance(signs[word][1], Sign):
            yield Element(signs[word][1], reading.begins[word], reading.ends[word])
    if strength := _strength_in_name(reading, mention):
        yield strength


def _strength_in_name(reading: Reading, mention: Mention) -> Element | None:
    """The number of a name such as `Dolo 650`: what a tablet of it holds, in mg."""
    number = mention.last - 1
    written = reading.words[number]
    if number == mention.first or not (written.isdecimal() and 2 <= len(written) <= 4):
        return None
    begin = reading.begins[number]
    bare = Element(Bare(Decimal(written)), begin, reading.ends[number])
    return _amount(reading.folded.text, begin, False, 1) or bare  # "Pan 40 mg"


@dataclass(slots=True)
class _Scan:
    """A reading, the word after the last drug's name, and the last element with its end."""

    reading: Reading
    european: bool
    named_until: int = -1
    read_until: int = -1
    before: Meaning | None = None

    def at(self, word: int, parts: int, sign: tuple[int, Often | Sign] | None) -> Element | None:
        """The element that begins with a word, if one does."""
        written, begin = self.reading.words[word], self.reading.begins[word]
        text = self.reading.folded.text
        if "0" <= written[0] <= "9":
            if begin and text[begin - 1] == "." and not text[begin - 2 : begin - 1].isalnum():
                begin -= 1
            return self._numeric(word, begin, parts)
        if written in _STARTS and (found := self._numeric(word, begin, parts)):
            return found
        if found := _timed(text, written, begin):
            return found
        if self.read_until == begin - 1 and _INTRATHECAL.match(text, begin):
            return Element(Sign("route", "intrathecal"), begin, begin + 2)
        if self.read_until == begin - 1 and (match := _AT.match(text, begin)):
            return Element(Often(Decimal(1), at=match[0]), *match.span())
        if sign:
            last, meaning = sign
            return Element(meaning, begin, self.reading.ends[last - 1])
        return None

    def _numeric(self, word: int, begin: int, parts: int) -> Element | None:
        text, european = self.reading.folded.text, self.european
        if _IN_ALL.match(text, begin):
            return None
        return (
            self._parts(begin, parts)
            or (_amount(text, begin, european, 1) if _PLAIN.match(text, begin) else None)
            or _placed(begin, read_row(text, begin))
            or _numbered(text, begin)
            or _amount(text, begin, european, min(parts, 1))
            or self._bare(word, begin, parts)
            or self._lone(begin)
        )

    def _parts(self, begin: int, parts: int) -> Element | None:
        """`5/325` of a product; without a unit only near its name."""
        amount = read_amount(self.reading.folded.text, begin, False, parts) if parts > 1 else None
        if not amount or amount.per != "form":
            return None
        named = self.reading.ends[self.named_until - 1] if self.named_until > 0 else begin
        is_one = amount.unit or begin - named <= MOST_TO_PARTS
        return Element(amount, begin, amount.end) if is_one else None

    def _bare(self, word: int, begin: int, parts: int) -> Element | None:
        """A number right behind a name: the strength of one drug, the tablets of a product."""
        text = self.reading.folded.text
        after_name = word == self.named_until and text[self.reading.ends[word - 1] : begin] == " "
        is_stated = self.read_until == begin - 1 and type(self.before) in _STRENGTHS
        match = _BARE.match(text, begin) if after_name and not is_stated else None
        if not match:
            return None
        value = Decimal(match[0])
        is_few = parts > 1 and value <= MOST_OF_PRODUCT
        return Element(Count(Range(value, value), "") if is_few else Bare(value), *match.span())

    def _lone(self, begin: int) -> Element | None:
        """How many, beside a strength or a form: "500 mg 2 daily"."""
        before = self.before
        is_form = before.kind == "form" if isinstance(before, Sign) else type(before) in _STRENGTHS
        is_beside = is_form and 0 <= begin - self.read_until <= 12
        match = _LONE.match(self.reading.folded.text, begin) if is_beside else None
        if match and (count := _counted(match)).high <= MOST_TABLETS:
            return Element(Count(count, ""), *match.span())
        return None


def _placed(begin: int, found: tuple[Meaning, int] | None) -> Element | None:
    """What was read from a place on, with its end, as an element."""
    return Element(found[0], begin, found[1]) if found else None


def _amount(text: str, begin: int, european: bool, parts: int) -> Element | None:
    amount = read_amount(text, begin, european, parts)
    return Element(amount, begin, amount.end) if amount else None


def _doses(text: str, begin: int, at: int) -> Element | None:
    """So many doses from the place `at` on, of an element that begins before or there."""
    found = read_doses(text, at)
    is_divided = found is not None and "divided" in text[at : found[1]]
    return Element(Doses(found[0], is_divided), begin, found[1]) if found else None


def _timed(text: str, written: str, begin: int) -> Element | None:
    """What begins with a word before its number: `every 6 hours`, `q4h`, `for 7 days`, `x 5/7`."""
    if written in ("every", "each") or written[0] == "q":
        return _placed(begin, read_every(text, begin))
    if written == "in":
        return _doses(text, begin, begin + 3)
    if written[0] == "x" and (written == "x" or written[1:].isdecimal()):
        if match := _ONCE.match(text, begin):
            return Element(Sign("once"), *match.span())
        after = begin + 1 + (text[begin + 1 : begin + 2] == " ")
        if found := _placed(begin, read_often(text, begin)) or _doses(text, begin, after):
            return found
    is_times = written[0] == "x" and (written == "x" or written[1].isdigit())
    return _lasting(text, begin) if is_times or written in ("for", "over") else None


def _numbered(text: str, begin: int) -> Element | None:
    """What begins with its number, apart from amounts."""
    return (
        _placed(begin, read_often(text, begin))
        or _count(text, begin)
        or _doses(text, begin, begin)
        or _clock(text, begin)
        or _lasting(text, begin)
    )


def _count(text: str, begin: int) -> Element | None:
    """So many tablets, or so many of an amount: `2 x 500 mg`."""
    for pattern in (_HALF, _COUNT, _SPOON):
        if match := pattern.match(text, begin):
            return Element(Count(_counted(match), FORMS[match["form"]]), *match.span())
    match = _TIMES_AMOUNT.match(text, begin)
    is_count = match and ("x" in match[0] or match["low"] in NUMBERS)
    return Element(Count(_counted(match), ""), *match.span()) if match and is_count else None


def _clock(text: str, begin: int) -> Element | None:
    match = _CLOCK.match(text, begin)
    return Element(Often(Decimal(1), at=match[0]), *match.span()) if match else None


def _lasting(text: str, begin: int) -> Element | None:
    if match := _FOR_A.match(text, begin):
        return Element(Lasting(_DAYS[match["unit"][0]]), *match.span())
    match = _LASTING.match(text, begin)
    if not match:
        return _doses(text, begin, begin + 4) if text.startswith("for ", begin) else None
    is_alone = match[0][0] not in "fxt"  # not after "for", "x" or "times"
    is_later = _LATER.match(text, match.end()) or (
        is_alone and _BEFORE_LATER.search(text, max(0, begin - 8), begin)
    )
    if is_later or match[0].startswith("over"):
        return Element(_LATER_SIGN, *match.span())
    if match["of"]:
        days = Decimal(match["least"]) * _OF[match["of"]]
    else:
        days = number(match["high"] or match["low"]) * _DAYS[match["unit"][0]]
    return Element(Lasting(days), *match.span())


def _counted(match: re.Match[str]) -> Range:
    found = match.groupdict()
    if found.get("and_half"):
        return Range(Decimal("1.5"), Decimal("1.5"))
    written = found.get("low") or "one"
    low = _PARTS.get(written) or number(written)
    high = number(found["high"]) if found.get("high") else low
    if found.get("part"):
        low = high = low + Decimal("0.5")
    return Range(min(low, high), max(low, high))
