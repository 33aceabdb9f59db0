"""Amounts of a drug in text: `500 mg`, `0.5-1 g`, `15 mg/kg`, `250 mg/5 mL`, `5/325`."""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache

from medllm.clinical.doses.vocabulary import NUMBERS
from medllm.clinical.measurements.numbers import NUMBER, Value, read_value
from medllm.clinical.measurements.quantities import short
from medllm.clinical.measurements.reading import read_unit_at
from medllm.clinical.measurements.units import WRITTEN, kind_of, scale_of

USUAL = {"mass": "mg", "activity": "U", "charge": "mEq", "amount": "mmol", "share": "%",
         "volume": "mL"}  # fmt: skip
"""The unit that doses are compared in, by what a dose is measured in."""
_PER_BODY_OR_TIME = {"kg", "lb", "1.73 m2", "m2", "h", "min", "day", "week", "mL", "s"}
_FROM = re.compile(r"\b(?:by|from) ?$")
_TO = re.compile(r" ?(?:-|to|or) ?(?=[\d.])")
_VOLUME = re.compile(rf" ?(?:/|per|in) ?({NUMBER}) ?(mls?|cc|litres?|liters?|l)(?![a-z])")
_OF_A_FORM = re.compile(
    r" ?(?:/|per|in each|each) ?(?:actuation|puff|spray|inhalation|dose|metered dose|tab|tablet|"
    r"cap|capsule|caplet|drop|act|pill)(?![a-z])|/(?:inh)(?![a-z])"
    r"| each\b(?! (?:day|morning|night|evening|week|time|month|meal))"
)
_A_DAY = re.compile(r" ?(?:/|per|in|a|over|each|every|within) ?(?:24 ?(?:h|hr|hrs|hours?)|day|d)\b")
_FIRST_PART = re.compile(
    r"(?![1-3]/[248](?!\d))(?P<number>\d+(?:\.\d+)?) ?(?P<first>mg|mcg)?/"
    r"\d+(?:\.\d+)? ?(?P<unit>mg|mcg)(?![a-z]|/)"
)
_WORD = re.compile(r"[a-z]+(?= [a-z])")
_A_GRAM = re.compile(r"a gram(?!s|[ -](?:negative|positive|stain))")
_SMALL = re.compile(r"\d+,\d{1,2}")
TWO_READINGS = "two readings: "
NO_UNIT = "no unit"
_TRAILING = re.compile(r"\d+\.0+")
_THOUSANDS = re.compile(r"(?<![\w.,/:-])([1-9]\d{0,2}(?: \d{3})?) $")
_HUNDREDS = re.compile(r"\d{3}(?![\d.,])(?! ?[a-z]{1,12} (?:tab|cap|pill|puff|patch))")
_EITHER = re.compile(r"[1-9]\d{0,2}\.\d00")
"""A decimal that no one writes so, or thousands as much of Europe writes them."""
_POUND = Decimal("0.45359237")
_IN_KG, _LIGHT_KG = ("mg", Decimal(1_000_000), ""), Decimal("0.1")
"""Less is no weight of a body, nor a change of one: `0.005 kg` is a dose."""


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the largest of a dose that is given as a range; equal where it is not."""

    low: Decimal
    high: Decimal

    def times(self, factor: "Decimal | Range") -> "Range":
        """The range for so many tablets, or so many kilograms."""
        if factor == 1:
            return self
        least, most = (factor.low, factor.high) if isinstance(factor, Range) else (factor, factor)
        return Range(short(self.low * least), short(self.high * most))


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount in the unit that doses are compared in, one range for each ingredient.

    `per` is `day` or `week` where that is what it is the amount of, `form` for what one tablet or
    puff holds, `mL` for what one millilitre does, and else empty. `unit` is empty where `5/325` is
    written without one. `problem` names what is unclear in the writing,
    `whole` what is written of `250 mg/5 mL`, which may be the dose.
    """

    values: tuple[Range, ...]
    unit: str
    per: str
    problem: str
    begin: int
    end: int
    whole: tuple[Range, ...] = ()


def read_amount(text: str, begin: int, european: bool, parts: int) -> Amount | None:
    """The amount at a place in folded text; of a product with `parts` ingredients maybe `5/325`."""
    if parts > 1 and (found := _read_parts(text, begin, parts)):
        return found
    if text[begin : begin + 1].isalpha():
        return _read_in_words(text, begin)
    if parts == 1 and (found := _read_first_part(text, begin)):
        return found
    value = read_value(text, begin, european)
    if not value:
        return None
    value = _with_thousands(text, value)
    unit, end = read_unit_at(text, value.end)
    known = _IN_KG if unit == "kg" and value.readings[-1] < _LIGHT_KG else _usual(unit)
    if not known:
        return None
    usual, factor, per = known
    low, high = value.readings[0], value.readings[-1]
    problem = _problem(text, begin, value.end, end, unit)
    if len(value.readings) > 1:
        problem = TWO_READINGS + " or ".join(f"{each.normalize():f}" for each in value.readings)
    span = Range(short(low * factor), short((value.upper or high) * factor))
    is_range = value.upper is None and not _FROM.search(text, max(0, begin - 6), begin)
    second = _second(text, end, unit, usual, european) if is_range else None
    if second:
        span, end = Range(min(span.low, second[0]), max(span.high, second[0])), second[1]
    return _of_what(text, Amount((span,), usual, per, problem, begin, end))


def _with_thousands(text: str, value: Value) -> Value:
    """The value with the thousands before it: `6 000` is 6000, `2 500` may be two of 500."""
    before = _THOUSANDS.search(text, max(0, value.begin - 9), value.begin)
    if not before or not _HUNDREDS.match(text, value.begin):
        return value
    whole = Decimal(before[1].replace(" ", "")) * 1000 + value.readings[0]
    is_sure = " " in before[1] or text[value.begin] == "0"
    return replace(value, readings=(whole,) if is_sure else (*value.readings, whole))


def _read_in_words(text: str, begin: int) -> Amount | None:
    """`one gram`, `ten milligrams`, `a gram`."""
    word = _WORD.match(text, begin)
    one = Decimal(1) if _A_GRAM.match(text, begin) else None
    value = NUMBERS.get(word[0], one) if word else None
    if not word or value is None:
        return None
    unit, end = read_unit_at(text, word.end())
    known = _usual(unit)
    if not known or end == word.end():
        return None
    most = short(value * known[1])
    return _of_what(text, Amount((Range(most, most),), known[0], known[2], "", begin, end))


def _of_what(text: str, amount: Amount) -> Amount:
    """The amount with what stands after it: `/5 mL`, `per tablet`, `in 24 hours`."""
    values, unit, per, end = amount.values, amount.unit, amount.per, amount.end
    whole: tuple[Range, ...] = ()
    if (match := _VOLUME.match(text, end)) and "/" not in unit and not per:
        volume = Decimal(match[1].replace(",", ".")) * (1000 if match[2].startswith("l") else 1)
        if volume > 0:
            whole = values if volume > 1 else ()
            values, per, end = tuple(each.times(1 / volume) for each in values), "mL", match.end()
    elif match := _OF_A_FORM.match(text, end):
        per, end = "form", match.end()
    elif not per and (match := _A_DAY.match(text, end)):
        per, end = "day", match.end()
    return Amount(values, unit, per, amount.problem, amount.begin, end, whole)


def _second(
    text: str, end: int, unit: str, usual: str, european: bool
) -> tuple[Decimal, int] | None:
    """The other end of `500 mg-1 g`."""
    match = _TO.match(text, end)
    value = read_value(text, match.end(), european) if match else None
    if not value or value.upper is not None:
        return None
    other, end = read_unit_at(text, value.end)
    known = _usual(other)
    if not known or known[0] != usual:
        return None
    return short(value.readings[0] * known[1]), end


@cache
def _usual(unit: str) -> tuple[str, Decimal, str] | None:
    """The usual unit of a dose, the factor to it and what it is per; None for no unit of doses."""
    kinds = kind_of(unit)
    if not kinds or kinds[0] not in USUAL or unit in {"kg", "lb", "oz", "ng", "pg", "fL", "dL"}:
        return None
    first, *below = unit.split("/")
    per = below.pop() if below and below[-1] in {"day", "week", "mL"} else ""
    is_level = per == "mL" and first in {"ng", "pg", "mL", "%", "microL"}
    if is_level or not set(below) <= _PER_BODY_OR_TIME or (first == "%" and below):
        return None
    usual, factor = USUAL[kinds[0]], scale_of(first) / scale_of(USUAL[kinds[0]])
    if "lb" in below:
        below, factor = ["kg" if each == "lb" else each for each in below], factor / _POUND
    return "/".join([usual, *below]), factor, per


def _problem(text: str, begin: int, end: int, end_of_unit: int, unit: str) -> str:
    number, written = text[begin:end], text[end:end_of_unit].strip(" -")
    if number.startswith("."):
        return "no zero before the decimal point"
    if _EITHER.fullmatch(number):
        return f"{TWO_READINGS}{Decimal(number).normalize():f} or {number.replace('.', '')}"
    if _TRAILING.fullmatch(number):
        return "a zero after the decimal point"
    if _SMALL.fullmatch(number):
        return "a comma as decimal point"
    if unit.split("/")[0] == "U" and written.split("/")[0] == "u":
        return "U for units"
    return ""


def _read_first_part(text: str, begin: int) -> Amount | None:
    """The first of `10/325 mg` behind the name of one drug: the other part is of one not named."""
    match = _FIRST_PART.match(text, begin)
    unit = WRITTEN[match["first"] or match["unit"]] if match else ""
    known = _usual(unit)
    if not match or not known:
        return None
    value = short(Decimal(match["number"]) * known[1])
    return Amount((Range(value, value),), known[0], "form", "", begin, match.end())


def _read_parts(text: str, begin: int, parts: int) -> Amount | None:
    """`5/325`, `875-125 mg`, `160/4.5 mcg`: what a product holds of each ingredient."""
    match = _parts_pattern(parts).match(text, begin)
    if not match:
        return None
    numbers = [Decimal(match[f"n{each}"].replace(",", ".")) for each in range(parts)]
    written = [match[f"u{each}"] for each in range(parts)]
    last = next((each for each in reversed(written) if each), "")
    spans = []
    for number, own in zip(numbers, written, strict=True):
        unit = WRITTEN[own or last or "mg"]
        known = _usual(unit)
        if not known or known[0] != "mg":
            return None
        spans.append(Range(short(number * known[1]), short(number * known[1])))
    each = _OF_A_FORM.match(text, match.end())
    end = each.end() if each else match.end()
    problem = "" if last else NO_UNIT
    return Amount(tuple(spans), "mg" if last else "", "form", problem, begin, end)


@cache
def _parts_pattern(parts: int) -> re.Pattern[str]:
    units = r"(?: ?(?P<u{0}>mg|mcg|g|ug|micrograms?))?"
    part = r"(?P<n{0}>\d+(?:\.\d+)?)" + units
    joined = r" ?[/+-] ?".join(part.format(each) for each in range(parts))
    return re.compile(r"(?<![\d/])" + joined + r"(?![\d/]|[.,]\d| ?(?:tab|cap|puff|pill)| ?-\d)")
