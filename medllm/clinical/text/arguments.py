"""The arguments of a call of a function, in words: so the rules read a dose in it as a dose.

A model may write `prescribe({"drug": "warfarin", "dose_mg": 50})` in place of a sentence. Each
object becomes a line, in which units are joined to their numbers.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNITS = {
    "mg", "mcg", "ug", "g", "kg", "ml", "l", "iu", "units", "unit", "mmol", "meq", "mmhg",
    "percent", "tablets", "tablet", "capsules", "puffs", "drops", "times", "doses", "minutes",
    "hours", "hour", "days", "day", "weeks", "week", "months", "years",
}  # fmt: skip
"""The words of a key that say what its number counts: `dose_mg`, `times_per_day`."""
DURATIONS = {"minutes", "hours", "hour", "days", "day", "weeks", "week", "months", "years"}
INTERVALS = {"interval", "every", "frequency"}
DOSE_KEYS = {"dose", "dosage", "value", "amount", "quantity", "strength"}
"""The words of a key whose number a unit without a label is of."""
PERIODS = {"s": "second", "min": "minute", "h": "hour", "d": "day", "wk": "week", "mo": "month"}
"""Units of time as FHIR writes them (UCUM), in `periodUnit`."""
_WORD = re.compile(r"[A-Z]?[a-z\d]+|[A-Z]+(?![a-z])|[^\W_]+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def told_call(name: str, arguments: str) -> str:
    """A call as text; arguments that are no JSON, as those that were cut, stand in it as they are.

    A number is written as the model wrote it. What is false, null or empty is left out.
    """
    try:
        value = json.loads(arguments, parse_int=str, parse_float=str)
        lines = [*_lines(value)]
    except (ValueError, RecursionError):
        lines = [arguments]
    called = " ".join(words_of_key(name))
    return "\n".join(f"- {called}: {line}." for line in lines or [""])


def words_of_key(key: str) -> list[str]:
    """The words of a key in lower case: `dose_mg`, `doseMg` and `Dose (mg)` have the same."""
    return [word.lower() for word in _WORD.findall(key)]


def _lines(value: Any) -> Iterator[str]:
    """A line for the outer object, and one for each of a list of several."""
    inner: list[Any] = []
    if told := _told([], value, inner):
        yield told
    for each in inner:
        yield from _lines(each)


def _told(label: list[str], value: Any, inner: list[Any]) -> str:
    """A value under its label, on one line; objects in lists are added to `inner`."""
    match value:
        case {"frequency": str() as count, "period": str() as period, "periodUnit": unit}:
            return every(count, period, PERIODS.get(str(unit), str(unit)))
        case dict():
            return ", ".join(filter(None, _entries(value, inner)))
        case [dict() as only]:
            return _told(label, only, inner)
        case list():
            inner += [each for each in value if isinstance(each, dict | list)]
            said = [_plain(each) for each in value if not isinstance(each, dict | list)]
            return _labelled(label, ", ".join(filter(None, said)))
        case str() if _NUMBER.fullmatch(value):
            return _counted(label, value)
    return _labelled(label, _plain(value), is_true=value is True)


def _entries(told: Mapping[str, Any], inner: list[Any]) -> Iterator[str]:
    """The entries of an object; a unit that has a key of its own follows its number."""
    units = {key: value for key, value in told.items() if _is_unit(key, value)}
    numbers = [key for key, value in told.items() if _NUMBER.fullmatch(str(value))]
    keys = [words_of_key(key) for key in numbers]
    places = {number_of(words_of_key(key)[:-1], keys): unit for key, unit in units.items()}
    of = {None if place is None else numbers[place]: unit for place, unit in places.items()}
    for key, value in told.items():
        if key not in units or None in of:
            unit = f" {of[key]}" if key in of else ""
            yield _told(words_of_key(key), value, inner) + unit


def _is_unit(key: str, value: Any) -> bool:
    return isinstance(value, str) and words_of_key(key)[-1:] in (["unit"], ["units"])


def number_of(label: Sequence[str], keys: Sequence[Sequence[str]]) -> int | None:
    """Which number, given their keys, a unit is of: one of its label, else a dose, else the first.

    None where there is no number.
    """
    for words in ({*label}, DOSE_KEYS):
        for place, key in enumerate(keys):
            if words & {*key}:
                return place
    return 0 if keys else None


def _counted(label: list[str], number: str) -> str:
    """A number with the unit that its label ends with."""
    at = next((n for n, word in enumerate(label) if word in UNITS), len(label))
    named, unit = label[:at], " ".join(label[at:]).replace("percent", "%")
    if {unit} & DURATIONS and INTERVALS & {*named}:
        return f"every {number} {unit}"
    return _labelled(named, f"{number} {unit}".strip())


def every(count: str, period: str, unit: str) -> str:
    """How often, of what FHIR's Timing has: `frequency`, `period` and `periodUnit`."""
    often = "" if count == "1" else f"{count} times "
    return f"{often}every {period} {unit}s" if period != "1" else f"{count} times per {unit}"


def _labelled(label: list[str], said: str, is_true: bool = False) -> str:
    if is_true:
        return " ".join(label)
    return ": ".join(filter(None, (" ".join(label), said))) if said else ""


def _plain(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
