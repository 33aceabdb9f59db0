"""Blood pressures in text: two numbers that belong together."""

import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from medllm.clinical.measurements.measurement import fitting_unit, mean
from medllm.clinical.measurements.numbers import Value
from medllm.clinical.measurements.reading import Found, pressure, read_unit_at

_SIDE = (
    r"(?P<{0}>\d{{1,3}}(?:\.\d+)?)(?P<{0}s>'?s)?(?: ?(?:-|to) ?(?P<{0}2>\d{{1,3}})(?P<{0}2s>'?s)?)?"
)
PAIR = re.compile(
    rf"-?(?P<sign><=|>=|<|>|~)? ?{_SIDE.format('high')} ?(?:/|\\|over) ?{_SIDE.format('low')}"
    r"(?![\d/]|[.,:]\d|-\d)"
)
_PALPATED = re.compile(
    r"(?P<high>\d{2,3}) ?(?:/ ?(?:p|palp|palpation|doppler)|by palpation|systolic)(?![a-z])"
)
_NEXT = re.compile(r" ?(?:,|;|and|to|then|->|-)(?: and| then| to)? ?(?=\d)")


def read_pressures(text: str, begin: int) -> Iterator[Found]:
    """The pressures at a place: one pair or several, or a systolic that was palpated."""
    if match := _PALPATED.match(text, begin):
        yield _side("systolic", match, "high", match.end(), "")
        return
    while match := PAIR.match(text, begin):
        yield from read_pair(text, match)
        _, end = read_unit_at(text, match.end())
        following = _NEXT.match(text, end)
        if not following:
            return
        begin = following.end()


def read_pair(text: str, match: re.Match[str]) -> Iterator[Found]:
    """Both numbers of a pair; the diastolic one is said to be impossible above the systolic."""
    written, end = read_unit_at(text, match.end())
    unit = fitting_unit(pressure("systolic"), written)
    high = _side("systolic", match, "high", _end(match, "high"), unit)
    low = _side("diastolic", match, "low", end if unit else match.end(), unit)
    first, second = high.meaning.readings[0], low.meaning.readings[0]
    if second > first and not high.meaning.problem and not low.meaning.problem:
        said = "impossible: the diastolic is above the systolic"
        high = replace(high, meaning=replace(high.meaning, problem=said))
        low = replace(low, meaning=replace(low.meaning, problem=said))
    yield high
    yield low


def _end(match: re.Match[str], side: str) -> int:
    return max(match.end(f"{side}{part}") for part in ("", "s", "2", "2s"))


def _side(role: str, match: re.Match[str], side: str, end: int, unit: str) -> Found:
    """One number of a pair, or its range; "150s" is from 150 to 159."""
    groups = match.groupdict()
    low, upper = Decimal(groups[side]), groups.get(f"{side}2")
    most = Decimal(upper) if upper else None
    decade = groups.get(f"{side}2s" if upper else f"{side}s")
    if decade:
        most = (low if most is None else most) + 9
    sign = (groups.get("sign") or "") if side == "high" else ""
    value = Value((low,), most, sign or "~" * bool(decade), match.start(side), end)
    known = pressure(role)
    return Found(mean(known, value, unit), match.start(side), end, value.sign)
