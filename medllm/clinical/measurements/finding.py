"""Measurements in text, of names and of units: `find_measurements`."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

from medllm.clinical.measurements.measurement import Measurement, amount, mean
from medllm.clinical.measurements.names import Name, find_names
from medllm.clinical.measurements.numbers import Value, is_european, read_value
from medllm.clinical.measurements.pressures import PAIR, read_pair, read_pressures
from medllm.clinical.measurements.quantities import Quantity, quantity
from medllm.clinical.measurements.reading import (
    SOFT,
    Found,
    begin_of_value,
    read_named,
    read_row,
    read_share,
    read_unit_at,
    with_rest,
)
from medllm.clinical.measurements.units import kind_of
from medllm.clinical.text.folding import fold, with_spoken
from medllm.clinical.text.reading import Reading

NEAR = 60
"""Characters within which another measurement makes a short name one, as in `BP 120/80, P 72`."""
MOST_IN_A_ROW = 3
"""Names before another that may share a row of numbers with it."""
_NUMBER = re.compile(
    r"(?<![\w.,/:^-])(?:(?:<=|>=|<|>|~|(?:less than|greater than|more than|at least|up to|about|"
    r"around|approximately|under|over|above|below)\b) ?)?(?:\d|\.\d)|(?<=\d )-(?=\d)"
)
_GROUPS = re.compile(r"\d{1,3}(?: \d{3}){1,3}(?![\d.,/])")
_PARTS = re.compile(r"\be ?([1-4])[, ]{0,2}v ?([1-5]|t)[, ]{0,2}m ?([1-6])\b(?: ?= ?\d{1,2})?")
_ON_OXYGEN = re.compile(
    r",? ?(?:on |in |with |while on |breathing )?(?:room air|ra|air|o2|oxygen|\d{1,2} ?l|nc|nasal|"
    r"nrb|bipap|cpap|hfnc|sats?|saturations?|o2 sats?|spo2)(?![a-z])"
)
_OF_GAS = re.compile(r" ?(?:o2|oxygen)(?! ?sat| level)(?![a-z])")
"""After a share of oxygen in what is breathed in, as `28% oxygen`."""
MOST_GIVEN = 60
"""The most that a Venturi mask gives; a saturation so low is not written without a name."""
_OF_OXYGEN = re.compile(
    r"(?:/min)? ?(?:,|via|by|per|of|on|through)? ?(?:a )?(?:o2|oxygen|nc|nasal|nrb|non-?rebreather|"
    r"face ?mask|mask|venturi|hfnc|high flow)(?![a-z])"
)
_OF_FLOW = re.compile(r"\d ?l(?:/min|pm)?(?: of| via)? $")
"""Before "oxygen": its number stands there already, as in `2 L O2, HR 115`."""
_BEFORE_FLOW = re.compile(r"% ?(?:on |with |w/ ?|\(|@ ?)$")
_PERSON = re.compile(
    r"[ -](?:old )?(?:man|woman|male|female|patient|boy|girl|infant|child|adult|lady|"
    r"gentleman|person)"
)
_JOINT = re.compile(r",? ?(?:and|&|/|,) ?")
_BY_UNIT = {
    "beats/min": "heart rate", "breaths/min": "respiratory rate", "kg/m2": "body mass index",
    "mL/min/1.73 m2": "eGFR",
}  # fmt: skip
_FEVER = {"°C": (Decimal(30), Decimal(45)), "°F": (Decimal(86), Decimal(113))}
"""Where a temperature without a name is taken for a body's, and not for a store's or a bath's."""
_NO_AMOUNTS = {"points", "fraction", "ratio", "time", "count", "pH", "beats", "breaths"}


def find_measurements(text: str) -> tuple[Measurement, ...]:
    """The measurements in a text, in order, none of which overlap.

    Named ones (`BP 120/80`, `K+ 3.9 mmol/L`), those that a unit tells (`38.8 °C`, `92% on 2L`),
    and amounts (`500 mg`), whose attribute is empty. What is ambiguous is said so and has no
    value; what no patient can have is named as impossible. The time is linear in the text.
    """
    folded = with_spoken(fold(text))
    european = is_european(folded.text)
    found = _with_neighbours(list(_named(folded.text, european)))
    found += _parts_of_coma(folded.text, found)
    found += _by_unit(folded.text, european, found)
    in_order = sorted(found, key=lambda one: one.begin)
    placed = [(folded.origin(each.begin, each.end), each) for each in in_order]
    # a character such as ½ is one number, and cannot be both numbers of a pressure
    torn = {
        number
        for second, (one, other) in enumerate(pairwise(placed), 1)
        if other[0][0] < one[0][1]
        for number in (second - 1, second)
    }
    return tuple(
        _measurement(text, each, place)
        for number, (place, each) in enumerate(placed)
        if number not in torn
    )


def find_impossible(reading: Reading) -> list[Measurement]:
    """The named measurements of a text that no patient can have."""
    text, words = reading.folded.text, zip(reading.begins, reading.words, strict=True)
    found = _with_neighbours(list(_named(text, is_european(text), words)))
    if "gcs" in text or "coma" in text:
        _parts_of_coma(text, found)
    return [
        _measurement(reading.text, each, reading.folded.origin(each.begin, each.end))
        for each in found
        if each.meaning.problem.startswith("impossible")
    ]


def _measurement(text: str, found: Found, place: tuple[int, int]) -> Measurement:
    meaning, (begin, end) = found.meaning, place
    clear = len(meaning.readings) == 1
    problem = meaning.problem
    if not clear:
        problem = f"ambiguous: {' or '.join(f'{each.normalize():f}' for each in meaning.readings)}"
    return Measurement(
        attribute=meaning.attribute, value=meaning.readings[0] if clear else None,
        unit=meaning.unit, begin=begin, end=end, quote=text[begin:end], upper=meaning.upper,
        sign=found.sign, written_unit=meaning.written, readings=meaning.readings, problem=problem,
    )  # fmt: skip


def _named(
    text: str, european: bool, words: Iterable[tuple[int, str]] | None = None
) -> Iterator[Found]:
    """What stands after names; a row of names ("BUN and creatinine") shares a row of numbers."""
    end, row = 0, list[Name]()
    for name in find_names(text, words):
        if name.begin < end or _OF_FLOW.search(text, max(0, name.begin - 12), name.begin):
            continue
        row = (
            [*row[-MOST_IN_A_ROW:], name]
            if row and _JOINT.fullmatch(text, row[-1].end, name.begin)
            else [name]
        )
        for each in _read(text, row, european, end):
            yield each
            end, row = max(end, each.end), []


def _read(text: str, row: list[Name], european: bool, done: int) -> list[Found]:
    """The measurements of a name, or of a row of names where each has its number."""
    name = row[-1]
    if before := read_share(text, name, done):
        return [before]
    if name.quantities[0].pair:
        return list(read_pressures(text, begin_of_value(text, name)))
    found = list(read_named(text, name, european))
    if len(row) == 1 or not found or found[0].meaning.written:
        return found
    return read_row(text, row, european)


def _with_neighbours(found: list[Found]) -> list[Found]:
    """Those that are sure, and those of short names that stand beside a sure one."""
    begins = [each.begin for each in found if each.is_sure]
    kept = []
    for each in found:
        at = bisect_left(begins, each.begin)
        near = [abs(other - each.begin) for other in begins[max(at - 1, 0) : at + 1]]
        if each.is_sure or min(near, default=NEAR + 1) <= NEAR:
            kept.append(each)
    return kept


def _parts_of_coma(text: str, found: list[Found]) -> list[Found]:
    """`E4V4M6` as a coma score, or as a check of the score that stands before it."""
    new = []
    begins = [each.begin for each in found]
    for match in _PARTS.finditer(text):
        parts = [Decimal(part) for part in match.groups() if part != "t"]
        total = sum(parts, Decimal(0))
        at = bisect_left(begins, match.start()) - 1
        before = found[at] if at >= 0 and match.start() - found[at].end <= 3 else None
        known = quantity("Glasgow Coma Scale")
        if before and before.meaning.attribute == known.name:
            if before.meaning.readings != (total,):
                problem = f"impossible: eye, verbal and motor add up to {total}"
                found[at] = replace(before, meaning=replace(before.meaning, problem=problem))
            continue
        value = Value((total,), None, "", match.start(), match.end())
        new.append(Found(mean(known, value, ""), match.start(), match.end()))
    return new


def _by_unit(text: str, european: bool, named: list[Found]) -> Iterator[Found]:
    """Numbers with a unit that stand after no name."""
    taken = sorted((each.begin, each.end) for each in named)
    begins = [begin for begin, _ in taken]
    end = 0
    for number in _NUMBER.finditer(text):
        begin = number.start()
        at = bisect_right(begins, number.end() - 1) - 1
        if begin < end or (at >= 0 and begin < taken[at][1]):
            continue
        for each in _unnamed(text, begin, european):
            yield each
            end = each.end


def _unnamed(text: str, begin: int, european: bool) -> Iterator[Found]:
    pair = PAIR.match(text, begin)
    if pair and kind_of(read_unit_at(text, pair.end())[0]) == ("pressure",):
        yield from read_pair(text, pair)
        return
    value = _grouped(text, begin) or read_value(text, begin, european)
    if not value:
        return
    unit, end = read_unit_at(text, value.end)
    value, unit, end = with_rest(text, value, unit, end)
    known = _told_by(text, value, unit, end)
    if known:
        meaning = mean(known, value, "L/min" if known.name == "oxygen flow" else unit)
        yield Found(meaning, value.begin, end, value.sign)
    elif unit and not _is_no_amount(text[value.end : end], unit):
        unit = f"cells{unit}" if unit.startswith("/") else unit
        yield Found(amount(value, unit), value.begin, end, value.sign)


def _grouped(text: str, begin: int) -> Value | None:
    """`1 200 mg`: 1200 mg, or 1 of 200 mg, unless a group begins with 0."""
    match = _GROUPS.match(text, begin)
    if not match or not read_unit_at(text, match.end())[0]:
        return None
    joined, last = Decimal(match[0].replace(" ", "")), match[0].rpartition(" ")[2]
    both = (joined,) if last.startswith("0") else (joined, Decimal(last))
    return Value(both, None, "", match.start(), match.end())


def _is_no_amount(written: str, unit: str) -> bool:
    first = kind_of(unit.removeprefix("/"))[0]
    if unit.startswith("/"):
        return first == "time"
    return written.strip(" -") in SOFT or (first in _NO_AMOUNTS and "/" not in unit)


def _told_by(text: str, value: Value, unit: str, end: int) -> Quantity | None:
    """The quantity that a unit tells by itself, or together with what stands around it."""
    name = _BY_UNIT.get(unit, "")
    if unit in _FEVER:
        low, high = _FEVER[unit]
        name = "body temperature" if low <= value.readings[0] <= high else ""
    elif unit == "%" and _OF_GAS.match(text, end) and value.readings[0] <= MOST_GIVEN:
        name = "fraction of inspired oxygen"
    elif unit == "%" and _ON_OXYGEN.match(text, end):
        name = "oxygen saturation"
    elif unit in {"L", "L/min"} and _is_flow(text, value.begin, end):
        name = "oxygen flow"
    elif unit in {"kg", "lb", "stone"} and _PERSON.match(text, end):
        name = "body weight"
    elif unit in {"cm", "m", "in", "ft"} and text.startswith(" tall", end):
        name = "body height"
    return quantity(name) if name else None


def _is_flow(text: str, begin: int, end: int) -> bool:
    before = _BEFORE_FLOW.search(text, max(0, begin - 8), begin)
    return bool(before or _OF_OXYGEN.match(text, end))
