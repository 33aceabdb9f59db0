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
    if amount := read_amount(reading.folded.text, begin, False, 1):  # "Pan 40 mg"
        return Element(amount, begin, amount.end)
    return Element(Bare(Decimal(written)), begin, reading.ends[number])


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
            return Element(Often(Decimal(1), Decimal(1), match[0]), begin, match.end())
        if sign:
            last, meaning = sign
            return Element(meaning, begin, self.reading.ends[last - 1])
        return None

    def _is_near_name(self, begin: int) -> bool:
        named = self.reading.ends[self.named_until - 1] if self.named_until > 0 else begin
        return begin - named <= MOST_TO_PARTS

    def _numeric(self, word: int, begin: int, parts: int) -> Element | None:
        text = self.reading.folded.text
        if _IN_ALL.match(text, begin):
            return None
        if parts > 1 and (found := _parts(text, begin, parts, self._is_near_name(begin))):
            return found
        if _PLAIN.match(text, begin) and (amount := read_amount(text, begin, self.european, 1)):
            return Element(amount, begin, amount.end)
        if row := read_row(text, begin):
            return Element(row[0], begin, row[1])
        if found := _numbered(text, begin):
            return found
        if amount := read_amount(text, begin, self.european, min(parts, 1)):
            return Element(amount, begin, amount.end)
        after_name = word == self.named_until and text[self.reading.ends[word - 1] : begin] == " "
        is_stated = self.read_until == begin - 1 and isinstance(self.before, (Amount, Bare))
        if after_name and not is_stated and (match := _BARE.match(text, begin)):
            value = Decimal(match[0])
            is_few = parts > 1 and value <= MOST_OF_PRODUCT
            bare = Count(Range(value, value), "") if is_few else Bare(value)
            return Element(bare, begin, match.end())
        is_beside = 0 <= begin - self.read_until <= 12 and _holds_form(self.before)
        if is_beside and (match := _LONE.match(text, begin)):
            count = _counted(match)
            if count.high <= MOST_TABLETS:
                return Element(Count(count, ""), begin, match.end())
        return None


def _holds_form(meaning: Meaning | None) -> bool:
    return isinstance(meaning, (Amount, Bare)) or (
        isinstance(meaning, Sign) and meaning.kind == "form"
    )


def _parts(text: str, begin: int, parts: int, is_near: bool) -> Element | None:
    """`5/325` of a product; without a unit only near its name."""
    amount = read_amount(text, begin, False, parts)
    if amount and amount.per == "form" and (amount.unit or is_near):
        return Element(amount, begin, amount.end)
    return None


def _timed(text: str, written: str, begin: int) -> Element | None:
    """What begins with a word before its number: `every 6 hours`, `q4h`, `for 7 days`, `x 5/7`."""
    if (written in ("every", "each") or written[0] == "q") and (found := read_every(text, begin)):
        return Element(found[0], begin, found[1])
    if written[0] == "x" and written[1:].isdecimal() | (written == "x"):
        if match := _ONCE.match(text, begin):
            return Element(Sign("once"), begin, match.end())
        if often := read_often(text, begin):
            return Element(often[0], begin, often[1])
        if doses := read_doses(text, begin + 1 + (text[begin + 1 : begin + 2] == " ")):
            return Element(Doses(doses[0], False), begin, doses[1])
    if written in ("for", "over") or (
        written[0] == "x" and (written == "x" or written[1].isdigit())
    ):
        return _lasting(text, begin)
    if written == "in" and (doses := read_doses(text, begin + 3)):
        return Element(Doses(doses[0], "divided" in text[begin : doses[1]]), begin, doses[1])
    return None


def _numbered(text: str, begin: int) -> Element | None:
    """What begins with its number, apart from amounts."""
    if often := read_often(text, begin):
        return Element(often[0], begin, often[1])
    for pattern in (_HALF, _COUNT, _SPOON):
        if match := pattern.match(text, begin):
            return Element(Count(_counted(match), FORMS[match["form"]]), begin, match.end())
    match = _TIMES_AMOUNT.match(text, begin)
    if match and ("x" in match[0] or match["low"] in NUMBERS):
        return Element(Count(_counted(match), ""), begin, match.end())
    if doses := read_doses(text, begin):
        return Element(Doses(doses[0], "divided" in text[begin : doses[1]]), begin, doses[1])
    if match := _CLOCK.match(text, begin):
        return Element(Often(Decimal(1), Decimal(1), match[0]), begin, match.end())
    return _lasting(text, begin)


def _lasting(text: str, begin: int) -> Element | None:
    if match := _FOR_A.match(text, begin):
        return Element(Lasting(_DAYS[match["unit"][0]]), begin, match.end())
    match = _LASTING.match(text, begin)
    if not match:
        if text.startswith("for ", begin) and (doses := read_doses(text, begin + 4)):
            return Element(Doses(doses[0], False), begin, doses[1])
        return None
    is_alone = match[0][0] not in "fxt"  # not after "for", "x" or "times"
    is_later = _LATER.match(text, match.end()) or (
        is_alone and _BEFORE_LATER.search(text, max(0, begin - 8), begin)
    )
    if is_later or match[0].startswith("over"):
        return Element(_LATER_SIGN, begin, match.end())
    if match["of"]:
        days = Decimal(match["least"]) * _OF[match["of"]]
    else:
        days = number(match["high"] or match["low"]) * _DAYS[match["unit"][0]]
    return Element(Lasting(days), begin, match.end())


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
